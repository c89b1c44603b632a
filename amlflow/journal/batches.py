"""From a journal's records to requests of a size that the service takes. Nothing here does any I/O.

What may stand in one `log-batch` (metrics, params, tags) is put together over many records, in their order; anything else
is a barrier that stands alone. A record may be larger than a request: a batch therefore says how far the journal has been
dealt with once it is acknowledged (`done`), and how far it reaches into it (`touched`).
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Dict, Iterable, Iterator, List, Optional, Tuple, Union

from . import records
from .segments import Cursor, Position

# [key, value, step, time_ms, extra?] as in a record.
Point = List[Any]
# A segment's number, the offsets after its records, and these.
Chunk = Tuple[int, List[int], List[List[Any]]]

LONG_VALUES = "amlflow/long_values.json"


@dataclass(frozen=True)
class Limits:
    """What a service takes: counts in one request, its size, the length of values in characters, the points in one page of
    a metric's history, and (where it is known) how many params a run may have."""

    metrics: int = 1000
    params: int = 100
    tags: int = 100
    items: int = 1000
    request_bytes: int = 950_000
    param_chars: int = 6000
    tag_chars: int = 8000
    history_page: int = 10_000
    params_per_run: Optional[int] = None


OPEN_SOURCE = Limits()
AZURE_ML = Limits(metrics=250, param_chars=500, tag_chars=1000, history_page=900, params_per_run=200)
LOCAL = Limits(metrics=10_000, params=10_000, tags=10_000, items=10_000, request_bytes=64 << 20, history_page=100_000)


@dataclass(frozen=True)
class Batch:
    """One `log-batch`. `long` holds the whole of values that were shortened: {"params": {key: value}, "tags": …}."""

    points: List[Point]
    params: Dict[str, str]
    tags: Dict[str, str]
    done: Cursor = field(default_factory=dict)
    touched: Cursor = field(default_factory=dict)
    long: Dict[str, Dict[str, str]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.points) + len(self.params) + len(self.tags)

    def holding(self, points: List[Point], params: Dict[str, str], tags: Dict[str, str]) -> Batch:
        """The same place in the journal with other content."""
        return Batch(points, params, tags, self.done, self.touched, self.long)

    def halves(self) -> Iterator[Batch]:
        """Two batches with what this one holds, in the order in which services take it: params, points, tags."""
        half = (len(self) + 1) // 2
        for low, high in ((0, half), (half, len(self))):
            params, rest_low, rest_high = _part(list(self.params.items()), low, high)
            points, rest_low, rest_high = _part(self.points, rest_low, rest_high)
            tags, _, _ = _part(list(self.tags.items()), rest_low, rest_high)
            yield self.holding(points, dict(params), dict(tags))


@dataclass(frozen=True)
class Barrier:
    """A record that is sent by itself, after all before it (up to the cursor `before`) and before all behind it."""

    record: List[Any]
    before: Cursor
    done: Cursor


Step = Union[Batch, Barrier]


def steps(chunks: Iterable[Chunk], cursor: Cursor, limits: Limits) -> Iterator[Step]:
    """The requests for what follows `cursor`, each as full as may be. Where nothing but records that need no request was
    read, an empty batch moves the cursor on. The records are used up."""
    filling = _Filling(limits, cursor)
    for number, ends, found in chunks:
        at = 0
        while at < len(found):
            record = found[at]
            kind = record[0]
            if kind == records.METRIC:
                end = _stretch(found, at)
                yield from filling.metrics(number, ends, found, at, end)
                at = end
                continue
            position = Position(number, ends[at])
            at += 1
            if kind in _BARRIERS:
                if filling:
                    yield filling.cut()
                yield filling.barrier(position, record)
                continue
            filling.reach(position)
            if kind == records.BATCH:
                yield from filling.points(record[1])
                yield from filling.params(record[2])
                yield from filling.tags(record[3])
            elif kind == records.PARAM:
                yield from filling.params([record[1:]])
            elif kind == records.TAG:
                yield from filling.tags([record[1:]])
            filling.pass_by(position)
            if filling.full:
                yield filling.cut()
    if filling or filling.moved:
        yield filling.cut()


def identity(point: Point) -> Tuple[Any, ...]:
    """What makes two points the same: key, value, step and time. NaN is the same as NaN; the infinities are those numbers by
    which MLflow's SQL stores write them."""
    return (point[0], comparable(point[1]), point[2], point[3])


def comparable(value: Any) -> Any:
    number = float(value)
    if number != number:
        return "NaN"
    return max(-_LARGEST, min(_LARGEST, number))


def shortened(value: str, chars: int) -> str:
    """As much of a value as a service takes, with where the whole of it is."""
    mark = f"… [all {len(value)} characters are in the run's artifacts, below amlflow/]"
    return value[: max(0, chars - len(mark))] + mark[: max(0, chars)]


_BARRIERS = frozenset((records.CREATED, records.UPDATED, records.DELETED_TAG, records.MODEL, records.REQUEST))
_LARGEST = 1.7976931348623157e308
# What a metric takes in JSON beside its key, and what is in the body around everything.
_POINT_BYTES, _EXTRA_BYTES, _PAIR_BYTES, _BODY_BYTES = 110, 250, 30, 200


