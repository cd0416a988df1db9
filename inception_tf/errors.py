# SPDX-License-Identifier: Apache-2.0
"""Errors that a user can fix: one sentence with the value, what is allowed and the next step."""

from __future__ import annotations

import difflib
import errno
import os
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

__all__ = [
    "INTERRUPTED",
    "OUR_FAILURE",
    "USER_MISTAKE",
    "UserError",
    "did_you_mean",
    "explain_error",
    "is_without_tensorflow",
    "missing_backend",
    "missing_package",
    "missing_tensorflow",
    "needs_backend",
    "printable",
    "unknown",
]

TENSORFLOW = "tensorflow>=2.20,<2.21"  # as setup.cfg requires it
PROTOBUF = ("google", "google.protobuf")  # comes with TensorFlow alone
# Exit codes of the command line.
OUR_FAILURE, USER_MISTAKE, INTERRUPTED = 1, 2, 130
BACKENDS = {"tensorflow": TENSORFLOW, "jax": "jax", "torch": "torch"}  # what pip installs for each


class UserError(ValueError):
    """A mistake that the user can fix; the command line prints its text as one line and exits with 2.

    Example:

        raise UserError("the number of steps must be at least 1, got 0")
    """


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Suggests the known name that is closest to a misspelled one, ignoring case.

    Args:
        name: what the user typed.
        known: the valid names.

    Returns:
        The end of an error sentence, `; did you mean 'inception_v4'?`, or "" where no name is close.
    """
    known = list(known)
    # One list may spell names in capitals, another in small letters: a user's shift key is no mistake.
    folded = {k.lower(): k for k in known}
    near = difflib.get_close_matches(name.lower(), list(folded), n=1, cutoff=0.5)
    return f"; did you mean '{folded[near[0]]}'?" if near else ""


def printable(name: str) -> str:
    """Spells a file's or a class's name so that it can be printed and stays on one line.

    Args:
        name: a name, as Python gives those of files: bytes that are not UTF-8 are lone surrogates.

    Returns:
        The name with control characters, line breaks and such bytes as escapes, `caf\\xe9.jpg`.
    """
    if name.isprintable():
        return name

    def spelled(character: str) -> str:
        if 0xDC80 <= ord(character) <= 0xDCFF:  # a byte, in Python's own notation
            return f"\\x{ord(character) - 0xDC00:02x}"
        return character if character.isprintable() else repr(character)[1:-1]

    return "".join(map(spelled, name))


def unknown(kind: str, name: str, known: Iterable[str]) -> UserError:
    """Builds the error for a name that is not in a list.

    Args:
        kind: what the name is of, such as `network`.
        name: what the user typed.
        known: the valid names, all of which the sentence lists.

    Returns:
        `unknown network 'inception_v5'; known: googlenet, ...; did you mean 'inception_v4'?`
    """
    known = list(known)
    return UserError(
        f"unknown {kind} '{name}'; known: {', '.join(known)}{did_you_mean(name, known)}"
    )


def missing_package(what: str, package: str, extra: str) -> UserError:
    """Builds the error for an optional package that is not installed.

    Args:
        what: the feature that needs it, such as `data 'digits'`.
        package: its name on PyPI.
        extra: the extra of this package that installs it.

    Returns:
        `data 'digits' needs scikit-learn: pip install 'inception_tf[train]'`
    """
    return UserError(f"{what} needs {package}: pip install 'inception_tf[{extra}]'")


def missing_tensorflow(what: str, otherwise: str = "") -> UserError:
    """Builds the error for a feature that needs TensorFlow where it is not installed.

    Args:
        what: the feature, such as the name of a command.
        otherwise: an alternative, appended to the sentence as it is.

    Returns:
        `train needs TensorFlow, which is not installed: pip install 'tensorflow>=2.20,<2.21'`
    """
    return UserError(
        f"{what} needs TensorFlow, which is not installed: pip install '{TENSORFLOW}'{otherwise}"
    )


def is_without_tensorflow(error: BaseException | None) -> bool:
    """Whether an error comes from importing TensorFlow, or the protobuf it brings, where it is not installed.

    A TensorFlow that is installed and fails to import does not count.

    Args:
        error: any exception; its causes and contexts are searched too.

    Returns:
        True where one of them is the failed import.
    """
    while error is not None:
        if isinstance(error, ModuleNotFoundError) and error.name in ("tensorflow", *PROTOBUF):
            return True
        # Keras' own import of it, where a layer needs it, raises an ImportError amid this one.
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return False


def missing_backend(error: BaseException) -> UserError | None:
    """Builds the error for an import of Keras that failed because its backend is not installed.

    Keras' backend is TensorFlow unless KERAS_BACKEND or Keras' configuration file names another.

    Args:
        error: any exception.

    Returns:
        The error to raise in its place, or None where the exception has another reason.
    """
    if not isinstance(error, ModuleNotFoundError) or error.name not in BACKENDS:
        return None
    modules = (
        frame.f_globals.get("__name__", "") for frame, _ in traceback.walk_tb(error.__traceback__)
    )
    if not any(name.startswith("keras.src.backend") for name in modules):
        return None
    others = " or ".join(name for name in BACKENDS if name != error.name)
    return UserError(
        f"Keras' backend needs {error.name}, which is not installed: set the environment variable"
        f" KERAS_BACKEND to {others} where one of these is, or pip install '{BACKENDS[error.name]}'"
    )


@contextmanager
def needs_backend() -> Iterator[None]:
    """Wraps an import of Keras: a backend that is not installed becomes a `UserError`.

    Raises:
        UserError: the backend that Keras is configured for is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        sentence = missing_backend(error)
        if sentence is None:
            raise
        raise sentence from error


def explain_error(
    error: BaseException, what: str, *, needs_tensorflow: bool = True
) -> tuple[int, str]:
    """Turns an error that ends a program into its exit code and one sentence for stderr.

    Args:
        error: What was raised.
        what: The command that needed TensorFlow, for the sentence where it is not installed.
        needs_tensorflow: The command works with no other backend.

    Returns:
        `USER_MISTAKE`, `INTERRUPTED` or `OUR_FAILURE`, and the sentence.
    """
    if isinstance(error, UserError):
        return USER_MISTAKE, str(error)
    has_no_tensorflow = is_without_tensorflow(error)
    # Another backend does not help a command that needs TensorFlow itself.
    if not (needs_tensorflow and has_no_tensorflow):
        backend = missing_backend(error)
        if backend:
            return USER_MISTAKE, str(backend)
    if has_no_tensorflow:
        return USER_MISTAKE, str(missing_tensorflow(what))
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED, str(error) or "stopped"
    first = (str(error).splitlines() or [""])[0]
    # Python, HDF5 and TensorFlow each raise a different exception for a full disk.
    if os.strerror(errno.ENOSPC) in str(error):
        return USER_MISTAKE, (
            "the disk is full; free some space and run the command again, a training with --resume:"
            " what was saved before is intact"
        )
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return USER_MISTAKE, f"{where}{error.strerror or first}"
    return OUR_FAILURE, f"internal error: {type(error).__name__}: {first}; --debug shows where"
