# SPDX-License-Identifier: Apache-2.0
"""The small experiments by name: what each shows, and its default form.  Imported for `--help`, so without TensorFlow."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, cast

from inception_tf.errors import UserError

if TYPE_CHECKING:
    from inception_tf.experiments.study import Study

__all__ = ["EXPERIMENTS", "Experiment", "MakeStudy", "StudySettings"]

CIFAR = "tfds:cifar10"


@dataclass(frozen=True)
class StudySettings:
    """What a user chooses of an experiment; everything else is constant in its module."""

    data: str  # a source's name
    steps: int  # of each training
    seeds: int  # trainings of each kind, with the seeds 0, 1, ...

    def __post_init__(self):
        for name in ("steps", "seeds"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} must be 1 or more, got {getattr(self, name)}")


class MakeStudy(Protocol):
    """What the module of an experiment has under the name `make_study`."""

    def __call__(self, setting: StudySettings) -> Study:
        """Reads the data and lists the trainings.

        Args:
            setting: of the experiment.

        Returns:
            Its trials and their summary.
        """


@dataclass(frozen=True)
class Experiment:
    """An experiment that `run_study` runs; its module is named after it and has `make_study`."""

    name: str
    shows: str  # a sentence, the first of its help
    source: str  # where the statement stands
    default: StudySettings

    def make_study(self) -> MakeStudy:
        """Imports the module of the experiment.

        Returns:
            Its `make_study`.
        """
        module = self.name.replace("-", "_")
        found = importlib.import_module(f"inception_tf.experiments.studies.{module}")
        return cast(MakeStudy, found.make_study)


EXPERIMENTS: dict[str, Experiment] = {
    experiment.name: experiment
    for experiment in (
        Experiment(
            "bn-outside",
            "Normalization outside of the gradient step: the bias grows and the loss stands still.",
            "Ioffe and Szegedy 2015, section 2",
            StudySettings("digits", steps=1000, seeds=3),
        ),
        Experiment(
            "domain",
            "Adaptation to other images by recomputing the statistics of batch normalization alone.",
            "Ioffe and Szegedy 2015, section 5",
            StudySettings(CIFAR, steps=1000, seeds=3),
        ),
        Experiment(
            "whitening",
            "Full whitening by Cov^-1/2 against normalizing each activation: steps, and time per step.",
            "Ioffe and Szegedy 2015, sections 2 and 3",
            StudySettings("digits", steps=400, seeds=3),
        ),
        Experiment(
            "scale-invariance",
            "BN(Wu) = BN((aW)u), gradients divided by a, and learning rates that only BN survives.",
            "Ioffe and Szegedy 2015, section 3.3",
            StudySettings("digits", steps=300, seeds=3),
        ),
        Experiment(
            "standardization",
            "The standardization layer behind the nonlinearity beside batch normalization before it.",
            "Ioffe and Szegedy 2015, section 5, on Gülçehre and Bengio 2013",
            StudySettings("digits", steps=500, seeds=3),
        ),
        Experiment(
            "async-sgd",
            "A simulation of ten replicas with five stale steps each, against synchronous training.",
            "Ioffe and Szegedy 2015, section 4.2",
            StudySettings("digits", steps=1000, seeds=3),
        ),
        Experiment(
            "batch-size",
            "The regularizing effect of batch normalization: test accuracy against the batch's size.",
            "Ioffe and Szegedy 2015, sections 3.4 and 4.2.1, and commentaries on it",
            StudySettings(CIFAR, steps=1000, seeds=2),
        ),
        Experiment(
            "head",
            "Average pooling or fully connected layers, with and without dropout and auxiliary classifiers.",
            "Szegedy et al. 2014, section 5",
            StudySettings(CIFAR, steps=800, seeds=2),
        ),
        Experiment(
            "factorization",
            "Large convolutions and what replaces them: numbers, time by grid, accuracy at equal cost.",
            "Szegedy et al. 2015, sections 3.1 and 3.2",
            StudySettings(CIFAR, steps=300, seeds=2),
        ),
        Experiment(
            "residual",
            "Inception-v4's blocks against Inception-ResNet's at equal cost, and the residuals' scale.",
            "Szegedy et al. 2016, sections 3.1 to 3.3",
            StudySettings(CIFAR, steps=200, seeds=1),
        ),
    )
}
