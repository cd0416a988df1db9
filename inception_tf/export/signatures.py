# SPDX-License-Identifier: Apache-2.0
"""What a served model computes: signatures around one network, where one bad image fails alone."""

from __future__ import annotations

import keras
import tensorflow as tf

from inception_tf.data.decoding import images as pixels
from inception_tf.data.decoding import transforms
from inception_tf.data.preprocessing import Preprocessing

__all__ = [
    "BYTES_PER_PIXEL",
    "CONTRACT",
    "FEATURE",
    "FEATURES",
    "PARALLEL_IMAGES",
    "ServingModule",
    "TensorSpecs",
    "contract_of",
]

FEATURE = "image/encoded"  # of a tf.Example, as in the TFRecord files of slim and TFDS
# Of one core, for each megapixel of an image, is in data/decoding/work.py: SECONDS_PER_MEGAPIXEL.
PARALLEL_IMAGES = 4  # of one request that are read at the same time
BYTES_PER_PIXEL = (
    12  # held at most for one image: a progressive JPEG's coefficients, the pixels and their crop
)

TensorSpecs = dict[str, tuple[tf.DType, tuple[str | int | None, ...]]]  # name: (dtype, shape)

# {signature: (inputs, outputs)}; None is the batch or any size,
# "K" the number of classes, "k" how many of the best are listed, "D" the width of the features.
# fmt: off
_RANKED: TensorSpecs = {"probabilities": (tf.float32, (None, "K")),
           "top_classes":   (tf.string,  (None, "k")),
           "top_scores":    (tf.float32, (None, "k"))}
CONTRACT: dict[str, tuple[TensorSpecs, TensorSpecs]] = {
    "serving_default": ({"image_bytes": (tf.string, (None,))},
                        _RANKED | {"status": (tf.string, (None,))}),
    "image_tensor":    ({"images": (tf.uint8, (None, None, None, 3))},
                        _RANKED),
    "classify":        ({"inputs": (tf.string, (None,))},
                        {"classes": (tf.string,  (None, "k")),
                         "scores":  (tf.float32, (None, "k"))}),
}
# Of an export with a feature vector.
FEATURES: dict[str, tuple[TensorSpecs, TensorSpecs]] = {
    "features":        ({"image_bytes": (tf.string, (None,))},
                        {"features": (tf.float32, (None, "D")),
                         "status":   (tf.string,  (None,))}),
}
# fmt: on


def contract_of(features: bool) -> dict[str, tuple[TensorSpecs, TensorSpecs]]:
    """Returns all signatures that an export has.

    Args:
        features: Whether it was exported with its feature vector.

    Returns:
        `CONTRACT`, and `FEATURES` where it was.
    """
    return CONTRACT | FEATURES if features else CONTRACT


