# SPDX-License-Identifier: Apache-2.0
"""Settings that would be ignored, or of which nothing would be trained, are refused before a training."""

from __future__ import annotations

import pytest

from inception_tf.config import Config
from inception_tf.errors import UserError
from inception_tf.training.plan import make_plan

SMALL = ("model.size=32", "training.epochs=3", "data.batch_size=512")  # two steps of the digits


@pytest.mark.parametrize("name", ["adam", "sgd", "rmsprop", "adagrad"])
def test_the_weight_decay_of_an_optimizer_that_has_none_is_not_ignored(name):
    config = Config().override([*SMALL, f"optimizer.name={name}", "optimizer.weight_decay=0.1"])
    with pytest.raises(UserError, match=f"of adamw, and {name} does not use it; take optimizer"):
        make_plan(config)
    assert make_plan(config.override(["optimizer.name=adamw"])).steps == 2


def test_more_steps_for_an_update_than_there_are_would_train_nothing():
    config = Config().override([*SMALL, "optimizer.accumulation_steps=6"])
    assert make_plan(config).steps == 2
    with pytest.raises(UserError, match="7 is more than the 6 steps .*; take at most 6"):
        make_plan(config.override(["optimizer.accumulation_steps=7"]))
    with pytest.raises(UserError, match="6 is more than the 2 steps"):
        make_plan(config.override(["training.head_epochs=1"]))


@pytest.mark.parametrize(("together", "less"), [(3, 2), (8, 4), (12, 11), (45, 44)])
def test_calls_of_several_steps_fill_an_epoch(together, less):
    """Of 44 steps of an epoch, calls of three would train 45, the last on images of the next."""
    config = Config().override(["model.size=32", "data.batch_size=32"])
    sentence = (
        f"steps_per_execution {together} does not divide the 44 steps of an epoch; take {less}"
    )
    with pytest.raises(UserError, match=sentence):
        make_plan(config.override([f"training.steps_per_execution={together}"]))
    assert make_plan(config.override([f"training.steps_per_execution={less}"])).steps == 44
