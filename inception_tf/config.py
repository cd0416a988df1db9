# SPDX-License-Identifier: Apache-2.0
"""A run as frozen values: which network, which data, which optimizer, how long.  One level of nesting, no TensorFlow.

A recipe is a YAML file with these sections; `Config.parse` refuses what it does not know and names
the nearest key, `Config.override` takes `--set optimizer.learning_rate=0.1`.
"""

from __future__ import annotations

import dataclasses
import re
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from inception_tf.errors import UserError, unknown

__all__ = ["Config", "DataConfig", "ModelConfig", "OptimizerConfig", "TrainingConfig", "read_yaml"]

PHOTOMETRIC = ("full", "reduced", "none")
AUTO_AUGMENT = ("none", "randaugment", "autoaugment")
# The Model Garden's for classification.  Not its deit3_three_augment: that one draws the width of its
# blur from NumPy while the graph is made, one width for the whole run.
AUTOAUGMENT_POLICIES = ("v0", "reduced_imagenet", "reduced_cifar10", "svhn", "simple", "vit")
SCHEDULES = ("cosine", "exponential", "step", "constant")
PRECISIONS = ("auto", "float32", "mixed_float16", "mixed_bfloat16")


@dataclass(frozen=True)
class ModelConfig:
    name: str = "inception_v1"
    size: int | None = None  # pixels, height and width; null: the network's published size
    switches: dict = field(default_factory=dict)  # the network's own, as in {lrn: true}
    weights: str | None = None  # a file or a release to begin with; null: fresh ones
    new_head: bool = True  # begin with fresh classifiers, whatever `weights` has
    aux_logits: bool | None = (
        False  # train with the auxiliary classifiers, which the result lacks; null: if there are any
    )
    dropout: float | None = None  # share of features; null: the network's published share
    batch_norm_momentum: float = 0.99  # share of the old moving statistics kept at each step
    weight_decay: float = 0.0  # slim's L2: the loss gains this times sum(kernel**2) / 2
    activation: str = "relu"  # after every convolution, a Keras name
    initializer_gain: float = 1.0  # factor on the initial weights of every convolution
    width_multiplier: float = 1.0  # factor on every convolution's filters

    def structure(self) -> dict:
        """The arguments of `create_model` that decide the layers between the image and the logits."""
        own = {"activation": self.activation, "width_multiplier": self.width_multiplier}
        return own | self.switches


@dataclass(frozen=True)
class DataConfig:
    name: str = "digits"  # digits, tfds:NAME[/VERSION], folder:PATH or tfrecord:GLOB
    label_offset: int = (
        0  # subtracted from the labels of TFRecord files; 1: class 0 is a background
    )
    cache: str | None = None  # decoded images: memory, a folder for a file of them; null: none
    max_bad: float = 0.01  # share of a split's images that may be unreadable and skipped
    batch_size: int = 32  # images a step
    service: str | None = (
        None  # a tf.data service's dispatcher, grpc://host:5000; null: this process
    )
    crop: float | None = 0.875  # share of each side that evaluation keeps; null: the whole image
    box_area: tuple[float, float] | None = (0.05, 1.0)  # share of the image a training crop has
    box_aspect: tuple[float, float] = (0.75, 1.33)  # width / height of a training crop
    flip: bool = True  # mirror half of the training images left to right
    photometric: str = "none"  # changes of light and colour: full (slim's), reduced or none
    auto_augment: str = "none"  # none, randaugment or autoaugment
    randaugment_layers: int = 2  # operations an image
    randaugment_magnitude: float = 10.0  # strength of each operation, 0 to 10
    autoaugment_policy: str = "v0"  # a name in AUTOAUGMENT_POLICIES
    random_erasing: float = 0.0  # share of the training images with a rectangle of noise
    mixup_alpha: float = 0.0  # of the beta distribution of the shares; 0: no mixup
    cutmix_alpha: float = 0.0  # of the beta distribution of the shares; 0: no cutmix


@dataclass(frozen=True)
class OptimizerConfig:
    name: str = "adam"  # adam, sgd, or rmsprop with TensorFlow 1's start, as slim has it
    learning_rate: float = 1e-3  # at its highest, after the warm-up
    warmup_epochs: float = 1.0  # epochs over which the rate rises from zero
    head_learning_rate: float = 1e-3  # constant, over training.head_epochs
    schedule: str = "cosine"  # after the warm-up: cosine, exponential, step or constant
    final_rate: float = 0.0  # share of learning_rate left at the end of the cosine
    rate_decay: float = 0.94  # factor on the rate over decay_epochs, of exponential and step
    decay_epochs: float = 2.0  # epochs; exponential falls all the while, step once at their end
    momentum: float = 0.9  # of sgd and rmsprop: share of the last step that the next one repeats
    nesterov: bool = True  # of sgd: the gradient counts as if that share were taken already
    decay: float = 0.9  # of rmsprop: share of the mean squares kept at each step
    epsilon: float | None = None  # keeps a division finite; null: rmsprop 1.0 (slim), adam 1e-7
    clip_norm: float | None = None  # longest gradient, over all weights; null: any length
    ema: float | None = None  # share of the weights' averages kept at each step; null: none kept


