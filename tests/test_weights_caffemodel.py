# SPDX-License-Identifier: Apache-2.0
"""Caffe's files, written here byte by byte in protobuf's wire format with caffe.proto's field numbers."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from inception_tf.errors import UserError
from inception_tf.weights.caffemodel import read_caffemodel

NEW = {"layer": 100, "name": 1, "blobs": 7}  # LayerParameter
OLD = {"layer": 2, "name": 4, "blobs": 6}  # V1LayerParameter


def _varint(value):
    low, rest = value & 0x7F, value >> 7
    return bytes([low | 0x80]) + _varint(rest) if rest else bytes([low])


def _bytes(number, content):
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _blob(array, old):
    data = _bytes(5, struct.pack(f"<{array.size}f", *array.ravel()))
    if old:
        shape = (1,) * (4 - array.ndim) + array.shape
        return b"".join(_varint(n << 3) + _varint(side) for n, side in enumerate(shape, 1)) + data
    return _bytes(7, _bytes(1, b"".join(map(_varint, array.shape)))) + data


def _layer(fields, name, *arrays, old):
    blobs = b"".join(_bytes(fields["blobs"], _blob(array, old)) for array in arrays)
    return _bytes(fields["layer"], _bytes(fields["name"], name.encode()) + blobs)


@pytest.mark.parametrize(("fields", "old"), [(NEW, False), (OLD, True)])
def test_kernels_come_out_as_tensorflow_lays_them(tmp_path, fields, old):
    conv = np.arange(4 * 3 * 2 * 5, dtype=np.float32).reshape(4, 3, 2, 5)  # out, in, height, width
    dense = np.arange(6 * 7, dtype=np.float32).reshape(6, 7)  # out, in
    bias = np.arange(4, dtype=np.float32)
    path = tmp_path / "net.caffemodel"
    path.write_bytes(
        _bytes(1, b"a net")
        + _layer(fields, "data", old=old)
        + _layer(fields, "conv1/7x7_s2", conv, bias, old=old)
        + _layer(fields, "loss3/classifier", dense, old=old)
    )
    arrays = read_caffemodel(path)
    assert arrays.keys() == {"conv1/7x7_s2/kernel", "conv1/7x7_s2/bias", "loss3/classifier/kernel"}
    assert arrays["conv1/7x7_s2/kernel"].shape == (2, 5, 3, 4)
    assert arrays["conv1/7x7_s2/kernel"][1, 4, 2, 3] == conv[3, 2, 1, 4]
    np.testing.assert_array_equal(arrays["conv1/7x7_s2/bias"], bias)
    np.testing.assert_array_equal(arrays["loss3/classifier/kernel"], dense.T)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"version https://git-lfs.github.com/spec/v1\n", "is damaged or no .caffemodel file"),
        (b"", "holds no layers with weights"),
        (_bytes(1, b"a net"), "holds no layers with weights"),
    ],
)
def test_what_is_no_caffemodel_is_one_sentence(tmp_path, content, sentence):
    path = tmp_path / "net.caffemodel"
    path.write_bytes(content)
    with pytest.raises(UserError, match=sentence):
        read_caffemodel(path)


def test_a_missing_file_is_one_sentence(tmp_path):
    with pytest.raises(UserError, match="No such file"):
        read_caffemodel(tmp_path / "none.caffemodel")
