# SPDX-License-Identifier: Apache-2.0
"""Training on several devices or machines: the workers, and the images each of them reads."""

from __future__ import annotations

import errno
import json
import os
import re
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import keras
import tensorflow as tf

from inception_tf.errors import UserError
from inception_tf.training.jax_devices import DataParallel, EvaluateOnEach, all_devices

__all__ = ["Cluster", "Team", "make_team", "read_cluster"]

EXAMPLE = '{"cluster": {"worker": ["a:2222", "b:2222"]}, "task": {"type": "worker", "index": 0}}'
JOIN_TIMEOUT_S = 1800.0  # until the chief is up: a cluster starts workers as machines become free
TRAINERS = ("chief", "worker")  # task types that train, in TensorFlow's order

# What TensorFlow raises where a worker is gone, restarted or does not respond.
GONE = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
)
# These have other causes too; a connection's end is among them, in the system's words for its error number.
PERHAPS = (tf.errors.FailedPreconditionError, tf.errors.InternalError)
LOST = (*GONE, *PERHAPS)
CONNECTION = (
    *(errno.ECONNRESET, errno.ECONNREFUSED, errno.ECONNABORTED, errno.EPIPE, errno.ENOTCONN),
    *(errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETUNREACH),
)


@dataclass(frozen=True)
class Cluster:
    """The workers of one training, the first of them the chief, and the index of this process."""

    addresses: tuple[str, ...]  # host:port
    index: int


def read_cluster() -> Cluster | None:
    """Reads the environment variable TF_CONFIG.

    Returns:
        The cluster, or None where TF_CONFIG is not set or lists one worker only.

    Raises:
        UserError: it is not what MultiWorkerMirroredStrategy accepts.
    """
    text = os.environ.get("TF_CONFIG", "").strip()
    try:
        config = json.loads(text or "{}")
        tasks = config.get("cluster", {})
        listed = {kind: list(tasks.get(kind, ())) for kind in TRAINERS}
    except (ValueError, AttributeError, TypeError) as error:
        raise UserError(f"TF_CONFIG is not JSON such as {EXAMPLE}, got '{text}'") from error
    if "ps" in tasks:
        raise UserError(
            "TF_CONFIG lists parameter servers, tasks of type 'ps', and Keras 3 does not train with them; their gradients"
            " are dozens of updates old, and learn less from the same images than workers that share each batch"
            f" (docs/experiments/async-sgd.md); list workers and at most one chief: {EXAMPLE}"
        )
    others = sorted(set(tasks) - set(TRAINERS))
    if others:
        raise UserError(
            f"TF_CONFIG lists tasks of type '{others[0]}', but a training has only workers and one chief;"
            f" remove them: {EXAMPLE}"
        )
    addresses = tuple(listed["chief"] + listed["worker"])
    if not addresses:
        return None
    index = _task_index(config.get("task"), listed)
    return Cluster(addresses, index) if len(addresses) > 1 else None


def _task_index(task: Any, listed: dict[str, list]) -> int:
    """The index of `task` among all workers."""
    given: dict[str, Any] = task if isinstance(task, dict) else {}
    kind, index = given.get("type"), given.get("index")
    numbers = range(len(listed.get(str(kind), ())))
    # A launcher's variable may arrive as text.
    if not str(index).isdecimal() or int(str(index)) not in numbers:
        known = [f"{k} {n}" for k in TRAINERS for n in range(len(listed[k]))]
        raise UserError(
            f"'task' in TF_CONFIG must say which worker this process is, one of {', '.join(known)},"
            f" got {json.dumps(task)}; an example: {EXAMPLE}"
        )
    return int(str(index)) + (len(listed["chief"]) if kind == "worker" else 0)