class _Filling:
    """The batch that is being filled."""

    def __init__(self, limits: Limits, cursor: Cursor) -> None:
        self._limits = limits
        self.at: Cursor = dict(cursor)
        self._reach: Optional[Position] = None
        self._cut_at: Cursor = dict(cursor)
        self._empty()

    def __len__(self) -> int:
        return len(self._points) + len(self._params) + len(self._tags)

    @property
    def moved(self) -> bool:
        return self.at != self._cut_at

    @property
    def full(self) -> bool:
        return self._room_for_points() <= 0

    def reach(self, position: Position) -> None:
        """A record is begun that ends at `position`."""
        self._reach = position

    def pass_by(self, position: Position) -> None:
        """All up to `position` is in this batch or an earlier one."""
        self._reach = None
        self.at[position.segment] = position.offset

    def barrier(self, position: Position, record: List[Any]) -> Barrier:
        before = dict(self.at)
        self.pass_by(position)
        self._cut_at = dict(self.at)
        return Barrier(record, before, dict(self.at))

    def cut(self) -> Batch:
        """The batch so far, and begin another."""
        done, touched = dict(self.at), dict(self.at)
        if self._reach is not None:
            touched[self._reach.segment] = self._reach.offset
        batch = Batch(_distinct(self._points), self._params, self._tags, done, touched, self._long)
        self._cut_at = done
        self._empty()
        return batch

    def metrics(self, segment: int, ends: List[int], found: List[List[Any]], start: int, end: int) -> Iterator[Batch]:
        """A stretch of metric records of one segment."""
        # In place: a copy of each would be one more object for the garbage collector to look at.
        for record in found[start:end]:
            del record[0]
        while start < end:
            taken = self._fitting(found[start : min(end, start + max(1, self._room_for_points()))])
            if not taken:
                yield self.cut()
                continue
            self._points += taken
            start += len(taken)
            self.pass_by(Position(segment, ends[start - 1]))
            if self.full:
                yield self.cut()

    def points(self, many: List[Point]) -> Iterator[Batch]:
        start = 0
        while start < len(many):
            taken = self._fitting(many[start : start + max(1, self._room_for_points())])
            if not taken:
                yield self.cut()
                continue
            self._points += taken
            start += len(taken)

    def params(self, many: List[List[str]]) -> Iterator[Batch]:
        for key, value in many:
            if key in self._params and self._whole(key) == value:
                continue
            sent = _fitted(value, self._limits.param_chars)
            # With another value than before it is the service that has to refuse it, and it alone.
            if key in self._params or not self._takes(key, sent, len(self._params), self._limits.params):
                yield self.cut()
            self._put("params", self._params, key, value, sent)

    def tags(self, many: List[List[str]]) -> Iterator[Batch]:
        for key, value in many:
            sent = _fitted(value, self._limits.tag_chars)
            if not self._takes(key, sent, len(self._tags) - (key in self._tags), self._limits.tags):
                yield self.cut()
            self._put("tags", self._tags, key, value, sent)

    def _empty(self) -> None:
        self._points: List[Point] = []
        self._params: Dict[str, str] = {}
        self._tags: Dict[str, str] = {}
        self._long: Dict[str, Dict[str, str]] = {}
        self._bytes = _BODY_BYTES

    def _room_for_points(self) -> int:
        return min(self._limits.metrics - len(self._points), self._limits.items - len(self))

    def _fitting(self, points: List[Point]) -> List[Point]:
        """As many of the first points as the request still has room for; at least one in an empty one."""
        if self._room_for_points() <= 0:
            return []
        size = _points_bytes(points)
        if self._bytes + size <= self._limits.request_bytes:
            self._bytes += size
            return points
        for index, point in enumerate(points):
            size = _points_bytes([point])
            if self._bytes + size > self._limits.request_bytes and (index or self):
                return points[:index]
            self._bytes += size
        return points

    def _takes(self, key: str, sent: str, count: int, most: int) -> bool:
        if not self:
            return True
        fits = self._bytes + _pair_bytes(key, sent) <= self._limits.request_bytes
        return fits and count < most and len(self) < self._limits.items

    def _put(self, kind: str, among: Dict[str, str], key: str, value: str, sent: str) -> None:
        self._bytes += _pair_bytes(key, sent)
        self._long.get(kind, {}).pop(key, None)
        if sent != value:
            self._long.setdefault(kind, {})[key] = value
        among[key] = sent

    def _whole(self, key: str) -> str:
        return self._long.get("params", {}).get(key, self._params[key])


def _fitted(value: str, chars: int) -> str:
    return value if len(value) <= chars else shortened(value, chars)


def _pair_bytes(key: str, value: str) -> int:
    return _PAIR_BYTES + len(json.dumps(key)) + len(json.dumps(value))


def _stretch(found: List[List[Any]], start: int) -> int:
    """Where the metric records end that begin at `start`."""
    for index in range(start + 1, len(found)):
        if found[index][0] != records.METRIC:
            return index
    return len(found)


def _points_bytes(points: List[Point]) -> int:
    """What they take in a request at most."""
    keys = "".join([point[0] for point in points])
    size = _POINT_BYTES * len(points) + (len(keys) if keys.isascii() else 12 * len(keys))
    return size + sum(_EXTRA_BYTES for point in points if len(point) > 4)


def _distinct(points: List[Point]) -> List[Point]:
    """Two points that are the same in all count as one."""
    try:
        if len(set(map(tuple, points))) == len(points) and all(point[1] == point[1] for point in points):
            return points
    except TypeError:
        # What MLflow 3 adds to a point is a dictionary.
        pass
    return list({(identity(point), *map(str, point[4:])): point for point in points}.values())


def _part(items: List[Any], low: int, high: int) -> Tuple[List[Any], int, int]:
    """`items[low:high]`, and the same bounds counted from behind the last item."""
    count = len(items)
    return items[low:high], max(0, low - count), max(0, high - count)
