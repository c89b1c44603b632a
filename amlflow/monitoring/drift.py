"""Data against their baseline, column by column and window by window: how far apart, and whether that is too far."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Literal

from amlflow.errors import AmlflowError
from amlflow.monitoring import columns, metrics, windows
from amlflow.monitoring.columns import Kind, Sample, Values
from amlflow.monitoring.frames import Frame
from amlflow.monitoring.thresholds import Threshold, Thresholds
from amlflow.monitoring.windows import Order, Window

# Azure ML's names of what is watched.
Signal = Literal["data_drift", "prediction_drift"]
Array = Any

_SHOWN = 5
_PICTURE_BINS, _PICTURE_CATEGORIES = 24, 12
_CHANCE = 0.001
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
class Reading:
    """One metric of one column. Of a test `value` is the p-value, `adjusted` the same corrected by Holm for the number of columns
    tested, which is held against the threshold, and `statistic` what it was made of. `baseline` is the same rate of the
    baseline."""

    metric: str
    value: float
    threshold: Threshold | None
    adjusted: float | None = None
    statistic: float | None = None
    baseline: float | None = None

    @property
    def crossed(self) -> bool:
        if self.threshold is None:
            return False
        if self.metric in metrics.TESTS:
            return (self.value if self.adjusted is None else self.adjusted) < self.threshold.value
        return self.value > self.threshold.value

    @property
    def fails(self) -> bool:
        return self.crossed and self.threshold is not None and self.threshold.enforced


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
    readings = _quality(pair, kind, base, sample, thresholds)
    notes, picture = _oddities(kind, base, sample), None
    if base.size and sample.size:
        if base.counts is None:
            readings = [*_of_numbers(pair, kind, base, sample, thresholds), *readings]
            picture = _histogram(base.sorted, sample.sorted)
        else:
            readings = [*_of_categories(pair, base, sample, thresholds), *readings]
            picture = _shares(base.counts, sample.counts or {})
    return ColumnReport(pair.column, pair.baseline, pair.signal, kind, readings, notes, picture)


def _of_numbers(pair: Pair, kind: Kind, base: Sample, sample: Sample, thresholds: Thresholds) -> list[Reading]:
    wanted = [metric for metric in metrics.OF_NUMBERS if thresholds.wants(pair.column, metric)]
    if not wanted:
        return []
    edges = metrics.bin_edges(base.sorted, sample.sorted)
    counts = [metrics.counts_between(values, edges) for values in (base.sorted, sample.sorted)]
    found = []
    for metric in wanted:
        threshold = _threshold(thresholds, pair, metric, "numbers", kind)
        if metric == metrics.JENSEN_SHANNON:
            found.append(Reading(metric, metrics.jensen_shannon_distance(*counts), threshold))
        elif metric == metrics.POPULATION_STABILITY:
            found.append(Reading(metric, metrics.population_stability_index(*counts), threshold))
        elif metric == metrics.WASSERSTEIN:
            distance = metrics.normalized_wasserstein_distance(base.sorted, sample.sorted, base.spread)
            found.append(Reading(metric, distance, threshold))
        else:
            result = metrics.kolmogorov_smirnov(base.sorted, sample.sorted)
            found.append(Reading(metric, result.p_value, threshold, statistic=result.statistic))
    return found


def _of_categories(pair: Pair, base: Sample, sample: Sample, thresholds: Thresholds) -> list[Reading]:
    import numpy as np

    known, own = base.counts or {}, sample.counts or {}
    labels = list(dict.fromkeys((*known, *own)))
    counts = [np.array([side.get(label, 0) for label in labels]) for side in (known, own)]
    found = []
    for metric in metrics.OF_CATEGORIES:
        if not thresholds.wants(pair.column, metric):
            continue
        threshold = thresholds.of(pair.column, metric, "categories")
        if metric == metrics.JENSEN_SHANNON:
            found.append(Reading(metric, metrics.jensen_shannon_distance(*counts), threshold))
        elif metric == metrics.POPULATION_STABILITY:
            found.append(Reading(metric, metrics.population_stability_index(*counts), threshold))
        else:
            result = metrics.pearson_chi_squared(*counts)
            found.append(Reading(metric, result.p_value, threshold, statistic=result.statistic))
    return found


def _quality(pair: Pair, kind: Kind, base: Sample, sample: Sample, thresholds: Thresholds) -> list[Reading]:
    """The shares of rows without a value, with one of another kind than the baseline's, and with one beyond its lowest and
    highest or not among its categories: Azure ML's data quality metrics, counted over all rows as there. Of a column that has
    lost its values all count, and those that tell how it lost them are there whatever is asked for."""
    rates = {
        metrics.NULL_RATE: (sample.nulls / sample.rows, base.nulls / base.rows),
        metrics.TYPE_ERROR_RATE: (sample.errors / sample.rows, base.errors / base.rows),
    }
    if base.size and kind in ("numeric", "categorical", "boolean"):
        rates[metrics.OUT_OF_BOUNDS_RATE] = (_out_of_bounds(base, sample) / sample.rows, 0.0)
    lost = _is_lost(base, sample)
    found = [
        Reading(metric, value, thresholds.of(pair.column, metric, "quality"), baseline=before)
        for metric, (value, before) in rates.items()
        if thresholds.wants(pair.column, metric) or (lost and value)
    ]
    return [replace(reading, threshold=_enforced(reading)) for reading in found] if lost else found


def _is_lost(base: Sample, sample: Sample) -> bool:
    """Whether no row has a value, and that is no chance: less than once in a thousand, by how often the baseline has none."""
    without = (base.rows - base.size + 1) / (base.rows + 1)
    return bool(base.size and not sample.size) and without**sample.rows < _CHANCE


def _enforced(reading: Reading) -> Threshold | None:
    return replace(reading.threshold, enforced=True) if reading.threshold else None


def _out_of_bounds(base: Sample, sample: Sample) -> int:
    if base.counts is not None:
        return sum(count for label, count in (sample.counts or {}).items() if label not in base.counts)
    import numpy as np

    below = int(np.searchsorted(sample.sorted, base.sorted[0], side="left"))
    above = len(sample.sorted) - int(np.searchsorted(sample.sorted, base.sorted[-1], side="right"))
    return below + above + sample.infinite


def _threshold(
    thresholds: Thresholds, pair: Pair, metric: str, metric_kind: metrics.MetricKind, kind: Kind
) -> Threshold | None:
    """A time goes on by itself: Azure's default for numbers is shown of it, and fails nothing."""
    found = thresholds.of(pair.column, metric, metric_kind)
    said = pair.column in thresholds.by_column or (pair.column, metric) in thresholds.by_both
    return replace(found, enforced=False) if found is not None and kind == "time" and not said else found


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
