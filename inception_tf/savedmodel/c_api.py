# SPDX-License-Identifier: Apache-2.0
"""TensorFlow's C API through ctypes: the C++ SavedModel loader and session that TensorFlow Serving uses.

TensorFlow's Python is not imported; the two libraries are files of its wheel.
"""

from __future__ import annotations

import ctypes
import importlib.util
import math
import os
import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from ctypes import POINTER, c_char_p, c_int, c_int64, c_size_t, c_void_p
from pathlib import Path

import numpy as np

from inception_tf.savedmodel.signature_def import SERVE_TAG

__all__ = ["LoaderError", "NoLoaderError", "Session", "find_libraries"]

LIBRARIES = ("libtensorflow_framework.so.2", "libtensorflow_cc.so.2")
STRING_SLOT = 24  # bytes, sizeof(TF_TString)

# tensorflow/c/tf_datatype.h
TF_STRING = 7
DTYPES = {1: np.float32, 2: np.float64, 3: np.int32, 4: np.uint8, 9: np.int64, 10: np.bool_}
CODES = {np.dtype(dtype): code for code, dtype in DTYPES.items()}


class LoaderError(RuntimeError):
    """The C++ code did not load or run a SavedModel; the message is TensorFlow's."""


class NoLoaderError(LoaderError):
    """The installed TensorFlow has no C++ library to call."""


class _Output(ctypes.Structure):
    _fields_ = [("operation", c_void_p), ("index", c_int)]


_P, _S = c_void_p, c_size_t
# fmt: off
_PROTOTYPES = {  # name: (result, arguments), from tensorflow/c/c_api.h, tf_tensor.h, tf_tstring.h
    "TF_NewStatus":            (_P, ()),
    "TF_DeleteStatus":         (None, (_P,)),
    "TF_GetCode":              (c_int, (_P,)),
    "TF_Message":              (c_char_p, (_P,)),
    "TF_NewGraph":             (_P, ()),
    "TF_DeleteGraph":          (None, (_P,)),
    "TF_NewSessionOptions":    (_P, ()),
    "TF_DeleteSessionOptions": (None, (_P,)),
    "TF_GraphOperationByName": (_P, (_P, c_char_p)),
    "TF_LoadSessionFromSavedModel":
        (_P, (_P, _P, c_char_p, POINTER(c_char_p), c_int, _P, _P, _P)),
    "TF_DeleteSession":        (None, (_P, _P)),
    "TF_SessionRun":
        (None, (_P, _P, POINTER(_Output), POINTER(_P), c_int,
                POINTER(_Output), POINTER(_P), c_int, POINTER(_P), c_int, _P, _P)),
    "TF_AllocateTensor":       (_P, (c_int, POINTER(c_int64), c_int, _S)),
    "TF_DeleteTensor":         (None, (_P,)),
    "TF_TensorData":           (_P, (_P,)),
    "TF_TensorType":           (c_int, (_P,)),
    "TF_NumDims":              (c_int, (_P,)),
    "TF_Dim":                  (c_int64, (_P, c_int)),
    "TF_StringInit":           (None, (_P,)),
    "TF_StringCopy":           (None, (_P, c_char_p, _S)),
    "TF_StringGetDataPointer": (_P, (_P,)),
    "TF_StringGetSize":        (_S, (_P,)),
}
# fmt: on


def find_libraries() -> tuple[Path, ...]:
    """Finds the shared libraries in TensorFlow's wheel.

    Returns:
        The paths of `LIBRARIES`.

    Raises:
        NoLoaderError: TensorFlow is not installed, or its wheel has no such libraries.
    """
    spec = importlib.util.find_spec("tensorflow")
    folder = Path(spec.origin).parent if spec and spec.origin else Path()
    paths = tuple(folder / name for name in LIBRARIES)
    if not all(path.is_file() for path in paths):
        raise NoLoaderError(
            f"the installed TensorFlow has no {LIBRARIES[1]} (its Linux wheel has); check on Linux"
        )
    return paths


