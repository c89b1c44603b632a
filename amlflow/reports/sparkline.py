"""A metric's history in the width of a word."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

_BARS = "▁▂▃▄▅▆▇█"
WIDTH = 12
# Differences and sums of values beyond it may be more than a float holds.
_LARGE = 1e300


def sparkline(values: Sequence[float], width: int = WIDTH) -> str:
    """The values as bars between their lowest and highest. A longer history is cut into `width` stretches of equal
    length, each shown by its value farthest from the mean, so that a spike is never smoothed away. Values that are not
    finite leave a gap; fewer than three values show nothing."""
    finite = [value for value in values if math.isfinite(value)]
    if len(values) < 3 or not finite:
        return ""
    low, high, mean = min(finite), max(finite), sum(finite) / len(finite)
    if max(-low, high) > _LARGE:
        return sparkline([value / 2**64 for value in values], width)
    shown = values if len(values) <= width else [_outlier(part, mean) for part in _parts(values, width)]
    span = high - low
    return "".join(" " if not math.isfinite(v) else _BARS[round((v - low) / span * 7) if span else 3] for v in shown)


def _parts(values: Sequence[float], count: int) -> list[Sequence[float]]:
    edges = [index * len(values) // count for index in range(count + 1)]
    return [values[start:end] for start, end in itertools.pairwise(edges)]


def _outlier(part: Sequence[float], mean: float) -> float:
    finite = [value for value in part if math.isfinite(value)]
    return max(finite, key=lambda value: abs(value - mean)) if finite else math.nan
