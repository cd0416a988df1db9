# SPDX-License-Identifier: Apache-2.0
"""Faster convolutions for training on a CPU: the same sums, computed as the matrix products that are fastest there.

Used only where TensorFlow trains in bfloat16 on a CPU with AVX512-BF16 and without AMX.  There oneDNN
computes a convolution and its input gradient at the speed of a matrix product, but its filter gradient
at half of that or less, and small convolutions more slowly than large ones: benchmarks/convolutions.py.
"""

from __future__ import annotations

import threading
from functools import partial

import keras
import tensorflow as tf

from inception_tf.host.hardware import has_vector_bfloat16
from inception_tf.nn.keras_internals import require

__all__ = ["MergedConvolutions", "filter_gradient", "speed_up_convolutions"]

require("_inbound_nodes")

# Minimum of input and output channels from which matrix products beat oneDNN's filter gradient.
MIN_CHANNELS = 128
ALIGNED_CHANNELS = 32  # 64 bytes in bfloat16: TensorFlow then slices matrix rows without a copy


def speed_up_convolutions(model: keras.Model) -> None:
    """Replaces convolutions of a functional model by faster implementations with the same results and gradients.

    Filter gradients of wide convolutions become matrix products, `filter_gradient`; 1x1 convolutions that
    read the same tensor become one, `MergedConvolutions`.  Layers keep their class, configuration and
    weights, so clones and saved models are not affected.  Does nothing on other hardware.

    Args:
        model: a functional model whose training step is not traced yet.
    """
    if not has_vector_bfloat16():
        return
    layers = [layer for layer in model.layers if _is_supported(layer)]
    for layer in layers:
        if _is_wide(layer):
            layer.convolution_op = partial(_with_matmul_gradient, layer)
    # With several replicas, convolutions of different replicas would be traced in turn.
    if model.distribute_strategy is None or model.distribute_strategy.num_replicas_in_sync == 1:
        for group in _sibling_groups(layers):
            merged = MergedConvolutions(group)
            for layer in group:
                layer.convolution_op = partial(merged, layer)


def _is_supported(layer: keras.layers.Layer) -> bool:
    # TensorFlow fuses a bias, and the activation after it, into the convolution.
    return (
        type(layer) is keras.layers.Conv2D
        and layer.compute_dtype == "bfloat16"
        and layer.data_format == "channels_last"
        and layer.padding in ("same", "valid")
        and layer.groups == 1
        and set(layer.dilation_rate) == {1}
        and len(set(layer.strides)) == 1
        and layer.trainable
        and not layer.use_bias
        and len(layer._inbound_nodes) == 1
        and None not in layer.input.shape[1:]
    )


def _is_wide(layer: keras.layers.Layer) -> bool:
    channels, filters = layer.kernel.shape[2:]
    return (
        min(channels, filters) >= MIN_CHANNELS
        and channels % ALIGNED_CHANNELS == filters % ALIGNED_CHANNELS == 0
    )


def _sibling_groups(layers: list) -> list[list]:
    """Groups of at least two 1x1 convolutions at stride 1 that read the same tensor."""
    groups: dict[int, list] = {}
    for layer in layers:
        if layer.kernel_size == layer.strides == (1, 1):
            groups.setdefault(id(layer.input), []).append(layer)
    return [group for group in groups.values() if len(group) > 1]


class MergedConvolutions:
    """Computes 1x1 convolutions that read the same tensor as one: the first call computes all results.

    Their input gradient is then one convolution, too, instead of a sum of several, each rounded to bfloat16.

    Args:
        layers: `Conv2D` layers with a 1x1 kernel and stride 1.
    """

    def __init__(self, layers: list):
        self.layers = layers
        self.calls = threading.local()  # per thread: a model may be called from several

    def __call__(self, layer, inputs, kernel):
        """Replaces `layer.convolution_op`."""
        read, results = getattr(self.calls, "last", (None, {}))
        if read is not inputs or layer.name not in results:
            kernels = [tf.convert_to_tensor(one.kernel) for one in self.layers]
            found = _merged_convolution(tf.convert_to_tensor(inputs), *kernels)
            results = dict(zip([one.name for one in self.layers], found, strict=True))
        result = results.pop(layer.name)  # each result is used once
        self.calls.last = (inputs, results) if results else (None, {})
        return result


@tf.custom_gradient
def _merged_convolution(x, *kernels):
    """x (N, H, W, C), kernels (1, 1, C, K_i) → each (N, H, W, K_i)."""
    widths = [kernel.shape[-1] for kernel in kernels]
    kernel = tf.concat(kernels, -1)
    options = {"strides": (1, 1, 1, 1), "padding": "VALID", "data_format": "NHWC"}

    def gradients(*backs):
        back = tf.concat(backs, -1)
        by_x = tf.raw_ops.Conv2DBackpropInput(
            input_sizes=tf.shape(x), filter=kernel, out_backprop=back, **options
        )
        by_kernel = filter_gradient(x, back, tuple(kernel.shape), 1, "VALID")
        return by_x, *tf.split(by_kernel, widths, -1)

    return tf.split(tf.raw_ops.Conv2D(input=x, filter=kernel, **options), widths, -1), gradients