class Session:
    """A SavedModel in memory, loaded by C++; several threads may run it at the same time.

    Args:
        folder: The SavedModel, a version folder.

    Raises:
        LoaderError: It does not load.

    Example:
        session = Session("saved_models/digits/1")
        (scores,) = session.run({"serving_default_images:0": images}, ["StatefulPartitionedCall:0"])
    """

    def __init__(self, folder: str) -> None:
        self._c = _bind()
        self._graph = self._c.TF_NewGraph()
        options = self._c.TF_NewSessionOptions()
        tags = (c_char_p * 1)(SERVE_TAG.encode())
        try:
            with self._checked() as status:
                self._session = self._c.TF_LoadSessionFromSavedModel(
                    options, None, os.fsencode(folder), tags, 1, self._graph, None, status
                )
        except BaseException:
            self._c.TF_DeleteGraph(self._graph)
            raise
        finally:
            self._c.TF_DeleteSessionOptions(options)
        # At the end of the process its memory goes anyway.
        weakref.finalize(self, _close, self._c, self._session, self._graph).atexit = False

    def run(self, feeds: dict[str, np.ndarray], fetches: list[str]) -> list[np.ndarray]:
        """Runs the graph once.

        Args:
            feeds: Tensor names as a signature states them, `name:0`, to arrays; strings are object arrays of bytes.
            fetches: Tensor names.

        Returns:
            The value of each of `fetches`; strings are object arrays of bytes.

        Raises:
            LoaderError: The graph has no such tensor, or an operation fails.
        """
        values = (c_void_p * len(feeds))()  # null where there is none yet
        results = (c_void_p * len(fetches))()
        try:
            for place, array in enumerate(feeds.values()):
                values[place] = self._tensor(array)
            with self._checked() as status:
                self._c.TF_SessionRun(
                    self._session,
                    None,
                    self._outputs(feeds),
                    values,
                    len(feeds),
                    self._outputs(fetches),
                    results,
                    len(fetches),
                    None,
                    0,
                    None,
                    status,
                )
            return [self._array(result) for result in results if result]
        finally:
            for tensor in (*values, *results):
                if tensor:
                    self._c.TF_DeleteTensor(tensor)

    @contextmanager
    def _checked(self) -> Iterator[int]:
        """A status for one call; raises `LoaderError` with what the call left in it, unless that is success."""
        status = self._c.TF_NewStatus()
        try:
            yield status
            code = self._c.TF_GetCode(status)
            if code:
                message = self._c.TF_Message(status).decode(errors="replace")
                raise LoaderError(f"code {code}: {message}")
        finally:
            self._c.TF_DeleteStatus(status)

    def _outputs(self, names: Iterable[str]) -> ctypes.Array[_Output]:
        found = [self._output(name) for name in names]
        return (_Output * len(found))(*found)

    def _output(self, name: str) -> _Output:
        operation, _, index = name.partition(":")
        found = self._c.TF_GraphOperationByName(self._graph, operation.encode())
        if not found:
            raise LoaderError(f"the graph has no operation '{operation}'")
        return _Output(found, int(index or 0))

    def _tensor(self, array: np.ndarray) -> int:
        dims = (c_int64 * array.ndim)(*array.shape)
        if array.dtype != object and array.dtype not in CODES:
            raise LoaderError(f"an input has the dtype {array.dtype}, which is not sent")
        if array.dtype == object and not all(isinstance(text, bytes) for text in array.flat):
            raise LoaderError("an input of strings has other values than bytes")
        if array.dtype != object:
            array = np.ascontiguousarray(array)
            tensor = self._c.TF_AllocateTensor(CODES[array.dtype], dims, array.ndim, array.nbytes)
            ctypes.memmove(self._c.TF_TensorData(tensor), array.ctypes.data, array.nbytes)
            return tensor
        size = array.size * STRING_SLOT
        tensor = self._c.TF_AllocateTensor(TF_STRING, dims, array.ndim, size)
        for slot, text in zip(self._slots(tensor, array.size), array.flat, strict=True):
            self._c.TF_StringInit(slot)
            self._c.TF_StringCopy(slot, text, len(text))
        return tensor

    def _array(self, tensor: int) -> np.ndarray:
        code = self._c.TF_TensorType(tensor)
        shape = [self._c.TF_Dim(tensor, i) for i in range(self._c.TF_NumDims(tensor))]
        count = math.prod(shape)
        if code == TF_STRING:
            array = np.empty(count, object)
            array[:] = [self._text(slot) for slot in self._slots(tensor, count)]
        elif code in DTYPES:
            dtype = np.dtype(DTYPES[code])
            raw = (
                ctypes.string_at(self._c.TF_TensorData(tensor), count * dtype.itemsize)
                if count
                else b""
            )
            array = np.frombuffer(raw, dtype)
        else:
            raise LoaderError(
                f"an output has TensorFlow's data type {code}, which JSON cannot represent"
            )
        return array.reshape(shape)

    def _slots(self, tensor: int, count: int) -> list[int]:
        start = self._c.TF_TensorData(tensor) or 0
        return [start + i * STRING_SLOT for i in range(count)]

    def _text(self, slot: int) -> bytes:
        return ctypes.string_at(
            self._c.TF_StringGetDataPointer(slot), self._c.TF_StringGetSize(slot)
        )


def _close(c: ctypes.CDLL, session: int, graph: int) -> None:
    status = c.TF_NewStatus()
    c.TF_DeleteSession(session, status)
    c.TF_DeleteGraph(graph)
    c.TF_DeleteStatus(status)


def _bind() -> ctypes.CDLL:
    framework, library = find_libraries()
    # Not RTLD_GLOBAL: the BoringSSL in it would take the place of Python's OpenSSL, and `import hashlib` crash.
    ctypes.CDLL(str(framework))
    bound = ctypes.CDLL(str(library))
    for name, (result, arguments) in _PROTOTYPES.items():
        function = getattr(bound, name)
        function.restype, function.argtypes = result, arguments
    return bound