class ServingModule(tf.Module):
    """A network with its preprocessing and its labels, as TensorFlow Serving calls it.

    An image that cannot be read gets a row of zeros, empty class names and the reason in `status`; the rows beside it
    are those of a batch of good images.  A `tf.Example` that cannot be parsed is treated as a bad image.  Reading a
    request takes at most `PARALLEL_IMAGES * BYTES_PER_PIXEL * pixel_limit` bytes, and each image at most
    `SECONDS_PER_MEGAPIXEL` of one core for each megapixel: one that asks for more is a bad image.

    Args:
        model: (N, size, size, 3) floats as `preprocessing` scales them → (N, K) probabilities, or a dict of these as
            `probabilities` and (N, D) `features`, which adds the signatures of `FEATURES`.
        labels_file: A text file with K lines.
        preprocessing: Size, crop and scale of the network.
        top: How many of the best classes are listed.
        pixel_limit: Height x width of the largest image that is read, checked in the image's header.
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
        self._steps = transforms.evaluation_steps(preprocessing)
        self._bits = preprocessing.bits
        self._top = top
        self._pixel_limit = pixel_limit

        # One function for all signatures, so that the graph holds the network once.
        @tf.function(input_signature=[tf.TensorSpec((None, *self._shape))], autograph=False)
        def network(images):
            return tf.nest.map_structure(
                lambda output: tf.cast(output, tf.float32), model(images, training=False)
            )

        self.network = network
        self._has_features = isinstance(model.output, dict)
        if self._has_features:
            # Only here: saving traces every function that a class has.
            encoded = tf.TensorSpec([None], tf.string, "image_bytes")
            self.features = tf.function(self._features, [encoded], autograph=False)

    @tf.function(input_signature=[tf.TensorSpec((None, None, None, 3), tf.uint8)], autograph=False)
    def prepare(self, images):
        """Preprocesses images as the network takes them.

        Args:
            images: uint8 (N, H, W, 3).

        Returns:
            float32 (N, size, size, 3).
        """
        return transforms.apply_steps(self._steps, images)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "image_bytes")], autograph=False)
    def serving_default(self, image_bytes):
        """Classifies encoded images.

        Args:
            image_bytes: string (N,), the content of an image file each.

        Returns:
            `probabilities`, `top_classes`, `top_scores` and `status`.
        """
        images, status = self.read_images(image_bytes)
        return self._classified(images, status) | {"status": status}

    @tf.function(
        input_signature=[tf.TensorSpec((None, None, None, 3), tf.uint8, "images")], autograph=False
    )
    def image_tensor(self, images):
        """Classifies decoded images.

        Args:
            images: uint8 (N, H, W, 3).

        Returns:
            `probabilities`, `top_classes` and `top_scores`.
        """
        return self._classified(self.prepare(images), tf.fill(tf.shape(images)[:1], pixels.OK))

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "inputs")], autograph=False)
    def classify(self, inputs):
        """Classifies the images of serialized `tf.Example`s.

        Args:
            inputs: string (N,), each with an encoded image as `image/encoded`.

        Returns:
            `classes` and `scores`.
        """
        best = self._classified(*self.read_images(inputs, _image_of_example))
        return {"classes": best["top_classes"], "scores": best["top_scores"]}

    def signatures(self) -> dict[str, object]:
        """Returns the functions of `contract_of` by name, as `tf.saved_model.save` takes them."""
        return {name: getattr(self, name) for name in contract_of(self._has_features)}

    def _features(self, image_bytes):
        """(N,) encoded images → `features` (N, D) float32, zeros for a bad image, and `status`."""
        images, status = self.read_images(image_bytes)
        good = tf.equal(status, pixels.OK)[:, tf.newaxis]
        features = tf.where(good, self.network(images)["features"], 0.0)
        return {"features": features, "status": status}

    def _classified(self, images, status):
        good = tf.equal(status, pixels.OK)[:, tf.newaxis]
        outputs = self.network(images)
        found = outputs["probabilities"] if self._has_features else outputs
        probabilities = tf.where(good, found, 0.0)
        scores, places = tf.math.top_k(probabilities, self._top)
        names = self.labels.lookup(tf.cast(tf.where(good, places, -1), tf.int64))
        return {"probabilities": probabilities, "top_classes": names, "top_scores": scores}

    def read_images(self, data, unpack=tf.identity):
        """Decodes and preprocesses images, each on its own.

        Args:
            data: string (N,).
            unpack: What gives the encoded image of a string.

        Returns:
            float32 (N, size, size, 3), zeros for a bad image, and string (N,) statuses.
        """
        return tf.map_fn(
            lambda item: self._read_one(item, unpack),
            data,
            fn_output_signature=(
                tf.TensorSpec(self._shape, tf.float32),
                tf.TensorSpec((), tf.string),
            ),
            parallel_iterations=PARALLEL_IMAGES,
        )

    def _read_one(self, item, unpack):
        blank = tf.zeros(self._shape)

        def read(item):
            data = unpack(item)
            status, decoded = pixels.read_image(
                data, bits=self._bits, pixel_limit=self._pixel_limit
            )
            image = tf.cond(
                tf.equal(status, pixels.OK),
                lambda: transforms.apply_steps(self._steps, decoded),
                lambda: blank,
            )
            return tf.ensure_shape(image, self._shape), status

        return pixels.with_fallback(read, item, (blank, pixels.DAMAGED))


def _image_of_example(serialized):
    feature = tf.io.FixedLenFeature((), tf.string, default_value="")
    return tf.io.parse_single_example(serialized, {FEATURE: feature})[FEATURE]
