# SPDX-License-Identifier: Apache-2.0
"""Mean average precision as a Keras metric, from counts of scores in bins, on any backend."""

from __future__ import annotations

from typing import Any

import keras

__all__ = ["MeanAveragePrecision"]

CELLS = 2**20  # bins of all classes together, 4 MB each for those that are shown and for all
MOST_BINS = 10_000  # of a class' logits
LIMIT = 12.0  # logits beyond it, probabilities within 6e-6 of 0 or 1, share a bin


@keras.saving.register_keras_serializable(package="inception_tf")
class MeanAveragePrecision(keras.metrics.Metric):
    """The mean over the classes of average precision, as scikit-learn's `average_precision_score` has it.

    Scores in one of 10,000 bins of logits, of 0.0024 each, count as equal (in fewer bins from 105 classes on); a class that no
    image shows does not count.

    Args:
        classes: K.
        from_logits: Scores are logits; else probabilities.
        name: As in Keras.
        dtype: As in Keras.

    Example:
        metric = MeanAveragePrecision(2, from_logits=False)
        metric.update_state([[1, 0], [0, 1]], [[0.9, 0.2], [0.3, 0.8]])
        print(float(metric.result()))  # 1.0
    """

    def __init__(
        self, classes: int, *, from_logits: bool = True, name: str = "map", dtype: Any = None
    ):
        super().__init__(name=name, dtype=dtype)
        self.classes, self.from_logits = classes, from_logits
        self.bins = max(1, min(MOST_BINS, CELLS // classes))
        shape = (classes * self.bins,)
        # Images by class and bin, the highest scores first: of those that show the class, and of all.
        self.shown = self.add_variable(shape, "zeros", name="shown")
        self.all = self.add_variable(shape, "zeros", name="all")

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Counts a batch.

        Args:
            y_true: (N, K), 1 for each class that an image shows.
            y_pred: (N, K) scores.
            sample_weight: None; weights are refused.

        Raises:
            ValueError: There are weights.
        """
        if sample_weight is not None:
            raise ValueError("MeanAveragePrecision takes no weights")
        ops = keras.ops
        shown = ops.cast(ops.reshape(y_true, (-1,)), self.dtype)
        scores = ops.cast(y_pred, "float32")
        if not self.from_logits:
            scores = ops.clip(scores, 1e-6, 1 - 1e-6)
            scores = ops.log(scores) - ops.log1p(-scores)
        place = ops.floor((LIMIT - scores) * (self.bins / (2 * LIMIT)))
        place = ops.cast(ops.clip(place, 0, self.bins - 1), "int32")
        # Not NaN, which is in no bin: the loss says it.
        place = ops.reshape(place + self.bins * ops.arange(self.classes, dtype="int32"), (-1,))
        count = self.classes * self.bins
        self.shown.assign_add(ops.segment_sum(shown, place, count))
        self.all.assign_add(ops.segment_sum(ops.ones_like(shown), place, count))

    def result(self) -> Any:
        """Computes the mean average precision of what was counted.

        Returns:
            () in [0, 1]; 0 where no image showed a class.
        """
        ops = keras.ops
        shown = ops.reshape(self.shown, (self.classes, self.bins))
        right = ops.cumsum(shown, axis=1)
        found = ops.cumsum(ops.reshape(self.all, (self.classes, self.bins)), axis=1)
        precision = ops.divide_no_nan(right, found)
        total = right[:, -1]
        each = ops.divide_no_nan(ops.sum(shown * precision, axis=1), total)
        return ops.divide_no_nan(ops.sum(each), ops.sum(ops.cast(total > 0, self.dtype)))

    def get_config(self) -> dict[str, Any]:
        """The arguments, as Keras stores them."""
        return super().get_config() | {"classes": self.classes, "from_logits": self.from_logits}
