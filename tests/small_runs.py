# SPDX-License-Identifier: Apache-2.0
"""What makes a training cheap, for what is the same of any network and of any images."""

from __future__ import annotations

import contextlib
import dataclasses

import pytest
from short_networks import shorten_all

from inception_tf.data.sources.open import open_source
from inception_tf.training import plan


@contextlib.contextmanager
def few_digits(train: int, validation: int):
    """Within it, a training on `digits` has only so many of them; pixels, which need no decoder."""
    digits = open_source("digits")
    parts = {"train": ("train", train), "validation": ("test", validation)}
    splits = {
        name: digits.split(part).take(list(range(count))) for name, (part, count) in parts.items()
    }
    few = dataclasses.replace(digits, splits=splits)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "open_source", lambda *_, **__: few)
        yield


@contextlib.contextmanager
def only(name: str, *steps: str):
    """Within it, the network `name` has only these steps of its backbone, and no auxiliary classifier."""
    take_back = shorten_all(
        [name],
        lambda network: dataclasses.replace(
            network,
            backbone=tuple(step for step in network.backbone if step[0] in steps),
            auxiliaries=(),
        ),
    )
    try:
        yield
    finally:
        take_back()
