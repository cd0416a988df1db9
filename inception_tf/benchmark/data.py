# SPDX-License-Identifier: Apache-2.0
"""The throughput of the input pipeline, stage by stage, and whether it or the network is the bottleneck."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass

import tensorflow as tf

from inception_tf.config import Config, DataConfig
from inception_tf.data import pipeline
from inception_tf.data.loading import encoded_reader
from inception_tf.data.tuning import untuned
from inception_tf.errors import UserError
from inception_tf.training.compile import compiled_model
from inception_tf.training.plan import TrainingPlan, make_plan

__all__ = ["DataTiming", "time_data"]

BURN_IN = 3  # batches before the clock starts: tracing, and what was prefetched
EPOCHS = 1_000_000  # never reached


@dataclass(frozen=True)
class DataTiming:
    """Throughput of the input pipeline up to each of its stages, and of the training step."""

    model: str
    data: str
    batch_size: int
    size: int
    precision: str
    # images per second up to each stage: `read`, `decode` (with crop and resize), `distort` (with mixup)
    stages: dict[str, float]
    step: float  # images per second of the training step

    @property
    def milliseconds(self) -> dict[str, float]:
        """What each stage adds, in milliseconds per image; 0 where that is lost in the noise."""
        times = [1000 / rate for rate in self.stages.values()]
        before = [0.0, *times[:-1]]
        added = (max(0.0, now - then) for now, then in zip(times, before, strict=True))
        return dict(zip(self.stages, added, strict=True))

    @property
    def slower(self) -> str:
        """The bottleneck of the training: `data` or `model`."""
        return "data" if self.data_rate < self.step else "model"

    @property
    def data_rate(self) -> float:
        """Images per second of the whole pipeline."""
        return list(self.stages.values())[-1]

    def as_dict(self) -> dict:
        """All figures by name.

        Returns:
            The fields, `milliseconds` and `slower`.
        """
        return dataclasses.asdict(self) | {
            "milliseconds": self.milliseconds,
            "slower": self.slower,
        }


def time_data(config: Config, steps: int = 20) -> DataTiming:
    """Times the input pipeline stage by stage, then the training step on one batch in memory.

    Each is timed alone, with all cores.

    Args:
        config: which data, network and recipe to time.
        steps: batches, and training steps, to time; at least 1.

    Returns:
        The timing.

    Raises:
        UserError: `steps` is below 1, or the configuration has a mistake.
    """
    if steps < 1:
        raise UserError(f"the number of steps must be at least 1, got {steps}")
    plan = make_plan(config)
    stages = {
        name: _rate(batches, plan.config.data.batch_size, steps)
        for name, batches in _stages(plan).items()
    }
    return DataTiming(
        config.model.name,
        config.data.name,
        config.data.batch_size,
        plan.size,
        plan.precision.policy,
        stages,
        _step_rate(plan, steps),
    )


def _stages(plan: TrainingPlan) -> dict[str, tf.data.Dataset]:
    data = plan.config.data
    plain = dataclasses.replace(
        data,
        flip=False,
        photometric="none",
        auto_augment="none",
        random_erasing=0.0,
        mixup_alpha=0.0,
        cutmix_alpha=0.0,
    )

    def training(chosen: DataConfig) -> tf.data.Dataset:
        return pipeline.training_batches(
            plan.train,
            chosen,
            size=plan.size,
            classes=plan.classes,
            seed=plan.config.training.seed,
            epochs=EPOCHS,
            bad=plan.bad[0],
        )

    stages = {"decode": training(plain), "distort": training(data)}
    if plan.train.decoded:
        return stages
    read, count = encoded_reader(plan.train), len(plan.train)
    files = tf.data.Dataset.range(count).repeat()
    files = files.map(read, num_parallel_calls=tf.data.AUTOTUNE).batch(data.batch_size)
    return {"read": untuned(files.prefetch(tf.data.AUTOTUNE))} | stages


def _rate(batches: tf.data.Dataset, batch_size: int, steps: int) -> float:
    iterator = iter(batches)
    return batch_size / _seconds(lambda: next(iterator), steps)


def _step_rate(plan: TrainingPlan, steps: int) -> float:
    """Images per second of the compiled training step, with its batch in memory."""
    model = compiled_model(plan)
    images, labels = next(iter(plan.training_data()))
    targets = dict.fromkeys(model.output, labels)

    def train():
        return model.train_on_batch(images, targets, return_dict=True)

    return plan.config.data.batch_size / _seconds(train, steps)


def _seconds(call: Callable[[], object], steps: int) -> float:
    """Seconds per call, on average over `steps`."""
    for _ in range(BURN_IN):
        call()
    started = time.perf_counter()
    for _ in range(steps):
        call()
    return (time.perf_counter() - started) / steps
