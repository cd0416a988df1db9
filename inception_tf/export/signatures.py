# SPDX-License-Identifier: Apache-2.0
"""What a served model answers: three signatures around one network, where one bad image fails alone."""

from __future__ import annotations

import keras
import tensorflow as tf

from inception_tf.data.decoding import images as pixels
from inception_tf.data.preprocessing import Preprocessing

__all__ = ["BYTES_A_PIXEL", "CONTRACT", "FEATURE", "PARALLEL", "ServingModule"]

FEATURE = "image/encoded"  # of a tf.Example, as in the TFRecord files of slim and TFDS
PARALLEL = 4  # images of one request that are read at the same time
BYTES_A_PIXEL = (
    12  # held at most for one image: a progressive JPEG's coefficients, the pixels and their crop
)

# {signature: (inputs, outputs)}, each {name: (dtype, shape)}; None is the batch or any size,
# "K" the number of classes, "k" how many of the best are named.
# fmt: off
_RANKED = {"probabilities": (tf.float32, (None, "K")),
           "top_classes":   (tf.string,  (None, "k")),
           "top_scores":    (tf.float32, (None, "k"))}
CONTRACT = {
    "serving_default": ({"image_bytes": (tf.string, (None,))},
                        _RANKED | {"status": (tf.string, (None,))}),
    "image_tensor":    ({"images": (tf.uint8, (None, None, None, 3))},
                        _RANKED),
    "classify":        ({"inputs": (tf.string, (None,))},
                        {"classes": (tf.string,  (None, "k")),
                         "scores":  (tf.float32, (None, "k"))}),
}
# fmt: on


class ServingModule(tf.Module):
    """A network with its preprocessing and its labels, as TensorFlow Serving calls it.

    model: (N, size, size, 3) floats as `preprocessing` scales them → (N, K) probabilities.  labels_file: K lines.
    top: how many of the best classes are named.  pixel_limit: height x width of the largest image let in,
    read from its header; reading a request takes at most `PARALLEL * BYTES_A_PIXEL * pixel_limit` bytes.
    An image that cannot be read gets a row of zeros, empty names and its reason in `status`; the
    rows beside it are those of a batch of good images.  A `tf.Example` that cannot be parsed is
    treated as a bad image.
    """

    def __init__(
        self,
        model: keras.Model,
        labels_file: str,
        preprocessing: Preprocessing,
        *,
        top: int,
        pixel_limit: int = pixels.PIXEL_LIMIT,
    ):
        super().__init__(name="serving")
        # The variables alone are tracked: a Keras model would bring its optimizer and its metrics.
        self.weights = [weight.value for weight in model.weights]
        self.labels = tf.lookup.StaticHashTable(
            tf.lookup.TextFileInitializer(
                labels_file,
                key_dtype=tf.int64,
                key_index=tf.lookup.TextFileIndex.LINE_NUMBER,
                value_dtype=tf.string,
                value_index=tf.lookup.TextFileIndex.WHOLE_LINE,
            ),
            default_value="",
        )
        self._shape = (preprocessing.size, preprocessing.size, 3)
        self._steps = pixels.evaluation_steps(preprocessing)
        self._top = top
        self._pixel_limit = pixel_limit

        # One function that all signatures call, so that the graph holds the network once.
        @tf.function(input_signature=[tf.TensorSpec((None, *self._shape))], autograph=False)
        def network(images):
            return tf.cast(model(images, training=False), tf.float32)

        self.network = network

    @tf.function(input_signature=[tf.TensorSpec((None, None, None, 3), tf.uint8)], autograph=False)
    def prepare(self, images):
        """(N, H, W, 3) uint8 → (N, size, size, 3) float32, what the network takes."""
        return pixels.apply_steps(self._steps, images)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "image_bytes")], autograph=False)
    def serving_default(self, image_bytes):
        images, status = self._read(image_bytes)
        return self._answer(images, status) | {"status": status}

    @tf.function(
        input_signature=[tf.TensorSpec((None, None, None, 3), tf.uint8, "images")], autograph=False
    )
    def image_tensor(self, images):
        return self._answer(self.prepare(images), tf.fill(tf.shape(images)[:1], pixels.OK))

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "inputs")], autograph=False)
    def classify(self, inputs):
        answer = self._answer(*self._read(inputs, _image_of_example))
        return {"classes": answer["top_classes"], "scores": answer["top_scores"]}

    def signatures(self) -> dict[str, object]:
        return {name: getattr(self, name) for name in CONTRACT}

    def _answer(self, images, status):
        good = tf.equal(status, pixels.OK)[:, tf.newaxis]
        probabilities = tf.where(good, self.network(images), 0.0)
        scores, places = tf.math.top_k(probabilities, self._top)
        names = self.labels.lookup(tf.cast(tf.where(good, places, -1), tf.int64))
        return {"probabilities": probabilities, "top_classes": names, "top_scores": scores}

    def _read(self, data, unpack=tf.identity):
        """(N,) strings → (N, size, size, 3) float32 and (N,) status, each image on its own."""
        return tf.map_fn(
            lambda item: self._read_one(item, unpack),
            data,
            fn_output_signature=(
                tf.TensorSpec(self._shape, tf.float32),
                tf.TensorSpec((), tf.string),
            ),
            parallel_iterations=PARALLEL,
        )

    def _read_one(self, item, unpack):
        blank = tf.zeros(self._shape)

        def read(item):
            data = unpack(item)
            status = pixels.check_encoded(data, self._pixel_limit)
            image = tf.cond(
                tf.equal(status, pixels.OK),
                lambda: pixels.apply_steps(self._steps, pixels.decode(data)),
                lambda: blank,
            )
            return tf.ensure_shape(image, self._shape), status

        return pixels.with_fallback(read, item, (blank, pixels.DAMAGED))


def _image_of_example(serialized):
    feature = tf.io.FixedLenFeature((), tf.string, default_value="")
    return tf.io.parse_single_example(serialized, {FEATURE: feature})[FEATURE]
