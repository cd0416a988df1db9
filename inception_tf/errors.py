# SPDX-License-Identifier: Apache-2.0
"""Errors that a user can mend: one sentence with the value, what is allowed and the next step."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["UserError", "did_you_mean", "missing_package", "unknown"]


class UserError(ValueError):
    """A mistake of the user's; the command line prints its text as one line and exits with 2."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of an error sentence: `; did you mean 'inception_v4'?`, or nothing when no name is near."""
    known = list(known)
    # One list may spell names in capitals, another in small letters: a user's shift key is no mistake.
    folded = {k.lower(): k for k in known}
    near = difflib.get_close_matches(name.lower(), list(folded), n=1, cutoff=0.5)
    return f"; did you mean '{folded[near[0]]}'?" if near else ""


def unknown(kind: str, name: str, known: Iterable[str]) -> UserError:
    """`unknown network 'inception_v5'; known: googlenet, ...; did you mean 'inception_v4'?`"""
    known = list(known)
    return UserError(
        f"unknown {kind} '{name}'; known: {', '.join(known)}{did_you_mean(name, known)}"
    )


def missing_package(what: str, package: str, extra: str) -> UserError:
    """`data 'digits' needs scikit-learn: pip install 'inception_tf[train]'`"""
    return UserError(f"{what} needs {package}: pip install 'inception_tf[{extra}]'")
