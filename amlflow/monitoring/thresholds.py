"""Which value of which metric is too much: Azure ML's defaults, and what the user says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from amlflow.errors import UsageError, nearest
from amlflow.monitoring import metrics

# What azure-ai-ml puts into a monitor that names none (`NumericalDriftMetrics`, `CategoricalDriftMetrics`,
# `DataQualityMetricsNumerical`: `_get_default_thresholds`).
OF_NUMBERS: Mapping[str, float] = {metrics.WASSERSTEIN: 0.1}
OF_CATEGORIES: Mapping[str, float] = {metrics.JENSEN_SHANNON: 0.1}
OF_QUALITY: Mapping[str, float] = dict.fromkeys(metrics.OF_QUALITY, 0.0)
# Of the metrics that Azure ML has no default for, when they are asked for: the level at which scorecards are rebuilt
# (Siddiqi, 2006), and the usual level of significance.
ASKED_FOR: Mapping[str, float] = {
    metrics.JENSEN_SHANNON: 0.1,
    metrics.POPULATION_STABILITY: 0.25,
    metrics.KOLMOGOROV_SMIRNOV: 0.05,
    metrics.CHI_SQUARED: 0.05,
}
# Of these a value below the threshold is the alarm, of all others one above it (azureml-assets, `model_monitoring`,
# `evaluate_metrics_threshold`).
_LOW_IS_WORSE = (*(name.lower() for name in metrics.TESTS), "accuracy", "precision", "recall")


@dataclass(frozen=True, slots=True)
class Threshold:
    """`value` that must not be exceeded (or fallen below, by a p-value). One that is not `enforced` is shown, and fails
    nothing."""

    value: float
    enforced: bool


@dataclass(frozen=True, slots=True)
class Thresholds:
    """`asked` are the metrics named by the user, all when empty. `by_metric`, `by_column` and `by_both` (column, metric) are
    what the user said; the nearest to a column wins."""

    asked: Sequence[str] = ()
    by_metric: Mapping[str, float] = field(default_factory=dict)
    by_column: Mapping[str, float] = field(default_factory=dict)
    by_both: Mapping[tuple[str, str], float] = field(default_factory=dict)

    def wants(self, metric: str) -> bool:
        return not self.asked or metric in self.asked

    def of(self, column: str, metric: str, kind: metrics.MetricKind) -> Threshold | None:
        """None where nothing says how much is too much."""
        defaults = {"numbers": OF_NUMBERS, "categories": OF_CATEGORIES, "quality": OF_QUALITY}[kind]
        by_column = self.by_column.get(column) if self._is_main(metric, kind) else None
        for value in (self.by_both.get((column, metric)), by_column, self.by_metric.get(metric)):
            if value is not None:
                return Threshold(value, True)
        if metric in self.asked:
            return Threshold(defaults.get(metric, ASKED_FOR.get(metric, 0.0)), True)
        # Azure ML's default for the rates is nought, which one value beyond the highest of the baseline exceeds.
        return Threshold(defaults[metric], kind != "quality") if metric in defaults else None

    def _is_main(self, metric: str, kind: metrics.MetricKind) -> bool:
        """Whether a threshold for a column as a whole means this metric: the first asked for that its kind has, else Azure's."""
        if kind == "quality":
            return False
        have = metrics.OF_NUMBERS if kind == "numbers" else metrics.OF_CATEGORIES
        chosen = [name for name in self.asked if name in have]
        return metric == (chosen[0] if chosen else next(iter(OF_NUMBERS if kind == "numbers" else OF_CATEGORIES)))


def metric_name(asked: str) -> str:
    """The metric as Azure ML's API writes it, from that name or the one of its SDK and YAML (`jensen_shannon_distance`). Raises
    `UsageError`, naming the nearest."""
    found = _find(asked)
    if not found:
        near = nearest(asked, metrics.ALL)
        raise UsageError(
            f"There is no metric {asked!r}.{f' Did you mean {near}?' if near else ''}",
            f"It is one of {', '.join(metrics.ALL)}.",
        )
    return found


def crosses(metric: str, value: float, threshold: float) -> bool:
    """Whether Azure ML's monitors raise an alarm, by the API's name of the metric in any case."""
    return value < threshold if metric.lower() in _LOW_IS_WORSE else value > threshold


def parse(asked: Sequence[str], given: Sequence[str], columns: Sequence[str]) -> Thresholds:
    """From metrics asked for and from `METRIC=0.2`, `COLUMN=0.2` and `COLUMN.METRIC=0.2`. Raises `UsageError` for what is
    none of the three."""
    by_metric: dict[str, float] = {}
    by_column: dict[str, float] = {}
    by_both: dict[tuple[str, str], float] = {}
    for item in given:
        name, separator, text = item.rpartition("=")
        value = _number(item, text) if separator and name else None
        if value is None:
            raise UsageError(f"{item!r} is not a threshold.", "Write METRIC=0.2, COLUMN=0.2 or COLUMN.METRIC=0.2.")
        column, _, metric = name.rpartition(".")
        if name in columns:
            by_column[name] = value
        elif found := _find(name):
            by_metric[found] = value
        elif column in columns and (found := _find(metric)):
            by_both[column, found] = value
        else:
            near = nearest(column if column in columns else name, [*columns, *metrics.ALL])
            raise UsageError(
                f"--threshold {item!r} names neither a column nor a metric.{f' Did you mean {near}?' if near else ''}",
                f"Columns: {', '.join(columns[:20]) or 'none'}; metrics: {', '.join(metrics.ALL)}.",
            )
    return Thresholds([metric_name(name) for name in asked], by_metric, by_column, by_both)


def _find(asked: str) -> str:
    plain = asked.replace("_", "").replace("-", "").lower()
    return next((name for name in metrics.ALL if name.lower() == plain), "")


def _number(item: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise UsageError(f"--threshold {item!r}: {text!r} is not a number of nought or more.", "Write METRIC=0.2.")
    return value
