# SPDX-License-Identifier: Apache-2.0
"""Predictions over the Open Inference Protocol (KServe v2), of models that take encoded images or prepared pixels."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from inception_tf.data.skipped import OK
from inception_tf.errors import UserError
from inception_tf.serving.client.address import Address
from inception_tf.serving.client.errors import unexpected_reply
from inception_tf.serving.client.v2_tensors import BYTES, FP32, ModelMetadata, TensorMetadata

if TYPE_CHECKING:
    from inception_tf.export.runtime_folder import Description

__all__ = ["V2Connection", "V2Transport"]

IMAGE_BYTES, IMAGES = "image_bytes", "images"
PROBABILITIES, STATUS = "probabilities", "status"
# What parsing a reply of another kind ends in.
FOREIGN = (AttributeError, KeyError, IndexError, TypeError, ValueError, OverflowError, MemoryError)


class V2Transport(Protocol):
    """What a connection needs of REST or gRPC; several threads may use it."""

    def size(self, values: int, data: bytes | None) -> int:
        """Computes the bytes that an image takes in a request.

        Args:
            values: Its number of float32 values.
            data: The encoded image, where it is sent as it is.

        Returns:
            Bytes, at most.
        """

    def metadata(self) -> ModelMetadata:
        """Asks for the model's versions, inputs and outputs."""

    def is_ready(self, version: str | None) -> bool:
        """Asks whether a version takes requests.

        Args:
            version: None for the address's, or the server's choice.

        Returns:
            Whether the server says so.
        """

    def infer(self, name: str, array: np.ndarray) -> dict[str, np.ndarray]:
        """Runs a request.

        Args:
            name: The input's.
            array: float32, or objects of `bytes`.

        Returns:
            Outputs by name: numbers, or objects of `str`.
        """

    def close(self) -> None:
        """Closes the connection."""


