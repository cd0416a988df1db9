# SPDX-License-Identifier: Apache-2.0
"""A SavedModel in memory, called by several threads, with or without batching over their requests."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from inception_tf.export import warmup
from inception_tf.savedmodel.python_loader import load_saved_model
from inception_tf.savedmodel.versions import newest_version
from inception_tf.serving.local_server import Batching
from inception_tf.serving.local_server.cancellation import Cancellation, cancelable

__all__ = ["DEFAULT_SIGNATURE", "LocalModel", "ServedError"]

DEFAULT_SIGNATURE = "serving_default"
FUNCTION = re.compile(r"\{\{function_node \S+\}\} ")  # before a message


class ServedError(Exception):
    """A rejected request.

    Args:
        code: A name among TensorFlow's and gRPC's status codes.
        message: The reason.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class LocalModel:
    """A SavedModel in memory; its warm-up requests, where it has any, have run.

    Args:
        folder: A version folder, or the folder above it, of which the newest version is taken.
        name: The name of the served model.
        batching: None for no batching over requests.
    """

    def __init__(self, folder: str | Path, name: str, batching: Batching | None) -> None:
        self.name = name
        self.folder = newest_version(folder)
        self.version = int(self.folder.name) if self.folder.name.isdecimal() else 1
        self._loaded = load_saved_model(self.folder)
        self.inputs = {
            signature: function.structured_input_signature[1]
            for signature, function in self._loaded.signatures.items()
        }
        self._functions = {
            signature: _of_tensors(signature, function, batching)
            for signature, function in self._loaded.signatures.items()
        }
        if (self.folder / warmup.WARMUP_FILE).is_file():
            for call in warmup.read_warmup(self.folder):
                self.run(call.signature, call.inputs)

    def specs(self, signature: str) -> dict[str, tf.TensorSpec]:
        """Looks up the inputs of a signature.

        Args:
            signature: Its name.

        Returns:
            Input names to dtypes and shapes.

        Raises:
            ServedError: There is no signature of that name.
        """
        if signature not in self.inputs:
            raise ServedError(
                "FAILED_PRECONDITION", f'Serving signature key "{signature}" not found.'
            )
        return self.inputs[signature]

    def run(
        self,
        signature: str,
        inputs: dict[str, np.ndarray],
        cancellation: Cancellation | None = None,
    ) -> dict[str, np.ndarray]:
        """Runs one request.

        Args:
            signature: The name of a signature.
            inputs: Its inputs by name; strings are object arrays of bytes.
            cancellation: Ends it early; with batching only until it starts, because the batch is other clients' too.

        Returns:
            Its outputs by name.

        Raises:
            ServedError: The inputs do not fit, an operation fails, or the request was cancelled.
        """
        cancellation = cancellation or Cancellation()
        specs = self.specs(signature)
        if set(inputs) != set(specs):
            raise ServedError(
                "INVALID_ARGUMENT",
                f"inputs are {{{', '.join(sorted(specs))}}}, got {{{', '.join(sorted(inputs))}}}",
            )
        try:
            tensors = {
                name: tf.constant(value, specs[name].dtype) for name, value in inputs.items()
            }
            for name, tensor in tensors.items():
                if not specs[name].shape.is_compatible_with(tensor.shape):
                    raise ServedError(
                        "INVALID_ARGUMENT",
                        f"{name} has shape {tensor.shape}, not {specs[name].shape}",
                    )
            if cancellation.cancelled:
                raise ServedError("CANCELLED", "the client has given up")
            outputs = self._functions[signature](tensors, cancellation)
        except tf.errors.OpError as error:
            raise ServedError(_code(error), _message(error)) from error
        except (TypeError, ValueError) as error:
            raise ServedError("INVALID_ARGUMENT", str(error)) from error
        return {name: tensor.numpy() for name, tensor in outputs.items()}


def _of_tensors(
    signature: str, function: Any, batching: Batching | None
) -> Callable[[dict[str, tf.Tensor], Cancellation], dict[str, tf.Tensor]]:
    """A signature as a function of its inputs by name, with or without batching over its calls."""
    specs = function.structured_input_signature[1]
    names, outputs = sorted(specs), sorted(function.structured_outputs)

    def listed(*inputs: tf.Tensor) -> list[tf.Tensor]:
        found = function(**dict(zip(names, inputs, strict=True)))
        return [found[name] for name in outputs]

    run = listed if batching is None else _batched(signature, listed, batching)
    call = cancelable(run, [specs[name] for name in names])

    def by_name(inputs: dict[str, tf.Tensor], cancellation: Cancellation) -> dict[str, tf.Tensor]:
        # TensorFlow computes a batch under the cancellation of its last request alone.
        used = cancellation if batching is None else Cancellation()
        return dict(zip(outputs, call([inputs[name] for name in names], used), strict=True))

    return by_name


def _batched(
    signature: str, function: Callable[..., list[tf.Tensor]], batching: Batching
) -> Callable[..., list[tf.Tensor]]:
    joined = tf.nondifferentiable_batch_function(
        num_batch_threads=batching.num_batch_threads,
        max_batch_size=batching.max_batch_size,
        batch_timeout_micros=batching.batch_timeout_micros,
        max_enqueued_batches=batching.max_enqueued_batches,
        enable_large_batch_splitting=False,  # TensorFlow Serving's default
        autograph=False,
    )(function)

    def traced(*inputs: tf.Tensor) -> list[tf.Tensor]:
        # The name of the queue: without it all signatures would share one.
        with tf.name_scope(signature):
            return joined(*inputs)

    return traced


def _code(error: tf.errors.OpError) -> str:
    names = {value: name for name, value in vars(tf.errors).items() if isinstance(value, int)}
    return names.get(error.error_code, "UNKNOWN")


def _message(error: tf.errors.OpError) -> str:
    """The operation's message, without its place in the graph."""
    message = error.message.partition("\n\t [[")[0].rstrip().rpartition("\n")[2]
    return FUNCTION.sub("", message)
