# SPDX-License-Identifier: Apache-2.0
"""Class names for images from a server: TensorFlow Serving's REST or gRPC API, KServe's V1 protocol, or the Open
Inference Protocol (KServe v2) by REST or gRPC.

TensorFlow is needed by TensorFlow Serving's gRPC alone, and by models of pixels, whose images are prepared here.
"""

from __future__ import annotations

import struct
import zlib
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from inception_tf.data.skipped import OK
from inception_tf.errors import UserError
from inception_tf.inference.prediction import Prediction, read_image
from inception_tf.serving.client.address import Address, parse_address
from inception_tf.serving.client.errors import unexpected_reply

if TYPE_CHECKING:
    from inception_tf.serving.client.connection import Connection

__all__ = ["Client"]

TIMEOUT = 30.0  # seconds, as the server's own for REST
RETRIES = 3
BATCH_SIZE = 32  # images per request
PARALLEL = 4  # requests in flight at the same time
REQUEST_BYTES = 32 * 2**20
MESSAGE_BYTES = 4 * 2**20  # a gRPC server's default limit; TensorFlow Serving takes any
OVERHEAD = 1024  # bytes of a request besides its images


@dataclass(frozen=True)
class _Image:
    name: str
    data: bytes
    reason: str = ""  # why it is not sent


class Client:
    """A connection to one model of one server; several threads may use it.

    https and grpcs trust the usual authorities; REQUESTS_CA_BUNDLE and GRPC_DEFAULT_SSL_ROOTS_FILE_PATH name a file of
    others.  A failed request is retried after 429 and 503 (RESOURCE_EXHAUSTED and UNAVAILABLE) and where a connection
    was refused or dropped, each time after a longer pause, or when the server says, within 8 seconds.

    Args:
        address: http, https, grpc or grpcs `://host:port/v1/models/NAME[/versions/V|/labels/L]`, or
            `://host:port/v2/models/NAME[/versions/V]` for the Open Inference Protocol.
        model: The model's name where the address has no path.
        version: The version where the address has none; None for the newest.
        label: The version's label where the address has none.
        timeout: Seconds that a server may be silent in one try over REST, or take for all tries over gRPC.
        retries: Further tries of a request; gRPC makes at most 4.
        batch_size: Images per request, at most.
        request_bytes: Bytes per request, at most; None: 32 MiB, by v2's gRPC 4 MiB, which is that of most servers.
        parallel: Requests in flight at the same time, for each thread.
        export: The folder of the export that is served, for a model of v2 that takes pixels: its labels and its
            preprocessing are used here.

    Raises:
        UserError: The address or a setting is not valid, or a package is missing.

    Example:
        with Client("http://localhost:8501/v1/models/digits") as client:
            predictions = client.predict(["digit.png"])
    """

    def __init__(
        self,
        address: str,
        *,
        model: str | None = None,
        version: int | str | None = None,
        label: str | None = None,
        timeout: float = TIMEOUT,
        retries: int = RETRIES,
        batch_size: int = BATCH_SIZE,
        request_bytes: int | None = None,
        parallel: int = PARALLEL,
        export: str | Path | None = None,
    ) -> None:
        self.address: Address = parse_address(address, model, version, label)
        by_rpc, is_v2 = self.address.scheme.startswith("grpc"), self.address.api == "v2"
        if request_bytes is None:
            request_bytes = MESSAGE_BYTES if by_rpc and is_v2 else REQUEST_BYTES
        if export is not None and not is_v2:
            raise UserError(
                f"{self.address} takes encoded images, which it prepares itself; an export's folder is for"
                " models of pixels at addresses with /v2/models/"
            )
        if not timeout > 0:
            raise UserError(f"timeout must be above 0 seconds, got {timeout!r}")
        for name, value, least in (
            ("retries", retries, 0),
            ("batch_size", batch_size, 1),
            ("request_bytes", request_bytes, 2 * OVERHEAD),
            ("parallel", parallel, 1),
        ):
            if value < least:
                raise UserError(f"{name} must be at least {least}, got {value!r}")
        self._batch_size, self._parallel = batch_size, parallel
        self._request_bytes = request_bytes
        self._server = _connect(self.address, timeout, retries, request_bytes, export)

    def predict(
        self, images: Iterable[str | Path | bytes | np.ndarray], top: int = 5
    ) -> list[Prediction]:
        """Classifies images.

        Args:
            images: Paths, encoded images, or (H, W, 3) uint8 arrays.
            top: How many of the best classes a prediction has.

        Returns:
            A prediction for each image, in order, named by its path or by its index in `images`; an image that cannot be
            read has a status and no classes.

        Raises:
            UserError: The server cannot be reached, does not reply in time, reports an error, or has another kind of model.
        """
        if isinstance(images, str | bytes | Path):
            raise UserError("predict takes a list of images; for one image give a list of one")
        if top < 1:
            raise UserError(f"top must be at least 1, got {top}")
        predictions: list[Prediction] = []
        waiting: deque[Future[list[Prediction]]] = deque()
        with ThreadPoolExecutor(self._parallel) as pool:
            try:
                for batch in self._batches(images):
                    if len(waiting) == self._parallel:
                        predictions += waiting.popleft().result()
                    waiting.append(pool.submit(self._predict_batch, batch, top))
                while waiting:
                    predictions += waiting.popleft().result()
            finally:
                for future in waiting:
                    future.cancel()
        return predictions

    def status(self) -> dict[int | str | None, str]:
        """Returns {version: state}, `AVAILABLE` where it takes requests; KServe has no versions, its key is None."""
        return self._server.status()

    def close(self) -> None:
        """Closes the connections."""
        self._server.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _batches(self, images: Iterable[str | Path | bytes | np.ndarray]) -> Iterator[list[_Image]]:
        """Batches of images in order, within both limits of a request; a single image that is too large is rejected."""
        batch: list[_Image] = []
        room = self._request_bytes - OVERHEAD
        for index, given in enumerate(images):
            image = _read(given, index)
            size = self._server.size(image.data)
            if size > self._request_bytes - OVERHEAD:
                reason = (
                    f"{size} bytes as sent, at most {self._request_bytes - OVERHEAD} fit a request"
                )
                image, size = _Image(image.name, b"", reason), 0
            if len(batch) == self._batch_size or size > room:
                yield batch
                batch, room = [], self._request_bytes - OVERHEAD
            batch.append(image)
            room -= size
        if batch:
            yield batch

    def _predict_batch(self, batch: list[_Image], top: int) -> list[Prediction]:
        sent = [image.data for image in batch if not image.reason]
        rows = self._server.predict(sent) if sent else []
        if len(rows) != len(sent):
            raise unexpected_reply(self.address, f"{len(rows)} predictions for {len(sent)} images")
        results = iter(rows)
        return [
            Prediction(image.name, image.reason, ())
            if image.reason
            else self._prediction(image.name, next(results), top)
            for image in batch
        ]

    def _prediction(self, name: str, row: dict[str, Any], top: int) -> Prediction:
        try:
            status, labels, classes = row["status"], row["top_classes"], len(row["probabilities"])
            # JSON has a number's shortest form; as float32 it is the network's output again.
            scores = [float(np.float32(score)) for score in row["top_scores"]]
            best = tuple(zip(labels, scores, strict=True))
            if not all(isinstance(text, str) for text in (status, *labels)):
                raise TypeError("a status or a class that is no text")
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            what = f"no {error}" if isinstance(error, KeyError) else str(error)
            raise unexpected_reply(self.address, what) from error
        if status != OK:
            return Prediction(name, status, ())
        if len(best) < min(top, classes):
            raise UserError(
                f"{self.address} returns the {len(best)} best of {classes} classes, not {top};"
                f" request top {len(best)}"
            )
        return Prediction(name, OK, best[:top])