@dataclass(frozen=True)
class Team:
    """All processes and devices that train one model together, as this process sees them.

    The batch of a step has data.batch_size images in total: worker w of n reads its rows
    w*B/n..(w+1)*B/n and divides them among its devices.  Gradients are those of the mean over the whole
    batch, and batch normalization uses the statistics of the whole batch, so the weights equal those of
    one device up to the order of sums.  Dropout masks are the same on every device, as its seeds are: each
    image has one of B/replicas masks; on JAX each has its own, as on one device.
    """

    strategy: tf.distribute.Strategy = field(default_factory=tf.distribute.get_strategy)
    cluster: Cluster | None = None
    jax_devices: DataParallel | None = None

    @property
    def workers(self) -> int:
        return len(self.cluster.addresses) if self.cluster else 1

    @property
    def index(self) -> int:
        return self.cluster.index if self.cluster else 0

    @property
    def is_chief(self) -> bool:
        """Whether this process writes the files."""
        return self.index == 0

    @property
    def replicas(self) -> int:
        if self.jax_devices:
            return self.jax_devices.num_model_replicas
        return self.strategy.num_replicas_in_sync

    def scope(self) -> AbstractContextManager:
        """For a whole training: on JAX, variables lie on all devices and `fit` divides batches among them.

        Returns:
            A context manager.
        """
        return self.jax_devices.scope() if self.jax_devices else nullcontext()

    def callbacks(self) -> list[keras.callbacks.Callback]:
        """Those that `fit` needs on these devices.

        Returns:
            For most teams none.
        """
        return [EvaluateOnEach(self.jax_devices)] if self.jax_devices else []

    @property
    def shard(self) -> tuple[int, int]:
        """The part of each batch that this process reads, as (index, count), for `pipeline.training_batches`."""
        return self.index, self.workers

    def check_steps(self, batch_size: int, steps_per_execution: int) -> None:
        """Checks that batches can be divided evenly among the replicas.

        Args:
            batch_size: images per step, over all replicas.
            steps_per_execution: steps per call into TensorFlow.

        Raises:
            UserError: `batch_size` is no multiple of the number of replicas, or several replicas cannot run
                several steps per execution.
        """
        if self.replicas > 1 and steps_per_execution > 1:
            # TensorFlow 2.20 cannot run the loop around them: "You must feed a value for placeholder".  JAX might.
            raise UserError(
                f"training.steps_per_execution {steps_per_execution} works on one device only; for"
                f" {self.replicas} replicas use --set training.steps_per_execution=1"
            )
        if batch_size % self.replicas:
            near = max(1, round(batch_size / self.replicas)) * self.replicas
            raise UserError(
                f"data.batch_size {batch_size} counts the images of all {self.replicas} replicas together"
                f" and is no multiple of {self.replicas}; use --set data.batch_size={near}"
            )

    def distribute(self, batches: tf.data.Dataset, batch_size: int) -> tf.data.Dataset:
        """Divides the batches of this process among its devices, for `fit`.

        Args:
            batches: this process' part of each batch.
            batch_size: images per step, over all replicas.

        Returns:
            A (distributed) dataset.
        """
        if self.replicas == 1 or self.jax_devices:
            return _prefetched(batches)
        each = batch_size // self.replicas
        parts = batches.rebatch(each, drop_remainder=True)
        return self.strategy.distribute_datasets_from_function(lambda _: parts)

    def distribute_whole(
        self, batches: tf.data.Dataset, images: int, batch_size: int
    ) -> tf.data.Dataset:
        """Divides one pass over a data set among the replicas, with no image dropped or repeated.

        Every replica gets the same number of batches, because each waits for all; the last ones may be empty.

        Args:
            batches: this process' part of the data.
            images: the number of images over all processes.
            batch_size: images per step, over all replicas.

        Returns:
            A (distributed) dataset.
        """
        if self.replicas == 1 or self.jax_devices:
            return _prefetched(batches)
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
        """Combines flags over all processes; every process has to call it, in the same order, and waits for all.

        Args:
            flags: this process' values.

        Returns:
            For each flag, whether it is set in any process.
        """
        if not self.cluster:
            return flags
        found = self._gathered(flags)
        return tuple(bool(flag) for flag in found.any(axis=0))

    def wait(self) -> None:
        """Waits until all processes are here, or gone."""
        with suppress(*LOST):
            self.any(True)  # gathering nothing at all crashes TensorFlow

    def check_same(self, **values: int) -> None:
        """Checks that a value is the same in all processes, each of which has to call this.

        Args:
            values: names, for the error, and integers.

        Raises:
            UserError: another worker has another value.
        """
        if not self.cluster:
            return
        found = self._gathered(values.values())
        for name, column in zip(values, found.T, strict=True):
            for replica, value in enumerate(column):
                if value != column[0]:
                    worker = replica // (len(column) // self.workers)
                    raise UserError(
                        f"worker {worker} ({self.cluster.addresses[worker]}) has another {name} than worker 0;"
                        " start all workers with the same command, files and --out, in a folder that all of them can read"
                    )

    def _gathered(self, values):
        """(k,) numbers of this process → (replicas, k) of all."""
        row = tf.constant([[int(value) for value in values]], tf.int64)
        rows = self._gather(row)
        return self.strategy.experimental_local_results(rows)[0].numpy()

    @cached_property
    def _gather(self):
        def gather(row):
            # The copy is on the replica's device, which decides how it is sent.
            return tf.distribute.get_replica_context().all_gather(tf.identity(row), axis=0)

        # As a graph, which fixes the order of its collectives when it is traced.
        return tf.function(lambda row: self.strategy.run(gather, args=(row,)))

    @contextmanager
    def watched(self, step: Callable[[], int]) -> Iterator[None]:
        """Inside, the loss of another worker becomes an error that names it.

        Args:
            step: gives the current step, for the error.

        Raises:
            UserError: another worker does not respond.
        """
        try:
            yield
        except tf.errors.OpError as error:
            if not self.cluster or not _is_loss(error):
                raise
            raise UserError(
                f"{self._lost(str(error))} since step {step()}; start all workers again with --resume"
            ) from error

    def _lost(self, text: str) -> str:
        addresses = self.cluster.addresses if self.cluster else ()
        for worker in map(int, re.findall(r"task:(\d+)", text)):
            if worker != self.index and worker < len(addresses):
                return f"worker {worker} ({addresses[worker]}) does not respond"
        return "another worker does not respond"


