"""The metrics of one column, each with the threshold that it is held to."""

from __future__ import annotations

from dataclasses import dataclass, replace

from amlflow.monitoring import metrics
from amlflow.monitoring.columns import Kind, Sample
from amlflow.monitoring.thresholds import Threshold, Thresholds

_CHANCE = 0.001


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


def of_values(column: str, kind: Kind, base: Sample, sample: Sample, thresholds: Thresholds) -> list[Reading]:
    """How far the values lie apart; both sides have some."""
    if base.counts is None:
        return _of_numbers(column, kind, base, sample, thresholds)
    return _of_categories(column, base, sample, thresholds)


def of_quality(column: str, kind: Kind, base: Sample, sample: Sample, thresholds: Thresholds) -> list[Reading]:
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
        Reading(metric, value, thresholds.of(column, metric, "quality"), baseline=before)
        for metric, (value, before) in rates.items()
        if thresholds.wants(column, metric) or (lost and value)
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
    thresholds: Thresholds, column: str, metric: str, metric_kind: metrics.MetricKind, kind: Kind
) -> Threshold | None:
    """A time goes on by itself: Azure's default for numbers is shown of it, and fails nothing."""
    found = thresholds.of(column, metric, metric_kind)
    said = column in thresholds.by_column or (column, metric) in thresholds.by_both
    return replace(found, enforced=False) if found is not None and kind == "time" and not said else found


def _of_numbers(column: str, kind: Kind, base: Sample, sample: Sample, thresholds: Thresholds) -> list[Reading]:
    wanted = [metric for metric in metrics.OF_NUMBERS if thresholds.wants(column, metric)]
    if not wanted:
        return []
    edges = metrics.bin_edges(base.sorted, sample.sorted)
    counts = [metrics.counts_between(values, edges) for values in (base.sorted, sample.sorted)]
    found = []
    for metric in wanted:
        threshold = _threshold(thresholds, column, metric, "numbers", kind)
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


def _of_categories(column: str, base: Sample, sample: Sample, thresholds: Thresholds) -> list[Reading]:
    import numpy as np

    known, own = base.counts or {}, sample.counts or {}
    labels = list(dict.fromkeys((*known, *own)))
    counts = [np.array([side.get(label, 0) for label in labels]) for side in (known, own)]
    found = []
    for metric in metrics.OF_CATEGORIES:
        if not thresholds.wants(column, metric):
            continue
        threshold = thresholds.of(column, metric, "categories")
        if metric == metrics.JENSEN_SHANNON:
            found.append(Reading(metric, metrics.jensen_shannon_distance(*counts), threshold))
        elif metric == metrics.POPULATION_STABILITY:
            found.append(Reading(metric, metrics.population_stability_index(*counts), threshold))
        else:
            result = metrics.pearson_chi_squared(*counts)
            found.append(Reading(metric, result.p_value, threshold, statistic=result.statistic))
    return found
