"""Metric histories made small enough for a page: thinned so that extremes stay, packed as bytes that a browser unpacks."""

from __future__ import annotations

import base64
import gzip
import itertools
import json
import math
import struct
import sys
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from amlflow.workspaces.base import MetricPoint

# What all series of a page may hold together, and any one of them at most and at least. A point costs 6 to 10 bytes in the
# file, so that the sum stays near 13 MB; no screen shows more than 2,000 points of one line.
POINTS_OF_A_PAGE = 1_500_000
MOST_OF_A_SERIES = 2_000
LEAST_OF_A_SERIES = 64

_INT32 = 2**31
_FLOAT32_MAX = 3.4e38
_FLOAT32_SHARE = 1e-4
_FLOAT32_MIN = 1.2e-38

# The bits of a series' `kinds`: which of its three columns are float64 instead of float32 (values) or int32 differences.
VALUES_WIDE, STEPS_WIDE, TIMES_WIDE = 1, 2, 4


@dataclass(slots=True)
class Packed:
    """The histories of a page, added one series at a time.

    A series is a row of `rows`: the position of its run, of its metric, the offset of its bytes, the points kept, the points
    there were, the first step, the first time (epoch ms) and `kinds`. Its bytes are three columns: values, steps, times.
    Values are IEEE floats; steps and times are differences from the point before (the first from the row), or plain float64
    where a difference does not fit 32 bits. A column of N numbers of W bytes is stored as W planes of N bytes, all first
    bytes, then all second ones, little-endian: neighbours in a plane are alike, which is what gzip makes small.
    """

    per_series: int
    rows: list[list[int | float]] = field(default_factory=list)
    _columns: list[bytes] = field(default_factory=list)
    _size: int = 0

    def add(self, run: int, metric: int, points: Sequence[MetricPoint]) -> None:
        if not points:
            return
        kept = thinned(points, self.per_series)
        values = [point.value for point in kept]
        steps = [point.step for point in kept]
        times = [point.timestamp_ms for point in kept]
        value_bytes, wide = _value_column(values)
        step_bytes, far = _difference_column(steps)
        time_bytes, late = _difference_column(times)
        kinds = VALUES_WIDE * wide + STEPS_WIDE * far + TIMES_WIDE * late
        self.rows.append([run, metric, self._size, len(kept), len(points), steps[0], times[0], kinds])
        for column in (value_bytes, step_bytes, time_bytes):
            self._columns.append(column)
            self._size += len(column)

    @property
    def thinned_series(self) -> int:
        return sum(row[3] < row[4] for row in self.rows)

    def text(self) -> str:
        """Base64 of gzip of: the length of the rows' JSON (uint32, little-endian), that JSON, the bytes of the series."""
        rows = json.dumps(self.rows, separators=(",", ":")).encode()
        whole = b"".join([struct.pack("<I", len(rows)), rows, *self._columns])
        return base64.b64encode(gzip.compress(whole, 6, mtime=0)).decode()


def points_each(series: int) -> int:
    """How many points a series may keep where there are so many of them."""
    return max(LEAST_OF_A_SERIES, min(MOST_OF_A_SERIES, POINTS_OF_A_PAGE // max(1, series)))


def thinned(points: Sequence[MetricPoint], most: int) -> Sequence[MetricPoint]:
    """At most `most` (4 or more) of the points, in their order: the first, the last, and of each of (most - 2) / 2 stretches of
    equally many points the lowest and the highest, so that every peak of the curve stays and the line drawn through them
    covers the same range in each stretch. It is the min-max aggregation that Jugel and others compare in "M4: A
    Visualization-Oriented Time Series Data Aggregation" (PVLDB 7(10), 2014). The first NaN and the first infinity of a
    stretch, which are no extremes, stay beside them while there is room."""
    count = len(points)
    if count <= most:
        return points
    values = [point.value for point in points]
    if math.isfinite(sum(values)):
        kept = _extremes(values, (most - 2) // 2)
    else:
        kept = _extremes_and_gaps(values, max(1, (most - 2) // 4))
    kept.update((0, count - 1))
    return [points[index] for index in sorted(kept)]


def _extremes(values: Sequence[float], stretches: int) -> set[int]:
    kept: set[int] = set()
    inner = len(values) - 2
    for number in range(stretches):
        start = 1 + inner * number // stretches
        part = values[start : 1 + inner * (number + 1) // stretches]
        if part:
            kept.add(start + part.index(min(part)))
            kept.add(start + part.index(max(part)))
    return kept


def _extremes_and_gaps(values: Sequence[float], stretches: int) -> set[int]:
    """As `_extremes`, of the finite values, with the first NaN and the first infinity of each stretch."""
    kept: set[int] = set()
    inner = len(values) - 2
    for number in range(stretches):
        start = 1 + inner * number // stretches
        part = range(start, 1 + inner * (number + 1) // stretches)
        finite = [index for index in part if math.isfinite(values[index])]
        if finite:
            kept.add(min(finite, key=values.__getitem__))
            kept.add(max(finite, key=values.__getitem__))
        kept.update(_first(index for index in part if math.isnan(values[index])))
        kept.update(_first(index for index in part if math.isinf(values[index])))
    return kept


def _first(indexes: Iterable[int]) -> list[int]:
    return [index for index, _ in zip(indexes, range(1), strict=False)]


def _value_column(values: Sequence[float]) -> tuple[bytes, bool]:
    """float32, unless that would flatten the curve: where its whole range is less than 1/10,000 of its size, or where it leaves
    what float32 holds."""
    finite = [value for value in values if math.isfinite(value)]
    size = max(map(abs, finite), default=0.0)
    span = max(finite, default=0.0) - min(finite, default=0.0)
    wide = size > _FLOAT32_MAX or (span > 0 and (span < size * _FLOAT32_SHARE or span < _FLOAT32_MIN))
    return _planes(array("d" if wide else "f", values)), wide


def _difference_column(numbers: Sequence[int]) -> tuple[bytes, bool]:
    differences = [0, *(after - before for before, after in itertools.pairwise(numbers))]
    if all(-_INT32 <= difference < _INT32 for difference in differences):
        return _planes(array("i", differences)), False
    return _planes(array("d", numbers)), True


def _planes(column: array[float] | array[int]) -> bytes:
    if sys.byteorder == "big":
        column.byteswap()
    raw, width = column.tobytes(), column.itemsize
    return b"".join(raw[place::width] for place in range(width))
