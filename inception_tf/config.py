# SPDX-License-Identifier: Apache-2.0
"""The configuration of a run as frozen values: network, data, optimizer, length.  One level of nesting, no TensorFlow.

A recipe is a YAML file with these sections.  `Config.parse` rejects keys it does not know and suggests
the closest one; `Config.override` applies `--set optimizer.learning_rate=0.1`.  The allowed values stand
next to each field; a number without a range may be any finite one.
"""

from __future__ import annotations

import dataclasses
import re
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, NoReturn

import yaml

from inception_tf.errors import UserError, unknown
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

__all__ = ["Config", "DataConfig", "ModelConfig", "OptimizerConfig", "TrainingConfig", "read_yaml"]

PHOTOMETRIC = ("full", "reduced", "none")
AUTO_AUGMENT = ("none", "randaugment", "autoaugment")
# The Model Garden's for classification.  Not its deit3_three_augment: that one draws the width of its
# blur from NumPy while the graph is made, one width for the whole run.
AUTOAUGMENT_POLICIES = ("v0", "reduced_imagenet", "reduced_cifar10", "svhn", "simple", "vit")
SCHEDULES = ("cosine", "exponential", "step", "constant")
PRECISIONS = ("auto", "float32", "mixed_float16", "mixed_bfloat16")
SEEDS = Range(0, 2**32 - 1)  # what NumPy takes
# The top of the Model Garden's scale; beyond it thresholds leave the range of a pixel and wrap around.
MAGNITUDES = Range(0, 10)
# Below 0.1 both gamma draws of a weight may be 0 in float32, and their ratio NaN.
ALPHAS = Range(0.1, or_zero=True)


class FrozenDict(dict):
    """A dict that cannot be changed."""

    def _refuse(self, *arguments: object, **options: object) -> NoReturn:
        raise TypeError("a configuration cannot be changed; make a new one with Config.override")

    __setitem__ = __delitem__ = __ior__ = clear = pop = popitem = setdefault = update = _refuse

    def __hash__(self) -> int:  # type: ignore[override]  # dict says None, because it can be changed
        return hash(frozenset(self.items()))


@dataclass(frozen=True)
class ModelConfig:
    """The network, its structure and its initial weights."""

    name: str = "inception_v1"
    # pixels, height and width; null: the network's published size
    size: Annotated[int | None, AT_LEAST_1] = None
    switches: dict = field(default_factory=FrozenDict)  # the network's own, as in {lrn: true}
    weights: str | None = None  # a file or a release to start from; null: random initialization
    new_head: bool = True  # initialize the classifiers at random, whatever `weights` has
    # train with the auxiliary classifiers, which the result drops; null: if the network has any
    aux_logits: bool | None = False
    # fraction of features; null: the network's published fraction
    dropout: Annotated[float | None, FRACTION_BELOW_1] = None
    # fraction of the old moving statistics kept at each step
    batch_norm_momentum: Annotated[float, FRACTION_BELOW_1] = 0.99
    # slim's L2: the loss gains this times sum(kernel**2) / 2
    weight_decay: Annotated[float, AT_LEAST_0] = 0.0
    activation: str = "relu"  # after every convolution, as Keras names it
    # factor on the initial weights of every convolution
    initializer_gain: Annotated[float, ABOVE_0] = 1.0
    width_multiplier: Annotated[float, ABOVE_0] = 1.0  # factor on every convolution's filters

    def structure(self) -> dict:
        """The arguments of `create_model` that decide the layers between the image and the logits."""
        common = {"activation": self.activation, "width_multiplier": self.width_multiplier}
        return common | dict(self.switches)


