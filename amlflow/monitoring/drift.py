"""Data against their baseline, column by column and window by window: how far apart, and whether that is too far."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Literal

from amlflow.errors import AmlflowError
from amlflow.monitoring import columns, metrics, readings, windows
from amlflow.monitoring.columns import Kind, Sample, Values
from amlflow.monitoring.frames import Frame
from amlflow.monitoring.readings import Reading
from amlflow.monitoring.thresholds import Thresholds
from amlflow.monitoring.windows import Order, Window

# Azure ML's names of what is watched.
Signal = Literal["data_drift", "prediction_drift"]
Array = Any

_SHOWN = 5
_PICTURE_BINS, _PICTURE_CATEGORIES = 24, 12
# More workers gain nothing: they wait for memory.
_WORKERS = 4
# Of many windows with few rows each most work is Python's own, and several workers only hand it to one another.
_MANY_WINDOWS, _FEW_ROWS = 32, 10_000


@dataclass(frozen=True, slots=True)
class Pair:
    """A column of the data, and the one of the baseline that it is held against."""

    column: str
    baseline: str
    signal: Signal = "data_drift"


@dataclass(frozen=True, slots=True)
class Data:
    """A frame with the number of the window that each row lies in, as `windows.numbers` has them, None for all rows in one."""

    frame: Frame
    numbers: Array | None
    pairs: Sequence[Pair]


@dataclass(frozen=True, slots=True)
class Picture:
    """Both distributions as shares: of the bins between `edges`, or of `labels`."""

    baseline: Sequence[float]
    sample: Sequence[float]
    edges: Sequence[float] = ()
    labels: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class ColumnReport:
    column: str
    baseline: str
    signal: Signal
    kind: Kind
    readings: Sequence[Reading]
    notes: Sequence[str] = ()
    picture: Picture | None = None

    def reading(self, metric: str) -> Reading | None:
        return next((reading for reading in self.readings if reading.metric == metric), None)

    @property
    def fails(self) -> bool:
        return any(reading.fails for reading in self.readings)

    @property
    def is_compared(self) -> bool:
        """Whether both sides have values, and these were held against one another, or one of their rates against a threshold that
        counts."""
        return self.picture is not None and any(
            reading.metric not in metrics.OF_QUALITY or (reading.threshold is not None and reading.threshold.enforced)
            for reading in self.readings
        )


@dataclass(frozen=True, slots=True)
class WindowReport:
    """`rows` is how many rows of the data lie in it; without any, `columns` is empty."""

    window: Window
    rows: int
    columns: Sequence[ColumnReport]

    @property
    def failing(self) -> list[ColumnReport]:
        return [column for column in self.columns if column.fails]


@dataclass(frozen=True, slots=True)
class DriftReport:
    """`notes` are about the data as a whole."""

    data: str
    baseline: str
    baseline_rows: int
    windows: Sequence[WindowReport]
    notes: Sequence[str]

    @property
    def failing(self) -> list[str]:
        """Columns with a crossed threshold that counts, in any window."""
        return list(dict.fromkeys(column.column for window in self.windows for column in window.failing))


def assess(
    baseline: Frame,
    data: Sequence[Data],
    spans: Sequence[Window],
    thresholds: Thresholds,
    kinds: Mapping[str, Kind],
) -> list[WindowReport]:
    """`spans` are the windows; `kinds` says what a column is where its values do not tell. Raises `AmlflowError` for a column
    none of whose values is of the baseline's kind."""
    orders = [windows.in_order(part.numbers, part.frame.rows, len(spans)) for part in data]
    work = [(part.frame, order, pair) for part, order in zip(data, orders, strict=True) for pair in part.pairs]

    def one(item: tuple[Frame, Order, Pair]) -> list[ColumnReport | None]:
        return _column(baseline, *item, thresholds, kinds.get(item[2].column))

    most = max((part.frame.rows for part in data), default=0)
    alone = len(spans) > _MANY_WINDOWS and most < len(spans) * _FEW_ROWS
    with ThreadPoolExecutor(1 if alone else _WORKERS) as pool:
        found = list(pool.map(one, work))
    reports = []
    for index, window in enumerate(spans):
        rows = max((order.ends[index + 1] - order.ends[index] for order in orders), default=0)
        shown = [report for column in found if (report := column[index]) is not None]
        reports.append(WindowReport(window, rows, _corrected(shown)))
    return reports


def _column(
    baseline: Frame, data: Frame, order: Order, pair: Pair, thresholds: Thresholds, kind: Kind | None
) -> list[ColumnReport | None]:
    """A report a window, None where the window has no rows."""
    base_column = baseline.column(pair.baseline)
    kind = kind or columns.kind_of(base_column)
    known = columns.values(base_column, kind)
    base = known.sample()
    del base_column
    own = columns.values(data.column(pair.column), kind).spelled_as(known)
    del known
    _check_kind(baseline, data, pair, kind, base, own)
    if order.places is not None:
        own = own.taken(order.places)
    found: list[ColumnReport | None] = []
    for index in range(len(order.ends) - 1):
        sample = own.sample(order.rows(index))
        found.append(_compared(pair, kind, base, sample, thresholds) if sample.rows else None)
    return found


