# SPDX-License-Identifier: Apache-2.0
"""A run as frozen values: which network, which data, which optimizer, how long.  One level of nesting, no TensorFlow.

A recipe is a YAML file with these sections; `Config.parse` refuses what it does not know and names
the nearest key, `Config.override` takes `--set optimizer.learning_rate=0.1`.  What a value may be stands
beside its field; a number without a range may be any finite one.
"""

from __future__ import annotations

import dataclasses
import re
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import yaml

from inception_tf.errors import UserError, unknown
from inception_tf.ranges import (
    ABOVE_0,
    AT_LEAST_0,
    AT_LEAST_1,
    FRACTION,
    SHARE,
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
# Below 0.1 both gamma draws of a weight may be 0 in float32, and their ratio no number.
ALPHAS = Range(0.1, or_zero=True)


class FrozenDict(dict):
    """A dict that cannot be changed."""

    def _refuse(self, *arguments, **options):
        raise TypeError("a configuration cannot be changed; make another with Config.override")

    __setitem__ = __delitem__ = __ior__ = clear = pop = popitem = setdefault = update = _refuse

    def __hash__(self):
        return hash(frozenset(self.items()))


@dataclass(frozen=True)
class ModelConfig:
    name: str = "inception_v1"
    # pixels, height and width; null: the network's published size
    size: Annotated[int | None, AT_LEAST_1] = None
    switches: dict = field(default_factory=FrozenDict)  # the network's own, as in {lrn: true}
    weights: str | None = None  # a file or a release to begin with; null: fresh ones
    new_head: bool = True  # begin with fresh classifiers, whatever `weights` has
    # train with the auxiliary classifiers, which the result lacks; null: if there are any
    aux_logits: bool | None = False
    # share of features; null: the network's published share
    dropout: Annotated[float | None, FRACTION] = None
    # share of the old moving statistics kept at each step
    batch_norm_momentum: Annotated[float, FRACTION] = 0.99
    # slim's L2: the loss gains this times sum(kernel**2) / 2
    weight_decay: Annotated[float, AT_LEAST_0] = 0.0
    activation: str = "relu"  # after every convolution, a Keras name
    # factor on the initial weights of every convolution
    initializer_gain: Annotated[float, ABOVE_0] = 1.0
    width_multiplier: Annotated[float, ABOVE_0] = 1.0  # factor on every convolution's filters

    def structure(self) -> dict:
        """The arguments of `create_model` that decide the layers between the image and the logits."""
        own = {"activation": self.activation, "width_multiplier": self.width_multiplier}
        return own | dict(self.switches)


@dataclass(frozen=True)
class DataConfig:
    name: str = "digits"  # digits, tfds:NAME[/VERSION], folder:PATH or tfrecord:GLOB
    # subtracted from the labels of TFRecord files; 1: class 0 is a background
    label_offset: Annotated[int, AT_LEAST_0] = 0
    cache: str | None = None  # decoded images: memory, a folder for a file of them; null: none
    # share of a split's images that may be unreadable and skipped
    max_bad: Annotated[float, SHARE] = 0.01
    batch_size: Annotated[int, AT_LEAST_1] = 32  # images a step
    # a tf.data service's dispatcher, grpc://host:5000; null: this process
    service: str | None = None
    # share of each side that evaluation keeps; null: the whole image
    crop: Annotated[float | None, Range(0, 1, above=True)] = 0.875
    # share of the image a training crop has
    box_area: Annotated[tuple[float, float] | None, Ordered(1)] = (0.05, 1.0)
    # width / height of a training crop
    box_aspect: Annotated[tuple[float, float], Ordered()] = (0.75, 1.33)
    flip: bool = True  # mirror half of the training images left to right
    # changes of light and colour: full (slim's), reduced or none
    photometric: Annotated[str, OneOf(PHOTOMETRIC)] = "none"
    auto_augment: Annotated[str, OneOf(AUTO_AUGMENT)] = "none"  # none, randaugment or autoaugment
    randaugment_layers: Annotated[int, AT_LEAST_1] = 2  # operations an image
    # strength of each operation, 0 to 10
    randaugment_magnitude: Annotated[float, MAGNITUDES] = 10.0
    # a name in AUTOAUGMENT_POLICIES
    autoaugment_policy: Annotated[str, OneOf(AUTOAUGMENT_POLICIES)] = "v0"
    # share of the training images with a rectangle of noise
    random_erasing: Annotated[float, SHARE] = 0.0
    # of the beta distribution of the shares; 0: no mixup
    mixup_alpha: Annotated[float, ALPHAS] = 0.0
    # of the beta distribution of the shares; 0: no cutmix
    cutmix_alpha: Annotated[float, ALPHAS] = 0.0


@dataclass(frozen=True)
class OptimizerConfig:
    name: str = "adam"  # adam, sgd, or rmsprop with TensorFlow 1's start, as slim has it
    learning_rate: Annotated[float, ABOVE_0] = 1e-3  # at its highest, after the warm-up
    warmup_epochs: Annotated[float, AT_LEAST_0] = 1.0  # epochs over which the rate rises from zero
    head_learning_rate: Annotated[float, ABOVE_0] = 1e-3  # constant, over training.head_epochs
    # after the warm-up: cosine, exponential, step or constant
    schedule: Annotated[str, OneOf(SCHEDULES)] = "cosine"
    # share of learning_rate left at the end of the cosine
    final_rate: Annotated[float, SHARE] = 0.0
    # factor on the rate over decay_epochs, of exponential and step
    rate_decay: Annotated[float, ABOVE_0] = 0.94
    # epochs; exponential falls all the while, step once at their end
    decay_epochs: Annotated[float, ABOVE_0] = 2.0
    # of sgd and rmsprop: share of the last step that the next one repeats
    momentum: Annotated[float, FRACTION] = 0.9
    nesterov: bool = True  # of sgd: the gradient counts as if that share were taken already
    # of rmsprop: share of the mean squares kept at each step
    decay: Annotated[float, FRACTION] = 0.9
    # keeps a division finite; null: rmsprop 1.0 (slim), adam 1e-7
    epsilon: Annotated[float | None, ABOVE_0] = None
    # longest gradient, over all weights; null: any length
    clip_norm: Annotated[float | None, ABOVE_0] = None
    # share of the weights' averages kept at each step; null: none kept
    ema: Annotated[float | None, FRACTION] = None


@dataclass(frozen=True)
class TrainingConfig:
    epochs: Annotated[int, AT_LEAST_1] = 30
    seed: Annotated[int, SEEDS] = 0
    # auto, float32, mixed_float16 or mixed_bfloat16
    precision: Annotated[str, OneOf(PRECISIONS)] = "auto"
    label_smoothing: Annotated[float, FRACTION] = 0.0  # share of the target spread over all classes
    # of each auxiliary loss; null: the network's published weight
    aux_weight: Annotated[float | None, AT_LEAST_0] = None
    # of `epochs`, the first, in which the classifiers alone are trained
    head_epochs: Annotated[int, AT_LEAST_0] = 0
    freeze_batch_norm: bool = False  # keep the moving statistics and shifts that were loaded
    warm_up_statistics: bool = False  # of step n keep (1 + n) / (10 + n) at most: for short runs
    # batches that give the result its statistics; 0: the moving ones
    recalibrate_batch_norm: Annotated[int, AT_LEAST_0] = 0
    # in a row with a loss or gradient that is not finite, then the run ends
    max_bad_steps: Annotated[int, AT_LEAST_1] = 10
    # steps a call into TensorFlow; more helps where a step is short
    steps_per_execution: Annotated[int, AT_LEAST_1] = 1
    deterministic: bool = False  # the same bits in every run on this machine; slower on a GPU


@dataclass(frozen=True)
class Config:
    """All that is needed to run a training again, save the code and the data themselves."""

    recipe: str = "default"
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)

    @classmethod
    def parse(cls, values: Mapping, where: str) -> Config:
        """A config from nested plain values; `where` names their file in the errors."""
        sections = {
            f.name: f.default_factory for f in dataclasses.fields(cls) if f.name != "recipe"
        }
        if not isinstance(values, Mapping):
            raise UserError(f"{where} holds no sections; a recipe has: {', '.join(sections)}")
        parsed = {"recipe": str(values.get("recipe", "default"))}
        for name, content in values.items():
            if name == "recipe":
                continue
            if name not in sections:
                raise unknown(f"section of {where}", str(name), sections)
            if not isinstance(content, Mapping):
                raise UserError(f"section '{name}' of {where} holds no 'key: value' lines")
            parsed[name] = _section(sections[name], name, content, where)
        config = cls(**parsed)
        _check_ranges(config)
        return config

    def override(self, settings: Iterable[str]) -> Config:
        """This config with `section.key=value` settings, values in YAML's notation."""
        values = self.as_dict()
        for setting in settings:
            key, equals, text = setting.partition("=")
            section, dot, name = key.strip().partition(".")
            if not equals or not dot:
                raise UserError(
                    f"--set takes section.key=value such as optimizer.learning_rate=0.1, got '{setting}'"
                )
            if section not in values or section == "recipe":
                raise unknown("section", section, [s for s in values if s != "recipe"])
            values[section] = {**values[section], name: _yaml(text, f"--set {setting}")}
        return Config.parse(values, "--set")

    def as_dict(self) -> dict:
        """Plain nested values, as they stand in `config.yaml`."""
        plain = dataclasses.asdict(self)
        for section in plain.values():
            if isinstance(section, dict):
                section.update({k: list(v) for k, v in section.items() if isinstance(v, tuple)})
                section.update({k: dict(v) for k, v in section.items() if isinstance(v, dict)})
        return plain

    def flat(self) -> dict:
        """`{"model.size": 48, ...}`; two recipes with the same settings are the same."""
        sections = {name: v for name, v in self.as_dict().items() if isinstance(v, dict)}
        return {f"{name}.{key}": value for name, v in sections.items() for key, value in v.items()}