@dataclass(frozen=True)
class DataConfig:
    """The data set, how it is read, and its augmentation."""

    name: str = "digits"  # digits, tfds:NAME[/VERSION], folder:PATH or tfrecord:GLOB
    # subtracted from the labels of TFRecord files; 1: class 0 is a background
    label_offset: Annotated[int, AT_LEAST_0] = 0
    cache: str | None = None  # where decoded images are kept: memory, or a folder; null: nowhere
    # fraction of a split's images that may be unreadable and skipped
    max_bad: Annotated[float, FRACTION] = 0.01
    batch_size: Annotated[int, AT_LEAST_1] = 32  # images per step
    # a tf.data service's dispatcher, grpc://host:5000; null: this process
    service: str | None = None
    # fraction of each side that evaluation keeps; null: the whole image
    crop: Annotated[float | None, Range(0, 1, above=True)] = 0.875
    # fraction of the image that a training crop covers
    box_area: Annotated[tuple[float, float] | None, Ordered(1)] = (0.05, 1.0)
    # width / height of a training crop
    box_aspect: Annotated[tuple[float, float], Ordered()] = (0.75, 1.33)
    flip: bool = True  # mirror half of the training images left to right
    # color augmentation: full (slim's), reduced or none
    photometric: Annotated[str, OneOf(PHOTOMETRIC)] = "none"
    auto_augment: Annotated[str, OneOf(AUTO_AUGMENT)] = "none"  # none, randaugment or autoaugment
    randaugment_layers: Annotated[int, AT_LEAST_1] = 2  # operations per image
    # strength of each operation, 0 to 10
    randaugment_magnitude: Annotated[float, MAGNITUDES] = 10.0
    # a name in AUTOAUGMENT_POLICIES
    autoaugment_policy: Annotated[str, OneOf(AUTOAUGMENT_POLICIES)] = "v0"
    # fraction of the training images with a rectangle of noise
    random_erasing: Annotated[float, FRACTION] = 0.0
    # of the beta distribution of the weights; 0: no mixup
    mixup_alpha: Annotated[float, ALPHAS] = 0.0
    # of the beta distribution of the areas; 0: no cutmix
    cutmix_alpha: Annotated[float, ALPHAS] = 0.0


@dataclass(frozen=True)
class OptimizerConfig:
    """The optimizer, its learning rate schedule and its averages."""

    name: str = "adam"  # adam, sgd, or rmsprop with TensorFlow 1's initial state, as in slim
    learning_rate: Annotated[float, ABOVE_0] = 1e-3  # at its highest, after the warm-up
    warmup_epochs: Annotated[float, AT_LEAST_0] = (
        1.0  # epochs over which the learning rate rises from zero
    )
    head_learning_rate: Annotated[float, ABOVE_0] = 1e-3  # constant, over training.head_epochs
    # after the warm-up: cosine, exponential, step or constant
    schedule: Annotated[str, OneOf(SCHEDULES)] = "cosine"
    # fraction of learning_rate left at the end of the cosine
    final_rate: Annotated[float, FRACTION] = 0.0
    # factor on the learning rate every decay_epochs, for exponential and step
    rate_decay: Annotated[float, ABOVE_0] = 0.94
    # epochs; exponential decays at every step, step once at their end
    decay_epochs: Annotated[float, ABOVE_0] = 2.0
    # of sgd and rmsprop: fraction of the previous update added to the next
    momentum: Annotated[float, FRACTION_BELOW_1] = 0.9
    nesterov: bool = True  # of sgd: Nesterov momentum
    # of rmsprop: fraction of the mean squares kept at each step
    decay: Annotated[float, FRACTION_BELOW_1] = 0.9
    # keeps the division finite; null: rmsprop 1.0 (slim), adam 1e-7
    epsilon: Annotated[float | None, ABOVE_0] = None
    # maximum global norm of the gradient; null: no clipping
    clip_norm: Annotated[float | None, ABOVE_0] = None
    # decay of the weights' moving averages; null: no averages
    ema: Annotated[float | None, FRACTION_BELOW_1] = None


