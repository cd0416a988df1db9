# SPDX-License-Identifier: Apache-2.0
"""What is to be timed: one network in one form on one machine."""

from __future__ import annotations

from dataclasses import dataclass

from inception_tf.errors import UserError, unknown
from inception_tf.models import find_network

__all__ = ["BACKENDS", "COMPILES", "INPUTS", "KINDS", "PRECISIONS", "Case"]

KINDS = {
    "forward": "Forward",
    "forward-backward": "Forward-backward",
    "train-step": "Train-step",
}
BACKENDS = ("tensorflow", "openvino", "keras")
PRECISIONS = ("auto", "float32", "bfloat16", "float16", "int8")
COMPILES = ("graph", "xla", "none")
INPUTS = ("constant", "redrawn")


@dataclass(frozen=True)
class Case:
    """One line of a benchmark; `checked` raises `UserError` for what cannot be timed."""

    model: str
    kind: str = "forward"
    backend: str = "tensorflow"
    precision: str = "auto"
    batch_size: int = 32  # images a step
    size: int | None = None  # pixels, height and width; None: the network's own
    threads: int | None = None  # None: all cores that the process may use
    steps: int = 100  # that are counted
    # graph, xla, or none: operation by operation.  None: graph, but operation by operation on torch
    compile: str | None = None
    # or redrawn: new random images inside each timed step, as in the documents
    input: str = "constant"
    recipe: str = "default"  # of a train-step: its optimizer and losses; a name or a YAML file

    def checked(self) -> Case:
        """The same with its size filled in."""
        for name, value, known in (
            ("benchmark", self.kind, KINDS),
            ("backend", self.backend, BACKENDS),
            ("precision", self.precision, PRECISIONS),
            ("compile", "graph" if self.compile is None else self.compile, COMPILES),
            ("input", self.input, INPUTS),
        ):
            if value not in known:
                raise unknown(name, value, known)
        for name, value in (
            ("batch size", self.batch_size),
            ("number of steps", self.steps),
            ("number of threads", 1 if self.threads is None else self.threads),
        ):
            if value < 1:
                raise UserError(f"the {name} must be at least 1, got {value}")
        if self.backend == "openvino" and self.compile not in (None, "graph"):
            raise UserError(f"OpenVINO compiles in its own way; leave out compile {self.compile}")
        if self.backend == "openvino" and self.kind != "forward":
            raise UserError(f"OpenVINO only predicts; time {self.kind} with backend tensorflow")
        if self.precision == "int8" and self.backend != "openvino":
            raise UserError("int8 is timed with --backend openvino")
        if self.kind == "train-step" and self.input == "redrawn":
            raise UserError("a train-step takes its batch from memory; leave out input redrawn")
        size = find_network(self.model).size if self.size is None else self.size
        return Case(**{**vars(self), "size": size})