def read_yaml(path: str | Path):
    """The content of a YAML file; `UserError` where it cannot be read."""
    try:
        return _yaml(Path(path).read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not a text file"
        raise UserError(f"cannot read {path}: {reason}") from error


def _yaml(text: str, where: str):
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        line = getattr(getattr(error, "problem_mark", None), "line", 0) + 1
        raise UserError(
            f"{where} is not YAML: {error.problem or 'unreadable'} in line {line}"
        ) from error


def _section(factory, section: str, content: Mapping, where: str):
    hints = typing.get_type_hints(factory)
    for key in content:
        if key not in hints:
            raise unknown(f"key in section '{section}' of {where}", str(key), hints)
    return factory(
        **{key: _typed(value, hints[key], f"{section}.{key}") for key, value in content.items()}
    )


def _typed(value, hint, key: str):
    """`value` as the field's type, where nothing is lost by it."""
    allowed = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    if value is None and type(None) in allowed:
        return None
    for kind in allowed:
        if typing.get_origin(kind) is tuple and isinstance(value, list | tuple) and len(value) == 2:
            return tuple(_typed(item, float, key) for item in value)
        if kind is float and not isinstance(value, bool):
            # YAML 1.1 reads 1e-3 as text: a number to everybody else.
            try:
                return float(value)
            except (TypeError, ValueError):
                continue
        if (
            isinstance(kind, type)
            and isinstance(value, kind)
            and not (kind is int and isinstance(value, bool))
        ):
            return FrozenDict(value) if kind is dict else value
    raise UserError(f"{key} must be {_describe(hint)}, got {value!r}")


def _describe(hint) -> str:
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
    """Values that would fail far from where they were written, or not at all."""
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