@dataclass(frozen=True)
class TrainingConfig:
    epochs: int = 30
    seed: int = 0
    precision: str = "auto"  # auto, float32, mixed_float16 or mixed_bfloat16
    label_smoothing: float = 0.0  # share of the target spread over all classes
    aux_weight: float | None = None  # of each auxiliary loss; null: the network's published weight
    head_epochs: int = 0  # of `epochs`, the first, in which the classifiers alone are trained
    freeze_batch_norm: bool = False  # keep the moving statistics and shifts that were loaded
    warm_up_statistics: bool = False  # of step n keep (1 + n) / (10 + n) at most: for short runs
    recalibrate_batch_norm: int = (
        0  # batches that give the result its statistics; 0: the moving ones
    )
    max_bad_steps: int = (
        10  # in a row with a loss or gradient that is not finite, then the run ends
    )
    steps_per_execution: int = 1  # steps a call into TensorFlow; more helps where a step is short
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
            return value
    raise UserError(f"{key} takes {_describe(hint)}, got {value!r}")


def _describe(hint) -> str:
    words = {
        int: "a whole number",
        float: "a number",
        bool: "true or false",
        dict: "names with values, as in {lrn: true}",
        str: "a text",
        type(None): "null",
    }
    allowed = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    return " or ".join(words.get(kind, "two numbers [low, high]") for kind in allowed)


def _check_ranges(config: Config) -> None:
    """Values that would fail far from where they were written."""
    positive = {
        "data.batch_size": config.data.batch_size,
        "data.randaugment_layers": config.data.randaugment_layers,
        "training.epochs": config.training.epochs,
        "training.max_bad_steps": config.training.max_bad_steps,
        "training.steps_per_execution": config.training.steps_per_execution,
        "optimizer.learning_rate": config.optimizer.learning_rate,
        "optimizer.head_learning_rate": config.optimizer.head_learning_rate,
        "optimizer.rate_decay": config.optimizer.rate_decay,
        "optimizer.decay_epochs": config.optimizer.decay_epochs,
        "optimizer.epsilon": 1 if config.optimizer.epsilon is None else config.optimizer.epsilon,
        "optimizer.clip_norm": 1
        if config.optimizer.clip_norm is None
        else config.optimizer.clip_norm,
        "model.width_multiplier": config.model.width_multiplier,
        "model.initializer_gain": config.model.initializer_gain,
    }
    for key, value in positive.items():
        if value <= 0:
            raise UserError(f"{key} takes a number above 0, got {value}")
    for key in ("head_epochs", "recalibrate_batch_norm"):
        if getattr(config.training, key) < 0:
            raise UserError(f"training.{key} takes 0 or more, got {getattr(config.training, key)}")
    if config.training.head_epochs >= config.training.epochs:
        raise UserError(
            f"training.head_epochs takes fewer than training.epochs, {config.training.epochs}, got"
            f" {config.training.head_epochs}"
        )
    shares = {
        "training.label_smoothing": config.training.label_smoothing,
        "model.batch_norm_momentum": config.model.batch_norm_momentum,
        "model.dropout": config.model.dropout or 0,
        "optimizer.momentum": config.optimizer.momentum,
        "optimizer.decay": config.optimizer.decay,
        "optimizer.ema": config.optimizer.ema or 0,
    }
    for key, value in shares.items():
        if not 0 <= value < 1:
            raise UserError(f"{key} takes a share from 0 to below 1, got {value}")
    if config.data.crop is not None and not 0 < config.data.crop <= 1:
        raise UserError(
            f"data.crop takes a share above 0 and up to 1, or null, got {config.data.crop}"
        )
    for key in ("box_area", "box_aspect"):
        low, high = getattr(config.data, key) or (1, 1)
        if not 0 < low <= high:
            raise UserError(
                f"data.{key} takes [low, high] with 0 < low <= high, got [{low}, {high}]"
            )
    _check_distortions(config.data)
    _check_service(config.data)
    if config.optimizer.schedule not in SCHEDULES:
        raise unknown("optimizer.schedule", config.optimizer.schedule, SCHEDULES)
    if config.training.precision not in PRECISIONS:
        raise unknown("precision", config.training.precision, PRECISIONS)


def _check_service(data: DataConfig) -> None:
    if data.service is None:
        return
    if not re.fullmatch(r"grpc://[^/\s]+:\d+", data.service):
        raise UserError(
            f"data.service takes the address of a tf.data service's dispatcher, grpc://host:5000, or null,"
            f" got '{data.service}'"
        )
    if data.cache == "memory":
        raise UserError(
            "data.cache=memory keeps images in this process, where data.service does not read them;"
            " take a folder that the service's workers see, or no cache"
        )


def _check_distortions(data: DataConfig) -> None:
    names = {
        "photometric": PHOTOMETRIC,
        "auto_augment": AUTO_AUGMENT,
        "autoaugment_policy": AUTOAUGMENT_POLICIES,
    }
    for key, known in names.items():
        if getattr(data, key) not in known:
            raise unknown(f"data.{key}", getattr(data, key), known)
    # 10 is the top of the Model Garden's scale; beyond it thresholds leave the range of a pixel and wrap around.
    for key, highest in (("random_erasing", 1), ("randaugment_magnitude", 10), ("max_bad", 1)):
        if not 0 <= getattr(data, key) <= highest:
            raise UserError(
                f"data.{key} takes a number from 0 to {highest}, got {getattr(data, key)}"
            )
    for key in ("mixup_alpha", "cutmix_alpha"):
        # Below 0.1 both gamma draws of a share may be 0 in float32, and their ratio no number.
        if getattr(data, key) and not getattr(data, key) >= 0.1:
            raise UserError(
                f"data.{key} takes 0, for none, or a number from 0.1, got {getattr(data, key)}"
            )
