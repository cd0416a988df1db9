# SPDX-License-Identifier: Apache-2.0
"""The configuration of a run as frozen values: network, data, optimizer, length.  One level of nesting, no TensorFlow.

A recipe is a YAML file with these sections.  `Config.parse` rejects keys it does not know and suggests
the closest one; `Config.override` applies `--set optimizer.learning_rate=0.1`.  Meaning, unit and allowed
values stand beside each field; a number without a range may be any finite one.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from inception_tf.config.sections import (
    AUTOAUGMENT_POLICIES,
    MEANING,
    PHOTOMETRIC,
    UNIT,
    WITHIN,
    DataConfig,
    ModelConfig,
    OptimizerConfig,
    TrainingConfig,
)
from inception_tf.config.values import FrozenDict, parse_yaml, quoted, read_yaml, typed_value
from inception_tf.errors import UserError, unknown
from inception_tf.ranges import Range

__all__ = [
    "AUTOAUGMENT_POLICIES",
    "MEANING",
    "PHOTOMETRIC",
    "UNIT",
    "WITHIN",
    "Config",
    "DataConfig",
    "ModelConfig",
    "OptimizerConfig",
    "TrainingConfig",
    "quoted",
    "read_yaml",
]


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
    def settings(cls) -> dict[str, dataclasses.Field]:
        """Lists what can be set.

        Returns:
            `section.key` to its field, whose metadata has its `MEANING`, its `UNIT` and the values that it may have.
        """
        return {
            f"{name}.{key.name}": key
            for name, section in typing.get_type_hints(cls).items()
            if dataclasses.is_dataclass(section)
            for key in dataclasses.fields(section)
        }

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
                alike = _settings_called(key.strip())
                hint = f"; did you mean {' or '.join(alike)}?" if equals and alike else ""
                raise UserError(
                    f"--set must be section.key=value such as optimizer.learning_rate=0.1, got '{setting}'{hint}"
                )
            if section not in values or section == "recipe":
                raise unknown("section", section, [s for s in values if s != "recipe"])
            values[section] = {**values[section], name: parse_yaml(text, f"--set {setting}")}
        return Config.parse(values, "--set")

    def with_preprocessing(self, preprocessing: Mapping | None) -> Config:
        """Returns a copy of this configuration with another `data.preprocessing`.

        Args:
            preprocessing: fields of `Preprocessing` without size and scale; None: not resolved.

        Returns:
            The copy.
        """
        chosen = None if preprocessing is None else FrozenDict(preprocessing)
        return dataclasses.replace(self, data=dataclasses.replace(self.data, preprocessing=chosen))

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


def _settings_called(name: str) -> list[str]:
    """The keys `section.name`, of the names that are nearest to one."""
    keys = Config.settings()
    names = {key.partition(".")[2] for key in keys}
    near = [name] if name in names else difflib.get_close_matches(name, names, n=1)
    return [key for key in keys if key.partition(".")[2] in near]


def _section(factory: type, section: str, content: Mapping, where: str) -> Any:
    hints = typing.get_type_hints(factory)
    for key in content:
        if key not in hints:
            elsewhere = [known for known in Config.settings() if known.endswith(f".{key}")]
            if elsewhere:
                raise UserError(
                    f"'{key}' is no key of section '{section}' of {where}; did you mean {' or '.join(elsewhere)}?"
                )
            raise unknown(f"key in section '{section}' of {where}", str(key), hints)
    return factory(
        **{
            key: typed_value(value, hints[key], f"{section}.{key}")
            for key, value in content.items()
        }
    )


def _check_ranges(config: Config) -> None:
    """Rejects values that would fail far from where they were written, or not at all."""
    values = config.flat()
    for name, key in Config.settings().items():
        within = key.metadata[WITHIN]
        if within is None and isinstance(values[name], float):
            within = Range()  # finite
        if within is not None and values[name] is not None:
            within.check(name, values[name])
    training = config.training
    if training.head_epochs >= training.epochs:
        raise UserError(
            f"training.head_epochs must be below training.epochs, {training.epochs}, got"
            f" {training.head_epochs}; the classifier is trained alone for them, so add --set training.head_epochs="
            f"{training.epochs // 3}"
        )
    if config.data.balance and config.data.shuffle != "full":
        raise UserError(
            f"data.balance draws images in an order of its own; take data.shuffle=full with it, not"
            f" {config.data.shuffle}"
        )
    if config.data.balance and config.data.multi_label:
        raise UserError(
            "data.balance draws an image for its class, and with data.multi_label it has several; take"
            " training.class_weights=balanced instead"
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
    if data.shuffle == "block":
        raise UserError(
            "data.shuffle=block is for one reader, and data.service has many; take data.shuffle=full with it"
        )
    if data.cache == "memory":
        raise UserError(
            "data.cache=memory keeps images in this process, where data.service does not read them;"
            " take a folder that the service's workers see, or no cache"
        )