def _connect(
    address: Address,
    timeout: float,
    retries: int,
    request_bytes: int,
    export: str | Path | None,
) -> Connection:
    """Imports what the address's protocol needs, and nothing else."""
    by_rpc = address.scheme.startswith("grpc")
    if address.api == "v2":
        from inception_tf.serving.client.v2 import V2Connection, V2Transport

        transport: V2Transport
        if by_rpc:
            from inception_tf.serving.client.v2_rpc import V2Rpc

            transport = V2Rpc(address, timeout, retries, request_bytes)
        else:
            from inception_tf.serving.client.v2_rest import V2Rest

            transport = V2Rest(address, timeout, retries)
        return V2Connection(transport, address, export)
    if by_rpc:
        from inception_tf.serving.client.rpc import GrpcConnection

        return GrpcConnection(address, timeout, retries, request_bytes)
    from inception_tf.serving.client.rest import RestConnection

    return RestConnection(address, timeout, retries)


def _read(image: str | Path | bytes | np.ndarray, index: int) -> _Image:
    if isinstance(image, bytes):
        return _Image(str(index), image)
    if isinstance(image, str | Path):
        return _Image(str(image), *read_image(image))
    return _Image(str(index), _png(np.asarray(image), index))


def _png(pixels: np.ndarray, index: int) -> bytes:
    """(H, W, 3) uint8 → a PNG, lightly compressed.

    So one signature serves all images, and one request any sizes.  Written here because prediction needs no
    Pillow for anything else.
    """
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        raise UserError(
            f"image {index} is {pixels.dtype} {pixels.shape}; give uint8 (H, W, 3), bytes or a path"
        )
    height, width, _ = pixels.shape
    # Each row begins with the number of its filter, 0 for none.
    lines = np.pad(pixels.reshape(height, width * 3), ((0, 0), (1, 0))).tobytes()
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(lines, 1)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )
