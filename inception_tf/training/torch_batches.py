# SPDX-License-Identifier: Apache-2.0
"""Batches on torch's GPU before the step that needs them; imported where torch is Keras' backend."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import keras
import numpy as np
import torch

__all__ = ["BatchesOnDevice", "on_device"]


def on_device(batches: Iterable) -> Iterable:
    """Has the next batch copied to the GPU while a step runs.

    Args:
        batches: (nested) arrays or tensors of TensorFlow, such as a `tf.data.Dataset`.

    Returns:
        What `fit` takes; `batches` themselves where torch computes on the processor.
    """
    if not torch.cuda.is_available():
        return batches
    return BatchesOnDevice(batches, torch.device("cuda", torch.cuda.current_device()))


class BatchesOnDevice(torch.utils.data.DataLoader):
    """A loader that is one batch ahead: pinned memory, and a stream of its own on a GPU.

    Args:
        batches: (nested) arrays or tensors of TensorFlow.
        device: where `fit` computes.
    """

    def __init__(self, batches: Iterable, device: torch.device):
        pinned = device.type == "cuda"
        super().__init__(_Tensors(batches), batch_size=None, pin_memory=pinned)
        self.device = device

    def __iter__(self) -> Iterator:
        stream = torch.cuda.Stream(self.device) if self.device.type == "cuda" else None
        waiting = None
        for batch in super().__iter__():
            following = self._copied(batch, stream)
            if waiting is not None:
                yield _arrived(*waiting)
            waiting = following
        if waiting is not None:
            yield _arrived(*waiting)

    def _copied(self, batch: Any, stream: torch.cuda.Stream | None) -> tuple:
        """A batch on the device, and the event at which it is there."""

        def copy(tensor: torch.Tensor) -> torch.Tensor:
            return tensor.to(self.device, non_blocking=True)

        if stream is None:
            return keras.tree.map_structure(copy, batch), None
        # Not the steps' stream, in which a copy would wait for the step before it.
        with torch.cuda.stream(stream):
            return keras.tree.map_structure(copy, batch), stream.record_event()


class _Tensors(torch.utils.data.IterableDataset):
    """The batches as torch's tensors in the memory of the processor."""

    def __init__(self, batches: Iterable):
        self.batches = batches

    def __iter__(self) -> Iterator:
        for batch in self.batches:
            yield keras.tree.map_structure(lambda x: torch.tensor(np.asarray(x)), batch)


def _arrived(batch: Any, event: torch.cuda.Event | None) -> Any:
    """The batch, once the steps' stream may read it, and may free it after its last use."""
    if event is not None:
        stream = torch.cuda.current_stream()
        stream.wait_event(event)
        for tensor in keras.tree.flatten(batch):
            tensor.record_stream(stream)
    return batch
