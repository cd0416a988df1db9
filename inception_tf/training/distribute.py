# SPDX-License-Identifier: Apache-2.0
"""More than one device or machine: who takes part in a training, who reads which images, and what `fit` lacks for it."""

from __future__ import annotations

import json
import os
import re
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property

import keras
import tensorflow as tf

from inception_tf.errors import UserError
from inception_tf.nn.keras_internals import require

__all__ = ["Cluster", "DistributedModel", "Team", "make_team", "read_cluster"]

require("_maybe_symbolic_build")

EXAMPLE = '{"cluster": {"worker": ["a:2222", "b:2222"]}, "task": {"type": "worker", "index": 0}}'
JOIN_TIMEOUT_S = (
    1800.0  # seconds for the chief to come: a cluster starts workers as machines become free
)
TRAINERS = ("chief", "worker")  # kinds of tasks that train, in the order TensorFlow counts them

# What TensorFlow raises where a peer is gone, restarted or silent.
LOST = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.FailedPreconditionError,
    tf.errors.InternalError,
)

SIGNS = re.compile("ollective ops is aborted|onnection|failed to connect|heartbeat")


@dataclass(frozen=True)
class Cluster:
    """The workers of one training, the first of them its chief, and which one this process is."""

    addresses: tuple[str, ...]  # host:port
    index: int


def read_cluster() -> Cluster | None:
    """What the environment's TF_CONFIG says; None without one, or with one worker only.

    `UserError` where it is not what MultiWorkerMirroredStrategy takes.
    """
    text = os.environ.get("TF_CONFIG", "").strip()
    try:
        config = json.loads(text or "{}")
        tasks = config.get("cluster", {})
        listed = {kind: list(tasks.get(kind, ())) for kind in TRAINERS}
    except (ValueError, AttributeError, TypeError) as error:
        raise UserError(f"TF_CONFIG is not JSON such as {EXAMPLE}, got '{text}'") from error
    others = sorted(set(tasks) - set(TRAINERS))
    if others:
        raise UserError(
            f"TF_CONFIG lists tasks of kind '{others[0]}', and a training has none but workers and one chief;"
            f" leave them out: {EXAMPLE}"
        )
    addresses = tuple(listed["chief"] + listed["worker"])
    if not addresses:
        return None
    index = _place(config.get("task"), listed)
    return Cluster(addresses, index) if len(addresses) > 1 else None


def _place(task, listed: dict[str, list]) -> int:
    """The place of `task` among all workers."""
    kind = task.get("type") if isinstance(task, dict) else None
    index = task.get("index") if isinstance(task, dict) else None
    numbers = range(len(listed.get(kind, ())))
    # A launcher's variable may arrive as text.
    if not str(index).isdecimal() or int(index) not in numbers:
        known = [f"{k} {n}" for k in TRAINERS for n in range(len(listed[k]))]
        raise UserError(
            f"TF_CONFIG has to say in 'task' which worker this process is, one of {', '.join(known)},"
            f" got {json.dumps(task)}; the whole looks like {EXAMPLE}"
        )
    return int(index) + (len(listed["chief"]) if kind == "worker" else 0)