def _compared(pair: Pair, kind: Kind, base: Sample, sample: Sample, thresholds: Thresholds) -> ColumnReport:
    found = readings.of_quality(pair.column, kind, base, sample, thresholds)
    notes, picture = _oddities(kind, base, sample), None
    if base.size and sample.size:
        found = [*readings.of_values(pair.column, kind, base, sample, thresholds), *found]
        if base.counts is None:
            picture = _histogram(base.sorted, sample.sorted)
        else:
            picture = _shares(base.counts, sample.counts or {})
    return ColumnReport(pair.column, pair.baseline, pair.signal, kind, found, notes, picture)


def _oddities(kind: Kind, base: Sample, sample: Sample) -> list[str]:
    """A sentence for each thing about the column that its figures alone do not tell."""
    notes = []
    if not base.size:
        notes.append("The baseline has no value, so that there is nothing to compare with.")
    elif not sample.size:
        notes.append("The data have no value: all are null or of another kind.")
    elif sample.infinite:
        notes.append(f"{sample.infinite} infinite values count as out of bounds and are left out of the distributions.")
    if sample.errors:
        notes.append(f"{sample.errors} values are not {_KIND_WORDS[kind]}, as the baseline's are.")
    if base.size and base.counts is not None:
        new = {label: n for label, n in (sample.counts or {}).items() if label not in base.counts}
        if new:
            names = ", ".join(repr(label) for label in sorted(new, key=lambda label: -new[label])[:_SHOWN])
            more = f" and {len(new) - _SHOWN} more" if len(new) > _SHOWN else ""
            notes.append(f"New categories: {names}{more} ({sum(new.values())} rows).")
    if _is_constant(base):
        notes.append("The baseline is constant.")
    if kind == "time" and sample.size:
        notes.append("A time moves on by itself: its distance fails nothing unless --threshold names the column.")
    return notes


_KIND_WORDS: Mapping[Kind, str] = {
    "numeric": "numbers",
    "categorical": "categories",
    "boolean": "true or false",
    "time": "times",
    "text": "texts",
}


def _is_constant(base: Sample) -> bool:
    if base.counts is not None:
        return len(base.counts) == 1
    return bool(len(base.sorted) and base.sorted[0] == base.sorted[-1])


def _check_kind(baseline: Frame, data: Frame, pair: Pair, kind: Kind, base: Sample, own: Values) -> None:
    wrong, there = int(own.errors.sum()), len(own.errors) - int(own.nulls.sum())
    if not base.size or wrong == 0 or wrong < there:
        return
    example = next((value for value in data.column(pair.column).to_pylist() if value is not None), None)
    raise AmlflowError(
        f"The column {pair.column!r} of {data.label} is of another kind than in the baseline {baseline.label}: there its values "
        f"are {_KIND_WORDS[kind]}, and here none is, for example {str(example)[:40]!r}.",
        f"Compare data of one schema, or say what the column is with --kind {pair.column}=categorical.",
    )


def _corrected(reports: Sequence[ColumnReport]) -> list[ColumnReport]:
    """The tests of all the columns together are one family."""
    tests = [reading for report in reports for reading in report.readings if reading.metric in metrics.TESTS]
    adjusted = iter(metrics.holm([reading.value for reading in tests]))
    return [
        replace(
            report,
            readings=[
                replace(reading, adjusted=next(adjusted)) if reading.metric in metrics.TESTS else reading
                for reading in report.readings
            ],
        )
        for report in reports
    ]


def _histogram(base: Array, sample: Array) -> Picture:
    """Bins of one width over the middle 99 % of both, so that one far value does not squeeze all others into one bin; what lies
    beyond is counted in the outermost."""
    import numpy as np

    low = min(base[int(0.005 * len(base))], sample[int(0.005 * len(sample))])
    high = max(base[math.ceil(0.995 * len(base)) - 1], sample[math.ceil(0.995 * len(sample)) - 1])
    edges = metrics.even_edges(low, high, _PICTURE_BINS) if low < high else np.array([low, low])
    shares = [metrics.counts_between(values, edges) / len(values) for values in (base, sample)]
    return Picture(shares[0].tolist(), shares[1].tolist(), edges=edges.tolist())


def _shares(base: Mapping[str, int], sample: Mapping[str, int]) -> Picture:
    """The largest categories, and all the others as one."""
    totals = [max(1, sum(side.values())) for side in (base, sample)]
    share = {
        label: (base.get(label, 0) / totals[0], sample.get(label, 0) / totals[1])
        for label in dict.fromkeys((*base, *sample))
    }
    labels = sorted(share, key=lambda label: -max(share[label]))[:_PICTURE_CATEGORIES]
    rest = [1 - sum(share[label][side] for label in labels) for side in (0, 1)]
    others = len(share) - len(labels)
    sides = [[share[label][side] for label in labels] + ([max(0.0, rest[side])] if others else []) for side in (0, 1)]
    return Picture(sides[0], sides[1], labels=[*labels, *([f"{others} others"] if others else [])])
