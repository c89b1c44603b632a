"""Which value of which metric is too much: Azure ML's defaults, and what the user says."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches

from amlflow.errors import UsageError, nearest
from amlflow.monitoring import metrics
from amlflow.monitoring.columns import Kind

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
# A word so much like a metric's name is a slip of it rather than a column.
_ALIKE = 0.85


@dataclass(frozen=True, slots=True)
class Threshold:
    """`value` that must not be exceeded (or fallen below, by a p-value). One that is not `enforced` is shown, and fails
    nothing."""

    value: float
    enforced: bool


@dataclass(frozen=True, slots=True)
class Thresholds:
    """`asked` are the metrics named by the user, all when empty; one that a threshold names is wanted, too. `by_metric`,
    `by_column` and `by_both` (column, metric) are what the user said; the nearest to a column wins."""

    asked: Sequence[str] = ()
    by_metric: Mapping[str, float] = field(default_factory=dict)
    by_column: Mapping[str, float] = field(default_factory=dict)
    by_both: Mapping[tuple[str, str], float] = field(default_factory=dict)

    def wants(self, column: str, metric: str) -> bool:
        named = metric in self.by_metric or (column, metric) in self.by_both
        return not self.asked or metric in self.asked or named

    def of(self, column: str, metric: str, kind: metrics.MetricKind) -> Threshold | None:
        """None where nothing says how much is too much."""
        defaults = {"numbers": OF_NUMBERS, "categories": OF_CATEGORIES, "quality": OF_QUALITY}[kind]
        by_column = self.by_column.get(column) if metric == self.main(kind) else None
        for value in (self.by_both.get((column, metric)), by_column, self.by_metric.get(metric)):
            if value is not None:
                return Threshold(value, True)
        if metric in self.asked:
            return Threshold(defaults.get(metric, ASKED_FOR.get(metric, 0.0)), True)
        # Azure ML's default for the rates is nought, which one value beyond the highest of the baseline exceeds.
        return Threshold(defaults[metric], kind != "quality") if metric in defaults else None

    def main(self, kind: metrics.MetricKind) -> str:
        """What a threshold for a column as a whole means: the first metric asked for that its kind has, else Azure's, and no
        rate."""
        have = {"numbers": metrics.OF_NUMBERS, "categories": metrics.OF_CATEGORIES, "quality": ()}[kind]
        return next((name for name in (*self.asked, *OF_NUMBERS, *OF_CATEGORIES) if name in have), "")


def check(limits: Thresholds, names: Iterable[str], kind_of: Callable[[str], Kind]) -> list[str]:
    """A sentence for each metric's threshold that can hold for none of the columns, by what they are: the same thresholds may be
    for many tables. Raises `UsageError` for one that names a column, and can hold for nothing."""
    known = list(names)
    idle = [
        f"--threshold {metric}={value:g} holds for no column: none of the {len(known)} compared is of a kind that has this "
        "metric. --kind COLUMN=KIND says what a column is."
        for metric, value in limits.by_metric.items()
        if not any(metric in _measured(kind_of(name)) for name in known)
    ]
    for (name, metric), value in limits.by_both.items():
        if metric not in _measured(kind_of(name)):
            raise _idle(f"{name}.{metric}={value:g}", name, kind_of(name), "which has not this metric")
    for name, value in limits.by_column.items():
        main = limits.main("categories" if kind_of(name) in _OF_CATEGORIES else "numbers")
        if not limits.wants(name, main):
            raise _idle(f"{name}={value:g}", name, kind_of(name), "and no --metric is of that kind")
    return idle


def _idle(said: str, name: str, kind: Kind, why: str) -> UsageError:
    return UsageError(
        f"--threshold {said} holds for nothing: the column {name!r} is {_WORDS[kind]}, {why}.",
        f"Its metrics are {', '.join(_measured(kind))}; if it is of another kind, say so with --kind {name}=KIND.",
    )


_OF_CATEGORIES: Sequence[Kind] = ("categorical", "boolean")
_WORDS: Mapping[Kind, str] = {
    "numeric": "numeric",
    "categorical": "categorical",
    "boolean": "boolean",
    "time": "a time",
    "text": "text",
}


def _measured(kind: Kind) -> Sequence[str]:
    """The metrics that a column of that kind may have."""
    rates = [rate for rate in metrics.OF_QUALITY if rate != metrics.OUT_OF_BOUNDS_RATE or kind not in ("time", "text")]
    return [*(metrics.OF_CATEGORIES if kind in _OF_CATEGORIES else metrics.OF_NUMBERS), *rates]


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


def parse(asked: Sequence[str], given: Sequence[str], columns: Sequence[str] | None) -> Thresholds:
    """From metrics asked for and from `METRIC=0.2`, `COLUMN=0.2` and `COLUMN.METRIC=0.2`. Raises `UsageError` for what is none of
    the three. Where the columns are not known yet (None), what names no metric names a column, unless it is a slip of one."""
    by_metric: dict[str, float] = {}
    by_column: dict[str, float] = {}
    by_both: dict[tuple[str, str], float] = {}
    for item in given:
        name, separator, text = item.rpartition("=")
        value = _number(item, text) if separator and name else None
        if value is None:
            raise UsageError(f"{item!r} is not a threshold.", "Write METRIC=0.2, COLUMN=0.2 or COLUMN.METRIC=0.2.")
        column, _, metric = name.rpartition(".")
        if columns is not None and name in columns:
            by_column[name] = value
        elif found := _find(name):
            by_metric[found] = value
        elif column and (columns is None or column in columns) and (found := _find(metric)):
            by_both[column, found] = value
        elif columns is None and not (slip := _slip(metric)):
            by_column[name] = value
        elif columns is None:
            raise UsageError(
                f"--threshold {item!r}: there is no metric {metric!r}. Did you mean {slip!r}?",
                f"Metrics: {', '.join(metrics.ALL)}. A column of that name takes COLUMN.METRIC=0.2.",
            )
        else:
            near = nearest(column if column in columns else name, [*columns, *metrics.ALL])
            raise UsageError(
                f"--threshold {item!r} names neither a column nor a metric.{f' Did you mean {near}?' if near else ''}",
                f"Columns: {', '.join(columns[:20]) or 'none'}; metrics: {', '.join(metrics.ALL)}.",
            )
    return Thresholds([metric_name(name) for name in asked], by_metric, by_column, by_both)


def _slip(word: str) -> str:
    """The metric that was meant, empty for another word."""
    by_plain = {_plain(name): name for name in metrics.ALL}
    return next((by_plain[hit] for hit in get_close_matches(_plain(word), by_plain, 1, _ALIKE)), "")


def _find(asked: str) -> str:
    return next((name for name in metrics.ALL if _plain(name) == _plain(asked)), "")


def _plain(name: str) -> str:
    return name.replace("_", "").replace("-", "").lower()


def _number(item: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise UsageError(f"--threshold {item!r}: {text!r} is not a number of nought or more.", "Write METRIC=0.2.")
    return value