@dataclass(frozen=True)
class Team:
    """All processes and devices that train one model together, as this process sees them.

    The batch of a step is data.batch_size images, over all: worker w of n reads its rows
    w*B/n..(w+1)*B/n and deals them to its devices.  Gradients are those of the mean over the whole
    batch, and batch normalization's statistics are the whole batch's, so the weights are those of
    one device up to the order of sums.  Masks of dropout are the same on every device, as its seeds
    are: each image has one of B/replicas masks.
    """

    strategy: tf.distribute.Strategy = field(default_factory=tf.distribute.get_strategy)
    cluster: Cluster | None = None

    @property
    def workers(self) -> int:
        return len(self.cluster.addresses) if self.cluster else 1

    @property
    def index(self) -> int:
        return self.cluster.index if self.cluster else 0

    @property
    def is_chief(self) -> bool:
        """Is this the process that writes?"""
        return self.index == 0

    @property
    def replicas(self) -> int:
        return self.strategy.num_replicas_in_sync

    @property
    def share(self) -> tuple[int, int]:
        """Which part of each batch this process reads, of how many: `pipeline.training` takes it."""
        return self.index, self.workers

    def check_steps(self, batch_size: int, steps_per_execution: int) -> None:
        """`UserError` where a batch cannot be dealt evenly, or several replicas cannot take their steps so."""
        if self.replicas > 1 and steps_per_execution > 1:
            # TensorFlow 2.20 cannot run the loop around them: "You must feed a value for placeholder".
            raise UserError(
                f"training.steps_per_execution {steps_per_execution} is for one device; {self.replicas} replicas"
                " take --set training.steps_per_execution=1"
            )
        if batch_size % self.replicas:
            near = max(1, round(batch_size / self.replicas)) * self.replicas
            raise UserError(
                f"data.batch_size {batch_size} counts the images of all {self.replicas} replicas together"
                f" and is no multiple of {self.replicas}; take --set data.batch_size={near}"
            )

    def distribute(self, batches: tf.data.Dataset, batch_size: int):
        """This process' shares of batches of `batch_size`, divided among its devices: what `fit` takes."""
        if self.replicas == 1:
            return batches
        each = batch_size // self.replicas
        parts = batches.rebatch(each, drop_remainder=True)
        return self.strategy.distribute_datasets_from_function(lambda _: parts)

    def distribute_whole(self, batches: tf.data.Dataset, images: int, batch_size: int):
        """As `distribute` for a pass over `images` images, of which this process reads a share: none left out, none twice.

        Every replica has the same number of batches, for each of them waits for all; the last ones
        may be empty.
        """
        if self.replicas == 1:
            return batches
        each, here = batch_size // self.replicas, self.replicas // self.workers
        most = -(-images // self.workers)  # images of a worker
        steps = -(-most // (each * here))
        parts = batches.rebatch(each)
        nothing = tf.nest.map_structure(
            lambda spec: tf.zeros((0, *spec.shape[1:]), spec.dtype), parts.element_spec
        )
        none = tf.data.Dataset.from_tensors(nothing).repeat()
        parts = parts.concatenate(none).take(steps * here)
        return self.strategy.distribute_datasets_from_function(lambda _: parts)

    def any(self, *flags: bool) -> tuple[bool, ...]:
        """Each flag: is it up in any process?  All processes have to ask, in the same order, and wait here for all."""
        if not self.cluster:
            return flags
        found = self._gathered(flags)
        return tuple(bool(flag) for flag in found.any(axis=0))

    def wait(self) -> None:
        """Until all processes are here, or gone: what each of them had to do is done."""
        with suppress(*LOST):
            self.any(True)  # of no number at all TensorFlow's gather ends the process

    def check_same(self, **values: int) -> None:
        """`UserError` where a value is another one in another process; asked by all, as `any`."""
        if not self.cluster:
            return
        found = self._gathered(values.values())
        for name, column in zip(values, found.T, strict=True):
            for replica, value in enumerate(column):
                if value != column[0]:
                    worker = replica // (len(column) // self.workers)
                    raise UserError(
                        f"worker {worker} ({self.cluster.addresses[worker]}) has another {name} than worker 0;"
                        " give all workers the same command, files and --out, in a folder that all of them see"
                    )

    def _gathered(self, values):
        """(k,) numbers of this process → (replicas, k) of all."""
        row = tf.constant([[int(value) for value in values]], tf.int64)
        rows = self._gather(row)
        return self.strategy.experimental_local_results(rows)[0].numpy()

    @cached_property
    def _gather(self):
        def gather(row):
            # The copy lies on the replica's device, which decides how it is sent.
            return tf.distribute.get_replica_context().all_gather(tf.identity(row), axis=0)

        # As a graph: the order of its collectives is settled when it is traced.
        return tf.function(lambda row: self.strategy.run(gather, args=(row,)))

    @contextmanager
    def watched(self, step: Callable[[], int]) -> Iterator[None]:
        """Inside, the loss of another worker becomes a `UserError` that names it and `step()`."""
        try:
            yield
        except tf.errors.OpError as error:
            if not self.cluster or not isinstance(error, LOST) or not SIGNS.search(str(error)):
                raise
            raise UserError(
                f"{self._lost(str(error))} since step {step()}; start all workers again with --resume"
            ) from error

    def _lost(self, text: str) -> str:
        named = [int(n) for n in re.findall(r"task:(\d+)", text)]
        for worker in named:
            if worker != self.index and worker < self.workers:
                return f"worker {worker} ({self.cluster.addresses[worker]}) does not answer"
        return "another worker does not answer"


def make_team() -> Team:
    """The team that the machine and TF_CONFIG ask for: several workers, several GPUs, or one device.

    To be called before TensorFlow runs anything: only then can it join a cluster.  Waits for the other
    workers, as long as TensorFlow does; `UserError` where the chief does not come.
    """
    cluster = read_cluster()
    if cluster:
        return Team(_joined(cluster), cluster)
    if len(tf.config.list_physical_devices("GPU")) > 1:
        return Team(tf.distribute.MirroredStrategy())
    return Team()


def _joined(cluster: Cluster) -> tf.distribute.Strategy:
    """The strategy of all workers, once all of them are there."""
    if cluster.index:
        _reach_chief(cluster)
    return tf.distribute.MultiWorkerMirroredStrategy()


def _reach_chief(cluster: Cluster) -> None:
    """Returns as soon as somebody listens at the chief's address."""
    address = cluster.addresses[0]
    host, _, port = address.rpartition(":")
    end = time.monotonic() + JOIN_TIMEOUT_S
    while True:
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
        except OSError as error:
            if time.monotonic() > end:
                raise UserError(
                    f"worker 0 ({address}) did not come within {JOIN_TIMEOUT_S:.0f} s: {error.strerror or error};"
                    " start all workers, each with its own TF_CONFIG"
                ) from error
            time.sleep(1)
        else:
            return


class DistributedModel(keras.Model):
    """A functional model that `fit` and `evaluate` also train in several processes.

    Keras 3.15 has two faults there (keras issue 20585): it makes one tensor of a batch that lies on several
    devices to find out shapes that a functional model knows already, and it averages scalar logs over
    an axis which scalars do not have.
    """

    def _maybe_symbolic_build(self, iterator=None, data_batch=None):
        """Metrics are built in the first step, as Keras does without a strategy."""

    def train_step(self, data):
        return self._with_axis(super().train_step(data))

    def test_step(self, data):
        return self._with_axis(super().test_step(data))

    def _with_axis(self, logs):
        if not isinstance(self.distribute_strategy, tf.distribute.MultiWorkerMirroredStrategy):
            return logs
        return {name: tf.reshape(value, (1,)) for name, value in logs.items()}
