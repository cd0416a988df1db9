# SPDX-License-Identifier: Apache-2.0
"""Reading Caffe's files, of both forms and damaged."""

from __future__ import annotations

import numpy as np
import pytest
from caffe_file import field, layer

from inception_tf.errors import UserError
from inception_tf.weights.formats.caffe import read_caffemodel
from inception_tf.weights.formats.stored import EVERYTHING


@pytest.mark.parametrize("old", [False, True])
def test_kernels_come_out_as_tensorflow_lays_them(tmp_path, old):
    conv = np.arange(4 * 3 * 2 * 5, dtype=np.float32).reshape(4, 3, 2, 5)  # out, in, height, width
    dense = np.arange(6 * 7, dtype=np.float32).reshape(6, 7)  # out, in
    bias = np.arange(4, dtype=np.float32)
    path = tmp_path / "net.caffemodel"
    path.write_bytes(
        field(1, b"a net")
        + layer("data", old=old)
        + layer("conv1/7x7_s2", conv, bias, old=old)
        + layer("loss3/classifier", dense, old=old)
    )
    arrays = read_caffemodel(path, EVERYTHING, 2**30)
    assert arrays.keys() == {"conv1/7x7_s2/kernel", "conv1/7x7_s2/bias", "loss3/classifier/kernel"}
    assert arrays["conv1/7x7_s2/kernel"].shape == (2, 5, 3, 4)
    assert arrays["conv1/7x7_s2/kernel"][1, 4, 2, 3] == conv[3, 2, 1, 4]
    np.testing.assert_array_equal(arrays["conv1/7x7_s2/bias"], bias)
    np.testing.assert_array_equal(arrays["loss3/classifier/kernel"], dense.T)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"version https://git-lfs.github.com/spec/v1\n", "is a Git LFS pointer"),
        (b"", "has no layers with weights"),
        (field(1, b"a net"), "has no layers with weights"),
    ],
)
def test_what_is_no_caffemodel_is_one_sentence(tmp_path, content, sentence):
    path = tmp_path / "net.caffemodel"
    path.write_bytes(content)
    with pytest.raises(UserError, match=sentence):
        read_caffemodel(path, EVERYTHING, 2**30)


def test_a_missing_file_is_one_sentence(tmp_path):
    with pytest.raises(UserError, match="^no weights file at"):
        read_caffemodel(tmp_path / "none.caffemodel", EVERYTHING, 2**30)
