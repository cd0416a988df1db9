# SPDX-License-Identifier: Apache-2.0
"""What to time: one network in one form on one machine."""

from __future__ import annotations

from dataclasses import dataclass

from inception_tf.errors import UserError, unknown
from inception_tf.models import find_network

__all__ = ["BACKENDS", "COMPILES", "Case", "INPUTS", "KINDS", "PRECISIONS"]

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
    """One line of a benchmark; `checked` validates it.

    Example:

        case = Case("inception_v3", batch_size=8).checked()
    """

    model: str
    kind: str = "forward"
    backend: str = "tensorflow"
    precision: str = "auto"
    batch_size: int = 32  # images per step
    size: int | None = None  # pixels, height and width; None: the published size
    threads: int | None = None  # None: all cores that the process may use
    steps: int = 100  # timed steps, after the burn-in
    # graph, xla, or none (eager).  None: graph, but eager on torch
    compile: str | None = None
    # constant, or redrawn: new random images inside each timed step, as in the documents
    input: str = "constant"
    recipe: str = "default"  # of a train-step: its optimizer and losses; a name or a YAML file

    @property
    def pixels(self) -> int:
        """Height and width of a checked case."""
        if self.size is None:
            raise ValueError("the case is not checked")
        return self.size

    @property
    def compilation(self) -> str:
        """graph, xla or none; of a resolved case."""
        if self.compile is None:
            raise ValueError("the case is not resolved")
        return self.compile

    def checked(self) -> Case:
        """Validates the case and fills in its size.

        Returns:
            The same case with the published input size where none was given.

        Raises:
            UserError: an unknown name, a number below 1, or a combination that cannot be timed.
        """
        for name, value, known in (
            ("benchmark", self.kind, KINDS),
            ("backend", self.backend, BACKENDS),
            ("precision", self.precision, PRECISIONS),
            ("compile", "graph" if self.compile is None else self.compile, COMPILES),
            ("input", self.input, INPUTS),
        ):
            if value not in known:
                raise unknown(name, value, known)
        for name, number in (
            ("batch size", self.batch_size),
            ("number of steps", self.steps),
            ("number of threads", 1 if self.threads is None else self.threads),
        ):
            if number < 1:
                raise UserError(f"the {name} must be at least 1, got {number}")
        if self.backend == "openvino" and self.compile not in (None, "graph"):
            raise UserError(f"OpenVINO compiles in its own way; remove --compile {self.compile}")
        if self.backend == "openvino" and self.kind != "forward":
            raise UserError(
                f"OpenVINO only runs the forward pass; time {self.kind} with --backend tensorflow"
            )
        if self.precision == "int8" and self.backend != "openvino":
            raise UserError("int8 needs --backend openvino")
        if self.kind == "train-step" and self.input == "redrawn":
            raise UserError("a train-step reads its batch from memory; remove --input redrawn")
        size = find_network(self.model).size if self.size is None else self.size
        return Case(**{**vars(self), "size": size})
