# SPDX-License-Identifier: Apache-2.0
"""The allowed values of a setting, a number, a pair or a name, stated next to it and all checked the same way."""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from inception_tf.errors import UserError, unknown

__all__ = [
    "ABOVE_0",
    "AT_LEAST_0",
    "AT_LEAST_1",
    "FRACTION",
    "FRACTION_BELOW_1",
    "OneOf",
    "Ordered",
    "PIXEL_LIMITS",
    "Range",
]


@dataclass(frozen=True)
class Range:
    """An interval of finite numbers; `low` itself belongs to it unless `above`, `high` unless `below`.

    Example:

        Range(0, 1, below=True).check("optimizer.momentum", 0.9)
    """

    low: float = -math.inf
    high: float = math.inf
    above: bool = False
    below: bool = False
    or_zero: bool = False  # 0 is allowed too, for "none"

    def check(self, name: str, value: Any) -> None:
        """Checks one value.

        Args:
            name: what the value is called in the error.
            value: anything; only a finite number that is no bool can be in range.

        Raises:
            UserError: it is out of range: `optimizer.momentum must be in [0, 1), got 1`.
        """
        if not self.holds(value):
            raise UserError(f"{name} must be {self}, got {value!r}")

    def holds(self, value: Any) -> bool:
        """Whether a value is in range.

        Args:
            value: anything.

        Returns:
            True for a finite number inside the interval; False for all else, bools included.
        """
        is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
        if not is_number or not math.isfinite(value):
            return False
        if self.or_zero and value == 0:
            return True
        low = value > self.low if self.above else value >= self.low
        high = value < self.high if self.below else value <= self.high
        return low and high

    def __str__(self) -> str:
        if math.isfinite(self.low) and math.isfinite(self.high):
            text = f"in {'(' if self.above else '['}{self.low}, {self.high}{')' if self.below else ']'}"
        elif math.isfinite(self.low):
            text = f"{'above' if self.above else 'at least'} {self.low}"
        else:
            text = "a finite number"
        return f"0 or {text}" if self.or_zero else text


@dataclass(frozen=True)
class Ordered:
    """A pair [low, high] of finite numbers with 0 < low <= high <= `most`."""

    most: float = math.inf

    def check(self, name: str, value: Any) -> None:
        """Checks one pair.

        Args:
            name: what the pair is called in the error.
            value: two numbers.

        Raises:
            UserError: they are not ordered so, or not finite.
        """
        low, high = value
        if not 0 < low <= high <= self.most or not math.isfinite(high):
            end = f" <= {self.most:g}" if math.isfinite(self.most) else ""
            raise UserError(
                f"{name} must be [low, high] with 0 < low <= high{end}, got [{low}, {high}]"
            )


@dataclass(frozen=True)
class OneOf:
    """One of a fixed set of names."""

    names: Iterable[str]

    def check(self, name: str, value: Any) -> None:
        """Checks one name.

        Args:
            name: what the value is called in the error.
            value: the name given.

        Raises:
            UserError: it is not in the set; the closest name is suggested.
        """
        if value not in self.names:
            raise unknown(name, value, self.names)


FRACTION_BELOW_1 = Range(0, 1, below=True)  # where 1 would leave nothing
FRACTION = Range(0, 1)
ABOVE_0 = Range(0, above=True)
AT_LEAST_0 = Range(0)
AT_LEAST_1 = Range(1)
PIXEL_LIMITS = Range(1, 2**31 - 1)  # no JPEG, and no image that TensorFlow decodes, has more pixels