def _with_matmul_gradient(layer, inputs, kernel):
    """Replaces `layer.convolution_op`: the same operation, its filter gradient as matrix products."""
    stride, padding = layer.strides[0], layer.padding.upper()
    options = {"strides": (1, stride, stride, 1), "padding": padding, "data_format": "NHWC"}

    @tf.custom_gradient
    def convolution(x, kernel):
        def gradients(back):
            by_x = tf.raw_ops.Conv2DBackpropInput(
                input_sizes=tf.shape(x), filter=kernel, out_backprop=back, **options
            )
            return by_x, filter_gradient(x, back, tuple(kernel.shape), stride, padding)

        return tf.raw_ops.Conv2D(input=x, filter=kernel, **options), gradients

    return convolution(tf.convert_to_tensor(inputs), tf.convert_to_tensor(kernel))


def filter_gradient(
    x: tf.Tensor, back: tf.Tensor, kernel: tuple[int, int, int, int], stride: int, padding: str
) -> tf.Tensor:
    """Computes the filter gradient of a convolution as matrix products.

    Each position in the filter is one product over all pixels, C x pixels by pixels x K.  With one spatial
    axis outermost, and the other padded with as many zero columns as the filter reaches over, the operands
    of all positions are row ranges of the same two matrices, so nothing is gathered.  At stride 2 x is split
    into four such matrices, by even and odd rows and columns.

    Args:
        x: (N, H, W, C), the input; all sizes but N static.
        back: (N, H', W', K), the gradient of the output.
        kernel: the filter's shape (h, w, C, K).
        stride: the same along both axes.
        padding: SAME or VALID.

    Returns:
        (h, w, C, K) of x's dtype.
    """
    height, width, channels, filters = kernel
    if height == width == stride == 1:
        product = tf.linalg.matmul(
            tf.reshape(x, (-1, channels)), tf.reshape(back, (-1, filters)), transpose_a=True
        )
        return tf.reshape(product, kernel)
    # The axis along which the filter is longer goes outermost, because no zeros are needed there.
    transposed = width > height
    if transposed:
        height, width = width, height
        x, back = (tf.transpose(tensor, (0, 2, 1, 3)) for tensor in (x, back))
    _, rows, columns, _ = x.shape
    _, back_rows, back_columns, _ = back.shape
    down = _offsets(height, rows, back_rows, stride, padding)
    across = _offsets(width, columns, back_columns, stride, padding)
    high = -(-rows // stride)
    wide = max(-(-columns // stride), back_columns + max(abs(shift) for _, shift in across))
    parts = _split_by_stride(x, high, wide, stride)
    back = tf.transpose(back, (1, 0, 2, 3))
    if wide > back_columns:
        back = tf.pad(back, ((0, 0), (0, 0), (0, wide - back_columns), (0, 0)))
    back = tf.reshape(back, (-1, filters))
    row = tf.shape(x)[0] * wide  # pixels in one row, over all images
    total = high * row
    products = []
    for row_part, row_shift in down:
        # The output rows that read a row of x here, and no padding.
        begin = max(0, -row_shift) * row
        end = min(back_rows, high - row_shift) * row
        for column_part, column_shift in across:
            shift = row_shift * row + column_shift
            first = tf.maximum(begin, -shift)
            last = tf.maximum(first, tf.minimum(end, total - shift))
            read = parts[row_part][column_part][first + shift : last + shift]
            products.append(tf.linalg.matmul(read, back[first:last], transpose_a=True))
    result = tf.reshape(tf.stack(products), (height, width, channels, filters))
    return tf.transpose(result, (1, 0, 2, 3)) if transposed else result


def _offsets(kernel: int, size: int, result: int, stride: int, padding: str) -> list:
    """Along one axis, for each position in the filter: which of `stride` parts of x it reads, and at which offset."""
    lead = max((result - 1) * stride + kernel - size, 0) // 2 if padding == "SAME" else 0
    return [((place - lead) % stride, (place - lead) // stride) for place in range(kernel)]


def _split_by_stride(x: tf.Tensor, high: int, wide: int, stride: int) -> list[list]:
    """x (N, H, W, C) by its rows and columns modulo `stride`, zero-padded → each (high * N * wide, C)."""
    _, rows, columns, channels = x.shape
    more = (0, high * stride - rows), (0, wide * stride - columns)
    if more != ((0, 0), (0, 0)):
        x = tf.pad(x, ((0, 0), *more, (0, 0)))
    if stride == 1:
        return [[tf.reshape(tf.transpose(x, (1, 0, 2, 3)), (-1, channels))]]
    x = tf.reshape(x, (-1, high, stride, wide, stride, channels))
    x = tf.transpose(x, (2, 4, 1, 0, 3, 5))
    return [[tf.reshape(x[i, j], (-1, channels)) for j in range(stride)] for i in range(stride)]