@dataclass(frozen=True)
class TrainingConfig:
    """Length, precision, losses and checks of the training itself."""

    epochs: Annotated[int, AT_LEAST_1] = 30
    seed: Annotated[int, SEEDS] = 0
    # auto, float32, mixed_float16 or mixed_bfloat16
    precision: Annotated[str, OneOf(PRECISIONS)] = "auto"
    label_smoothing: Annotated[float, FRACTION_BELOW_1] = (
        0.0  # fraction of the target spread over all classes
    )
    # weight of each auxiliary loss; null: the network's published weight
    aux_weight: Annotated[float | None, AT_LEAST_0] = None
    # the first of `epochs`, in which only the classifiers are trained
    head_epochs: Annotated[int, AT_LEAST_0] = 0
    freeze_batch_norm: bool = False  # keep the loaded moving statistics and betas
    warm_up_statistics: bool = (
        False  # cap the momentum at (1 + n) / (10 + n) in step n: for short runs
    )
    # batches that the final statistics are computed over; 0: keep the moving ones
    recalibrate_batch_norm: Annotated[int, AT_LEAST_0] = 0
    # consecutive steps with a non-finite loss or gradient after which the run ends
    max_bad_steps: Annotated[int, AT_LEAST_1] = 10
    # steps per call into TensorFlow; more helps where steps are short
    steps_per_execution: Annotated[int, AT_LEAST_1] = 1
    deterministic: bool = False  # the same bits in every run on this machine; slower on a GPU


@dataclass(frozen=True)
class Config:
    """Everything needed to repeat a training, except the code and the data themselves.

    Example:

        config = Config().override(["model.name=inception_v1", "training.epochs=1"])
    """

    recipe: str = "default"
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)

    @classmethod
    def parse(cls, values: Mapping, where: str) -> Config:
        """Builds a configuration from nested plain values.

        Args:
            values: section to key to value, as YAML gives them; missing keys take their defaults.
            where: the file or option they come from, for the errors.

        Returns:
            The checked configuration.

        Raises:
            UserError: an unknown section or key, a value of the wrong type or out of range.
        """
        sections = {
            name: kind for name, kind in typing.get_type_hints(cls).items() if name != "recipe"
        }
        if not isinstance(values, Mapping):
            raise UserError(f"{where} has no sections; a recipe has: {', '.join(sections)}")
        parsed: dict[str, Any] = {"recipe": str(values.get("recipe", "default"))}
        for name, content in values.items():
            if name == "recipe":
                continue
            if name not in sections:
                raise unknown(f"section of {where}", str(name), sections)
            if not isinstance(content, Mapping):
                raise UserError(f"section '{name}' of {where} has no 'key: value' lines")
            parsed[name] = _section(sections[name], name, content, where)
        config = cls(**parsed)
        _check_ranges(config)
        return config

    def override(self, settings: Iterable[str]) -> Config:
        """Returns a copy of this configuration with some values replaced.

        Args:
            settings: strings `section.key=value`, the value in YAML notation.

        Returns:
            A new, checked configuration.

        Raises:
            UserError: as `parse`, and where a string is not of this form.
        """
        values = self.as_dict()
        for setting in settings:
            key, equals, text = setting.partition("=")
            section, dot, name = key.strip().partition(".")
            if not equals or not dot:
                raise UserError(
                    f"--set must be section.key=value such as optimizer.learning_rate=0.1, got '{setting}'"
                )
            if section not in values or section == "recipe":
                raise unknown("section", section, [s for s in values if s != "recipe"])
            values[section] = {**values[section], name: _yaml(text, f"--set {setting}")}
        return Config.parse(values, "--set")

    def as_dict(self) -> dict:
        """This configuration as plain nested values.

        Returns:
            `recipe`, and each section as a dict: what `config.yaml` holds.
        """
        plain = dataclasses.asdict(self)
        for section in plain.values():
            if isinstance(section, dict):
                section.update({k: list(v) for k, v in section.items() if isinstance(v, tuple)})
                section.update({k: dict(v) for k, v in section.items() if isinstance(v, dict)})
        return plain

    def flat(self) -> dict:
        """All settings on one level, without the recipe's name, so that equal settings compare equal.

        Returns:
            `{"model.size": 48, ...}`.
        """
        sections = {name: v for name, v in self.as_dict().items() if isinstance(v, dict)}
        return {f"{name}.{key}": value for name, v in sections.items() for key, value in v.items()}