class V2Connection:
    """One model of a server; several threads may use it at the same time.

    A model of encoded images, with an input of BYTES, has the outputs of `serving_default`.  One of pixels has an input
    (N, S, S, 3) FP32 and an output (N, K): images are decoded and prepared here, as the export's description says, and
    probabilities get its labels.

    Args:
        transport: REST or gRPC.
        address: The served model.
        export: The folder of the export that is served, for a model of pixels.
    """

    def __init__(self, transport: V2Transport, address: Address, export: str | Path | None) -> None:
        self._transport, self._address, self._export = transport, address, export
        self._lock = threading.Lock()
        self._model: _Served | None = None

    def size(self, data: bytes) -> int:
        """Computes the bytes that an image takes in a request; see `Connection.size`."""
        description = self._served().description
        if description is None:
            return self._transport.size(0, data)
        return self._transport.size(description.preprocessing.size**2 * 3, None)

    def predict(self, images: Sequence[bytes]) -> list[dict[str, Any]]:
        """Classifies images in one request; see `Connection.predict`."""
        served = self._served()
        data = np.empty(len(images), object)
        data[:] = images
        if served.description is None:
            outputs = self._infer(served.input, data)
            with self._foreign():
                columns = {name: array.tolist() for name, array in outputs.items()}
                if outputs[STATUS].ndim == 2:  # MLServer writes N texts as (N, 1)
                    columns[STATUS] = outputs[STATUS].reshape(len(images)).tolist()
                rows = zip(*columns.values(), strict=True)
                return [dict(zip(columns, row, strict=True)) for row in rows]
        pixels, statuses = served.description.prepare(data)
        good = np.flatnonzero(statuses == OK.encode())
        found = iter(self._probabilities(served, pixels[good]) if len(good) else ())
        labels = served.description.labels
        return [
            _row(next(found), labels)
            if status == OK.encode()
            else {STATUS: status.decode(), "top_classes": (), "top_scores": (), PROBABILITIES: ()}
            for status in statuses
        ]

    def status(self) -> dict[int | str | None, str]:
        """Returns {version: state}, `AVAILABLE` where it takes requests; a server without versions has the key None."""
        with self._foreign():
            listed = self._transport.metadata().versions
        named = self._address.version
        if named is not None or not listed:
            return {named: _state(self._transport.is_ready(None))}
        return {
            int(version) if version.isdecimal() else version: _state(
                self._transport.is_ready(version)
            )
            for version in listed
        }

    def close(self) -> None:
        self._transport.close()

    def _infer(self, name: str, array: np.ndarray) -> dict[str, np.ndarray]:
        with self._foreign():
            return self._transport.infer(name, array)

    def _probabilities(self, served: _Served, pixels: np.ndarray) -> np.ndarray:
        outputs = self._infer(served.input, pixels)
        found = outputs.get(served.output or PROBABILITIES)
        if found is None and len(outputs) == 1:
            [found] = outputs.values()
        wanted = (len(pixels), len(served.description.labels) if served.description else 0)
        if found is None or found.shape != wanted or found.dtype == object:
            shapes = {name: array.shape for name, array in outputs.items()}
            raise unexpected_reply(self._address, f"outputs {shapes}, not {PROBABILITIES} {wanted}")
        return found

    def _served(self) -> _Served:
        """Asks once what the model takes."""
        with self._lock:
            if self._model is None:
                with self._foreign():
                    metadata = self._transport.metadata()
                self._model = self._match(metadata)
        return self._model

    def _match(self, metadata: ModelMetadata) -> _Served:
        """Compares what the server says with what the export says; a server may say nothing."""
        encoded = [one.name for one in metadata.inputs if one.datatype == BYTES]
        if len(metadata.inputs) > 1 or (
            metadata.inputs and metadata.inputs[0].datatype not in (BYTES, FP32)
        ):
            raise unexpected_reply(self._address, f"inputs {_shown(metadata.inputs)}")
        if encoded or (not metadata.inputs and self._export is None):
            return _Served((encoded or [IMAGE_BYTES])[0], None, None)
        if self._export is None:
            raise UserError(
                f"{self._address} takes pixels, {_shown(metadata.inputs)}, and not encoded images; name the folder of"
                " the export that it serves, which has labels and preprocessing: --export FOLDER, in Python"
                " Client(..., export=FOLDER)"
            )
        from inception_tf.export.runtime_folder import open_description

        description = open_description(Path(self._export))
        size = description.preprocessing.size
        if metadata.inputs and not _fits(metadata.inputs[0].shape, (size, size, 3)):
            raise UserError(
                f"{self._address} takes {_shown(metadata.inputs)}, and {self._export} prepares images of"
                f" {size}x{size}x3; name the export that it serves"
            )
        outputs = [one for one in metadata.outputs if one.datatype == FP32]
        named = [one for one in outputs if one.name == PROBABILITIES] or outputs
        if named and not _fits(named[0].shape, (len(description.labels),)):
            raise UserError(
                f"{self._address} gives {_shown(named[:1])}, and {self._export} has {len(description.labels)} labels;"
                " name the export that it serves"
            )
        return _Served(
            metadata.inputs[0].name if metadata.inputs else IMAGES,
            named[0].name if named else None,
            description,
        )

    @contextmanager
    def _foreign(self) -> Iterator[None]:
        try:
            yield
        except UserError:
            raise
        except FOREIGN as error:
            what = f"no {error}" if isinstance(error, KeyError) else str(error)
            raise unexpected_reply(self._address, what or type(error).__name__) from error


@dataclass(frozen=True)
class _Served:
    """What a model takes and gives."""

    input: str
    output: str | None  # of probabilities, where the server names it
    description: Description | None  # None where it takes encoded images


def _state(ready: bool) -> str:
    return "AVAILABLE" if ready else "NOT_READY"


def _fits(shape: Sequence[int], wanted: tuple[int, ...]) -> bool:
    """Whether a stated shape, with or without the batch, is the wanted one; -1 and 0 are any size."""
    last = shape[-len(wanted) :]
    return len(shape) - len(wanted) in (0, 1) and all(
        size in (-1, 0, want) for size, want in zip(last, wanted, strict=True)
    )


def _shown(tensors: Sequence[TensorMetadata]) -> str:
    return ", ".join(f"{one.name} {one.datatype} {list(one.shape)}" for one in tensors)


def _row(probabilities: np.ndarray, labels: Sequence[str]) -> dict[str, Any]:
    order = np.argsort(-probabilities, kind="stable")
    return {
        STATUS: OK,
        "top_classes": [labels[i] for i in order],
        "top_scores": probabilities[order].tolist(),
        PROBABILITIES: probabilities,
    }
