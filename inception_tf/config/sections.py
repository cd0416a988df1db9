# SPDX-License-Identifier: Apache-2.0
"""The sections of a configuration: meaning, unit and allowed values stand beside each setting."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from inception_tf.config.values import FrozenDict
from inception_tf.ranges import (
    ABOVE_0,
    AT_LEAST_0,
    AT_LEAST_1,
    FRACTION,
    FRACTION_BELOW_1,
    OneOf,
    Ordered,
    Range,
)

__all__ = [
    "AUTOAUGMENT_POLICIES",
    "MEANING",
    "PHOTOMETRIC",
    "UNIT",
    "WITHIN",
    "DataConfig",
    "ModelConfig",
    "OptimizerConfig",
    "TrainingConfig",
]

SOURCE_KEYS = (
    "label_offset",
    "labels",
    "split_names",
    "nested",
    "key",
    "bits",
    "multi_label",
    "label_separator",
)  # how a data source is read
SHUFFLE = ("full", "weak", "block")
PHOTOMETRIC = ("full", "reduced", "none")
AUTO_AUGMENT = ("none", "randaugment", "autoaugment")
# The Model Garden's for classification.  Not its deit3_three_augment: that one draws the width of its
# blur from NumPy while the graph is made, one width for the whole run.
AUTOAUGMENT_POLICIES = ("v0", "reduced_imagenet", "reduced_cifar10", "svhn", "simple", "vit")
SCHEDULES = ("cosine", "exponential", "step", "constant")
KEEPS = ("last", "best")
PRECISIONS = ("auto", "float32", "mixed_float16", "mixed_bfloat16")
SEEDS = Range(0, 2**32 - 1)  # what NumPy takes
# The top of the Model Garden's scale; beyond it thresholds leave the range of a pixel and wrap around.
MAGNITUDES = Range(0, 10)
# Below 0.1 both gamma draws of a weight may be 0 in float32, and their ratio NaN.
ALPHAS = Range(0.1, or_zero=True)


NO_SWITCHES = FrozenDict()
MEANING, UNIT, WITHIN = "meaning", "unit", "within"


def setting(
    default: Any, meaning: str, unit: str = "", *, within: Range | Ordered | OneOf | None = None
) -> Any:
    """A field with what `inception-tf recipes` prints of it and the values that it may have."""
    return field(default=default, metadata={MEANING: meaning, UNIT: unit, WITHIN: within})


@dataclass(frozen=True)
class ModelConfig:
    """The network, its structure and its initial weights."""

    name: str = setting("inception_v1", "the network, as `inception-tf models` lists it")
    size: int | None = setting(
        None,
        "height and width of its images; null: the network's published size",
        "pixels",
        within=AT_LEAST_1,
    )
    switches: dict = setting(NO_SWITCHES, "the network's own, as in {lrn: true}")  # noqa: RUF009  # frozen
    weights: str | None = setting(
        None, "a file or a release to start from; null: random initialization"
    )
    new_head: bool = setting(True, "initialize the classifiers at random, whatever `weights` has")
    aux_logits: bool | None = setting(
        False,
        "train with the auxiliary classifiers, which the result drops; null: if the network has any",
    )
    dropout: float | None = setting(
        None,
        "fraction of features that are dropped; null: the network's published fraction",
        within=FRACTION_BELOW_1,
    )
    batch_norm_momentum: float = setting(
        0.99, "fraction of the old moving statistics kept at each step", within=FRACTION_BELOW_1
    )
    weight_decay: float = setting(
        0.0, "slim's L2: the loss gains this times sum(kernel**2) / 2", within=AT_LEAST_0
    )
    activation: str = setting("relu", "after every convolution, as Keras names it")
    initializer_gain: float = setting(
        1.0, "factor on the initial weights of every convolution", within=ABOVE_0
    )
    width_multiplier: float = setting(1.0, "factor on every convolution's filters", within=ABOVE_0)

    def structure(self) -> dict:
        """The arguments of `create_model` that decide the layers between the image and the logits."""
        common = {"activation": self.activation, "width_multiplier": self.width_multiplier}
        return common | dict(self.switches)


@dataclass(frozen=True)
class DataConfig:
    """The data set, how it is read, and its augmentation."""

    name: str = setting(
        "digits", "digits, tfds:NAME[/VERSION], folder:PATH, csv:FILE or tfrecord:GLOB"
    )
    label_offset: int | None = setting(
        None,
        "subtracted from the labels of TFRecord files; 1: class 0 is a background; null: what the class names imply",
        within=AT_LEAST_0,
    )
    labels: str | None = setting(
        None, "a file with the classes' names in order; null: the data's own names"
    )
    split_names: str | None = setting(
        None, "folders or files by split, train=A,validation=B; none: no splits; null: by name"
    )
    nested: bool = setting(False, "read the folders inside class folders, too")
    bits: int = setting(
        16,
        "bits that PNGs of 16 bits use, such as 12 of a microscope's",
        "bits",
        within=Range(8, 16),
    )
    key: str | None = setting(
        None, "features of TFRecord files, image=KEY,label=KEY; null: slim's, or TFDS'"
    )
    multi_label: bool = setting(
        False,
        "an image shows any number of classes: images of equal bytes in several class folders, or a csv: file with"
        " several labels",
    )
    label_separator: str = setting(
        "|", "between the labels in one cell of a csv: file, of multi-label data"
    )
    cache: str | None = setting(
        None, "where decoded images are kept: memory, or a folder; null: nowhere"
    )
    shuffle: str = setting(
        "full",
        "of the training images: full; weak, the same images in a batch in every epoch; or block, which reads"
        " TFRecords in sequence, for slow storage",
        within=OneOf(SHUFFLE),
    )
    balance: bool = setting(
        False, "draw every class equally often, with replacement, however many images it has"
    )
    shuffle_images: int = setting(
        4096, "encoded images in memory that a block shuffle mixes", "images", within=AT_LEAST_1
    )
    max_bad: float = setting(
        0.01, "fraction of a split's images that may be unreadable and skipped", within=FRACTION
    )
    batch_size: int = setting(32, "images per step", "images", within=AT_LEAST_1)
    service: str | None = setting(
        None, "a tf.data service's dispatcher, grpc://host:5000; null: this process"
    )
    crop: float | None = setting(
        0.875,
        "fraction of each side that evaluation keeps; null: the whole image",
        within=Range(0, 1, above=True),
    )
    preprocessing: dict | None = setting(  # noqa: RUF009  # None
        None,
        "how evaluation resizes and crops, as in {shorter: 342, antialias: true}; {}: by data.crop; null: as the"
        " makers of model.weights did, otherwise by data.crop",
    )
    box_area: tuple[float, float] | None = setting(
        (0.05, 1.0), "fraction of the image that a training crop covers", within=Ordered(1)
    )
    box_aspect: tuple[float, float] = setting(
        (0.75, 1.33), "width / height of a training crop", within=Ordered()
    )
    flip: bool = setting(True, "mirror half of the training images left to right")
    photometric: str = setting(
        "none", "color augmentation: full (slim's), reduced or none", within=OneOf(PHOTOMETRIC)
    )
    auto_augment: str = setting(
        "none", "none, randaugment or autoaugment", within=OneOf(AUTO_AUGMENT)
    )
    randaugment_layers: int = setting(2, "operations per image", "operations", within=AT_LEAST_1)
    randaugment_magnitude: float = setting(
        10.0, "strength of each operation, 0 to 10", within=MAGNITUDES
    )
    autoaugment_policy: str = setting(
        "v0", "the Model Garden's policy for autoaugment", within=OneOf(AUTOAUGMENT_POLICIES)
    )
    random_erasing: float = setting(
        0.0, "fraction of the training images with a rectangle of noise", within=FRACTION
    )
    mixup_alpha: float = setting(
        0.0, "of the beta distribution of the weights; 0: no mixup", within=ALPHAS
    )
    cutmix_alpha: float = setting(
        0.0, "of the beta distribution of the areas; 0: no cutmix", within=ALPHAS
    )

    def reading(self) -> dict:
        """The arguments of `open_source` beside the name."""
        return {key: getattr(self, key) for key in SOURCE_KEYS}

    def classifier_activation(self) -> str:
        """What makes probabilities of the logits: of classes that exclude each other, or of independent ones."""
        return "sigmoid" if self.multi_label else "softmax"


@dataclass(frozen=True)
class OptimizerConfig:
    """The optimizer, its learning rate schedule and its averages."""

    name: str = setting(
        "adam",
        "adam, adamw, adagrad, sgd, or rmsprop with TensorFlow 1's initial state, as in slim",
    )
    learning_rate: float = setting(1e-3, "at its highest, after the warm-up", within=ABOVE_0)
    warmup_epochs: float = setting(
        1.0, "time over which the learning rate rises from zero", "epochs", within=AT_LEAST_0
    )
    head_learning_rate: float = setting(1e-3, "constant, over training.head_epochs", within=ABOVE_0)
    schedule: str = setting(
        "cosine",
        "after the warm-up: cosine, exponential, step or constant",
        within=OneOf(SCHEDULES),
    )
    final_rate: float = setting(
        0.0, "fraction of learning_rate left at the end of the cosine", within=FRACTION
    )
    rate_decay: float = setting(
        0.94,
        "factor on the learning rate every decay_epochs, for exponential and step",
        within=ABOVE_0,
    )
    decay_epochs: float = setting(
        2.0, "exponential decays at every step, step once at their end", "epochs", within=ABOVE_0
    )
    momentum: float = setting(
        0.9,
        "of sgd and rmsprop: fraction of the previous update added to the next",
        within=FRACTION_BELOW_1,
    )
    nesterov: bool = setting(True, "of sgd: Nesterov momentum")
    decay: float = setting(
        0.9, "of rmsprop: fraction of the mean squares kept at each step", within=FRACTION_BELOW_1
    )
    weight_decay: float = setting(
        0.0,
        "of adamw: decoupled; each step takes this times the learning rate off every kernel",
        within=AT_LEAST_0,
    )
    epsilon: float | None = setting(
        None, "keeps the division finite; null: rmsprop 1.0 (slim), others 1e-7", within=ABOVE_0
    )
    accumulation_steps: int = setting(
        1,
        "steps whose gradients are averaged for one update, for larger batches than memory holds",
        "steps",
        within=AT_LEAST_1,
    )
    layer_decay: float = setting(
        1.0,
        "factor on the learning rate for each module further from the classifier",
        within=Range(0, 1, above=True),
    )
    clip_norm: float | None = setting(
        None, "maximum global norm of the gradient; null: no clipping", within=ABOVE_0
    )
    ema: float | None = setting(
        None, "decay of the weights' moving averages; null: no averages", within=FRACTION_BELOW_1
    )


@dataclass(frozen=True)
class TrainingConfig:
    """Length, precision, losses and checks of the training itself."""

    epochs: int = setting(30, "passes over the training images", "epochs", within=AT_LEAST_1)
    seed: int = setting(
        0, "of the weights, the order of the images and their augmentation", within=SEEDS
    )
    precision: str = setting(
        "auto", "auto, float32, mixed_float16 or mixed_bfloat16", within=OneOf(PRECISIONS)
    )
    label_smoothing: float = setting(
        0.0, "fraction of the target spread over all classes", within=FRACTION_BELOW_1
    )
    focal_gamma: float = setting(
        0.0,
        "exponent of the focal loss, which counts images that are classified well less; 0: cross-entropy",
        within=AT_LEAST_0,
    )
    class_weights: str | dict | None = setting(  # noqa: RUF009  # frozen
        None,
        "of each class in the loss: balanced, against its number of images, or {name: weight}; null: all 1",
    )
    aux_weight: float | None = setting(
        None,
        "weight of each auxiliary loss; null: the network's published weight",
        within=AT_LEAST_0,
    )
    head_epochs: int = setting(
        0,
        "the first of `epochs`, in which only the classifiers are trained",
        "epochs",
        within=AT_LEAST_0,
    )
    keep: str = setting(
        "last",
        "the result: last, or best, the epoch with the highest top-1 accuracy in validation",
        within=OneOf(KEEPS),
    )
    patience: int | None = setting(
        None,
        "epochs without a better one after which the training ends; null: it never does",
        "epochs",
        within=AT_LEAST_1,
    )
    freeze_batch_norm: bool = setting(False, "keep the loaded moving statistics and betas")
    warm_up_statistics: bool = setting(
        False, "cap the momentum at (1 + n) / (10 + n) in step n: for short runs"
    )
    recalibrate_batch_norm: int = setting(
        0,
        "the final statistics are computed over so many; 0: keep the moving ones",
        "batches",
        within=AT_LEAST_0,
    )
    max_bad_steps: int = setting(
        10,
        "consecutive steps with a non-finite loss or gradient after which the run ends",
        "steps",
        within=AT_LEAST_1,
    )
    tracker: str | None = setting(
        None,
        "what else than TensorBoard and history.csv keeps the numbers: mlflow, trackio, or both with a comma",
    )
    steps_per_execution: int = setting(
        1,
        "steps per call into TensorFlow, a divisor of those of an epoch; more helps where steps are short",
        "steps",
        within=AT_LEAST_1,
    )
    deterministic: bool = setting(
        False, "the same bits in every run on this machine; slower on a GPU"
    )
