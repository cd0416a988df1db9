# SPDX-License-Identifier: Apache-2.0
"""The run folder: what a training writes and all later commands read."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from inception_tf.config import Config, read_yaml
from inception_tf.data.labels import read_labels
from inception_tf.data.sources.open import open_source
from inception_tf.data.sources.splits import Source
from inception_tf.errors import UserError
from inception_tf.host.atomic_io import atomic_write_text
from inception_tf.host.environment import environment
from inception_tf.host.files import read_text
from inception_tf.models import find_network
from inception_tf.ranges import ABOVE_0

if TYPE_CHECKING:
    import keras

__all__ = ["Run", "open_data"]

BESIDE_SETTINGS = ("run", "environment")  # keys of config.yaml
OF_THE_NETWORK = ("multi_label", "label_separator")  # settings of `data` that a run's network keeps


@dataclass(frozen=True)
class Run:
    """The paths inside a run folder, and the files of it that are read back.

    Example:

        model = Run(Path("runs/digits")).model()
    """

    path: Path

    @property
    def config_file(self) -> Path:
        return self.path / "config.yaml"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def model_file(self) -> Path:
        return self.path / "model.keras"

    @property
    def labels_file(self) -> Path:
        return self.path / "labels.txt"

    def config(self) -> Config:
        """Reads the configuration of the run.

        Returns:
            The resolved configuration, as `write_config` stored it.

        Raises:
            UserError: the folder is no run folder, or its `config.yaml` is damaged.
        """
        if not self.config_file.is_file():
            raise UserError(
                f"{self.path} is no run folder: it has no config.yaml; `inception-tf train` makes one"
            )
        values = read_yaml(self.config_file)
        if isinstance(values, dict):
            values = {key: value for key, value in values.items() if key not in BESIDE_SETTINGS}
        return Config.parse(values, str(self.config_file))

    def identity(self) -> str | None:
        """The run's own id, which each of its checkpoints has too.

        Returns:
            The id that `write_config` stored; None for a run of version 0.1.0, and where there is no run.
        """
        values = read_yaml(self.config_file) if self.config_file.is_file() else None
        return str(values["run"]) if isinstance(values, dict) and values.get("run") else None

    def write_config(self, config: Config, identity: str) -> None:
        """Writes `config.yaml`, making the folder where it is missing.

        Args:
            config: the resolved configuration; versions and git commit are stored beside it.
            identity: the run's own id.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        values = config.as_dict() | {"run": identity, "environment": environment()}
        atomic_write_text(self.config_file, yaml.safe_dump(values, sort_keys=False))

    def labels(self) -> tuple[str, ...]:
        """The class names of the run.

        Returns:
            One name per class, in the order of the network's outputs.
        """
        return read_labels(self.labels_file)

    @property
    def temperature_file(self) -> Path:
        return self.path / "temperature.json"

    def temperature(self) -> float:
        """Reads the number that the logits of the run are divided by.

        Returns:
            What `inception-tf evaluate --temperature` fitted; 1.0 where it was not asked to.

        Raises:
            UserError: the file is damaged.
        """
        try:
            if not self.temperature_file.exists():
                return 1.0
            value = json.loads(read_text(self.temperature_file))["temperature"]
            ABOVE_0.check(f"the temperature in {self.temperature_file}", value)
            return float(value)
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            if isinstance(error, UserError):
                raise
            raise UserError(
                f"{self.temperature_file} is damaged; remove it, or fit the temperature again with:"
                f" inception-tf evaluate {self.path} --temperature"
            ) from error

    def size(self) -> int:
        """The input size of the network.

        Returns:
            Height and width in pixels.
        """
        model = self.config().model
        return model.size or find_network(model.name).size

    def model(self) -> keras.Model:
        """Loads the trained network.

        Returns:
            A model (N, size, size, 3) float32 in [-1, 1] → (N, classes) float32 probabilities.

        Raises:
            UserError: the run is not finished, so there is no model yet.
        """
        config = self.config()
        if not self.model_file.is_file():
            raise UserError(
                f"{self.path} holds no finished model; finish the run with: inception-tf train --out {self.path} --resume"
            )
        from inception_tf.applications import create_model
        from inception_tf.weights.load import load_weights

        classes = len(self.labels())
        size = self.size()
        model = create_model(
            config.model.name,
            classes=classes,
            input_shape=(size, size, 3),
            classifier_activation=config.data.classifier_activation(),
            **config.model.structure(),
        )
        load_weights(model, self.model_file)  # all of them, the classifier too
        return model


def open_data(path: str, name: str | None = None, **reading: Any) -> Source:
    """Opens a named data set, or the one that a run was trained on.

    Args:
        path: a run folder; only read where `name` is None.
        name: a data set as `--data` takes it; None: the run's.
        **reading: how it is read, as `DataConfig.reading` has it; what is missing: as the run does, or the default.

    Returns:
        The data source.

    Raises:
        UserError: `name` is None and `path` is a weights file, which has no data set.
    """
    run = Run(Path(path))
    config = run.config().data if run.config_file.is_file() else None
    if name:
        # What the network tells apart decides what its data is.
        kept = {} if config is None else {key: getattr(config, key) for key in OF_THE_NETWORK}
        return open_source(name, **(kept | reading))
    if Path(path).is_file():
        raise UserError(f"{path} is a weights file; say with --data what to evaluate it on")
    config = config or run.config().data  # its error, where there is no run
    return open_source(config.name, **(config.reading() | reading))