def read_yaml(path: str | Path) -> Any:
    """Reads a YAML file.

    Args:
        path: the file, in UTF-8.

    Returns:
        Its content as plain values; None where it is empty.

    Raises:
        UserError: it cannot be read, or is not YAML.
    """
    try:
        return _yaml(Path(path).read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not a text file"
        raise UserError(f"cannot read {path}: {reason}") from error


def _yaml(text: str, where: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        line = getattr(getattr(error, "problem_mark", None), "line", 0) + 1
        problem = getattr(error, "problem", None) or "unreadable"
        raise UserError(f"{where} is not YAML: {problem} in line {line}") from error


def _section(factory: type, section: str, content: Mapping, where: str) -> Any:
    hints = typing.get_type_hints(factory)
    for key in content:
        if key not in hints:
            raise unknown(f"key in section '{section}' of {where}", str(key), hints)
    return factory(
        **{key: _typed(value, hints[key], f"{section}.{key}") for key, value in content.items()}
    )


def _typed(value: Any, hint: Any, key: str) -> Any:
    """`value` converted to the field's type, where the conversion loses nothing."""
    allowed = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    if value is None and type(None) in allowed:
        return None
    for kind in allowed:
        if typing.get_origin(kind) is tuple and isinstance(value, list | tuple) and len(value) == 2:
            return tuple(_typed(item, float, key) for item in value)
        if kind is float and not isinstance(value, bool):
            # YAML 1.1 reads 1e-3 as text.
            try:
                return float(value)
            except (TypeError, ValueError):
                continue
        if (
            isinstance(kind, type)
            and isinstance(value, kind)
            and not (kind is int and isinstance(value, bool))
        ):
            return FrozenDict(value) if isinstance(value, dict) else value
    raise UserError(f"{key} must be {_describe(hint)}, got {value!r}")


def _describe(hint: Any) -> str:
    words = {
        int: "an integer",
        float: "a number",
        bool: "true or false",
        dict: "a mapping such as {lrn: true}",
        str: "a string",
        type(None): "null",
    }
    allowed = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    return " or ".join(words.get(kind, "two numbers [low, high]") for kind in allowed)


def _check_ranges(config: Config) -> None:
    """Rejects values that would fail far from where they were written, or not at all."""
    for section in dataclasses.fields(config):
        values = getattr(config, section.name)
        if not dataclasses.is_dataclass(values):
            continue
        for key, hint in typing.get_type_hints(type(values), include_extras=True).items():
            value = getattr(values, key)
            for allowed in getattr(hint, "__metadata__", (Range(),)):
                if value is not None and (isinstance(value, float) or allowed != Range()):
                    allowed.check(f"{section.name}.{key}", value)
    training = config.training
    if training.head_epochs >= training.epochs:
        raise UserError(
            f"training.head_epochs must be below training.epochs, {training.epochs}, got"
            f" {training.head_epochs}"
        )
    _check_service(config.data)


def _check_service(data: DataConfig) -> None:
    if data.service is None:
        return
    if not re.fullmatch(r"grpc://[^/\s]+:\d+", data.service):
        raise UserError(
            f"data.service must be the address of a tf.data service's dispatcher, grpc://host:5000, or null,"
            f" got '{data.service}'"
        )
    if data.cache == "memory":
        raise UserError(
            "data.cache=memory keeps images in this process, where data.service does not read them;"
            " take a folder that the service's workers see, or no cache"
        )