def _prefetched(batches: tf.data.Dataset) -> Any:
    """The batches for `fit`, on torch with the next one on the GPU before the step that needs it."""
    if keras.backend.backend() == "torch":
        from inception_tf.training import torch_batches

        return torch_batches.on_device(batches)
    return batches


def _is_loss(error: tf.errors.OpError) -> bool:
    """Whether an error says that another worker is gone: by its class, or by the error number of a connection."""
    words = (os.strerror(number) for number in CONNECTION)
    is_connection = isinstance(error, PERHAPS) and any(one in str(error) for one in words)
    return isinstance(error, GONE) or is_connection


def make_team() -> Team:
    """Joins the workers of TF_CONFIG, or uses the GPUs of this machine, or its one device.

    Has to be called before TensorFlow runs anything, because only then can it join a cluster.  Waits for the
    other workers, as long as TensorFlow does.
    On JAX all GPUs of this machine train, on torch one; TensorFlow, which reads the images, leaves them alone.

    Returns:
        The processes and devices that train together.

    Raises:
        UserError: TF_CONFIG lists several workers, and Keras' backend is not TensorFlow.
    """
    cluster, backend = read_cluster(), keras.backend.backend()
    if backend != "tensorflow":
        if cluster:
            raise UserError(
                f"TF_CONFIG lists {len(cluster.addresses)} workers, which only TensorFlow trains with, and"
                f" KERAS_BACKEND is {backend}; unset one of the two"
            )
        with suppress(RuntimeError):  # TensorFlow runs already, and has what it wanted
            tf.config.set_visible_devices([], "GPU")
        return Team(jax_devices=all_devices() if backend == "jax" else None)
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
    """Returns as soon as a connection to the chief's address succeeds."""
    address = cluster.addresses[0]
    host, _, port = address.rpartition(":")
    end = time.monotonic() + JOIN_TIMEOUT_S
    while True:
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
        except OSError as error:
            if time.monotonic() > end:
                raise UserError(
                    f"worker 0 ({address}) was not reachable within {JOIN_TIMEOUT_S:.0f} s: {error.strerror or error};"
                    " start all workers, each with its own TF_CONFIG"
                ) from error
            time.sleep(1)
        else:
            return
