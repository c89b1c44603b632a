"""What each signal of a monitor computes: a value a metric and column, and whether it crossed its threshold.

The formulas are those of `amlflow.monitoring`. As in the open-source components (azureml-assets, `model_monitoring`): only
columns that both sides have are compared; numbers and categories have thresholds of their own; of a test the p-value itself
is held against the threshold; and to a threshold of data quality the baseline's own rate is added
(`data_quality_metrics_joiner`). The emulator's own choice: rows with a null are not left out as a whole; times are left
out, because they move on by themselves; texts count as categories; and where the filter asks for the most important
features, all are taken, for the emulator computes no attributions.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from amlflow.emulator.monitoring.data import Rows
from amlflow.errors import AmlflowError, UsageError
from amlflow.monitoring import columns, drift, performance, records, thresholds
from amlflow.monitoring.columns import Kind
from amlflow.monitoring.drift import ColumnReport, Data, Pair
from amlflow.monitoring.estimates import Task
from amlflow.monitoring.performance import Names
from amlflow.monitoring.thresholds import Thresholds

Say = Callable[[str], None]
_NUMERICAL, _CATEGORICAL = "Numerical", "Categorical"
_DEFAULTS: Mapping[str, Mapping[str, float]] = {
    _NUMERICAL: {**thresholds.ASKED_FOR, **thresholds.OF_NUMBERS, **thresholds.OF_QUALITY},
    _CATEGORICAL: {**thresholds.ASKED_FOR, **thresholds.OF_CATEGORIES, **thresholds.OF_QUALITY},
}
_OF_PERFORMANCE = {
    "accuracy": "Accuracy",
    "precision": "Precision",
    "recall": "Recall",
    "mae": "MeanAbsoluteError",
    "rmse": "RootMeanSquaredError",
}
_EVERY_THRESHOLD = "azureml.modelmonitor.model_performance_thresholds"
SUPPORTED = ("DataDrift", "PredictionDrift", "DataQuality", "ModelPerformance")


@dataclass(frozen=True, slots=True)
class Row:
    """`group` is the column, empty for what is of the data as a whole; `threshold` None for what has none. Names are the
    API's."""

    metric: str
    value: float
    group: str = ""
    threshold: float | None = None

    @property
    def crossed(self) -> bool:
        return self.threshold is not None and thresholds.crosses(self.metric, self.value, self.threshold)


def compute(signal: Mapping[str, Any], production: Rows, reference: Rows, say: Say) -> list[Row]:
    """The rows of one signal. Raises `AmlflowError` for data that cannot be compared."""
    kind = signal["signalType"]
    if kind == "ModelPerformance":
        return _performance(signal, production, reference, say)
    limits = _limits(signal)
    pairs = _pairs(signal, production, reference, say)
    kinds = _kinds(signal, reference, pairs, say)
    kept = [pair for pair in pairs if pair.column in kinds]
    if not kept:
        raise AmlflowError(
            f"The {production.frame.label} and the {reference.frame.label} have no column in common to compare: there are "
            f"{', '.join(production.frame.names[:20])}, and {', '.join(reference.frame.names[:20])}."
        )
    asked = list(dict.fromkeys(metric for _, metric in limits))
    data = Data(production.frame, production.numbers, kept)
    report = drift.assess(reference.frame, [data], [production.window], Thresholds(asked), kinds)[0]
    counts = [Row("BaselineRowCount", reference.count), Row("TargetRowCount", production.count)]
    computed = [row for column in report.columns for row in _of_column(column, limits)]
    if not computed:
        notes = (f" {column.column!r}: {note}" for column in report.columns for note in column.notes[:1])
        raise AmlflowError(f"None of the metrics could be computed of any column.{''.join(notes)}")
    return [*counts, *computed]


def _of_column(report: ColumnReport, limits: Mapping[tuple[str, str], float]) -> Iterator[Row]:
    of = _NUMERICAL if report.kind == "numeric" else _CATEGORICAL
    for reading in report.readings:
        limit = limits.get((of, reading.metric))
        if limit is not None and math.isfinite(reading.value):
            yield Row(_capital(reading.metric), reading.value, report.column, limit + (reading.baseline or 0.0))


def _limits(signal: Mapping[str, Any]) -> dict[tuple[str, str], float]:
    """Thresholds by Numerical or Categorical, and our name of the metric; the default where none is said."""
    found = {}
    for item in signal.get("metricThresholds") or []:
        of, metric = _capital(str(item.get("dataType") or _NUMERICAL)), thresholds.metric_name(str(item.get("metric")))
        value = (item.get("threshold") or {}).get("value")
        found[of, metric] = _DEFAULTS[of].get(metric, 0.0) if value is None else float(value)
    return found


def _pairs(signal: Mapping[str, Any], production: Rows, reference: Rows, say: Say) -> list[Pair]:
    own, known = production.frame.names, reference.frame.names
    target = _column(signal["productionData"][0], "target_column")
    if signal["signalType"] == "PredictionDrift" and target:
        baseline = _column(signal["referenceData"], "target_column") or target
        for name, frame in ((target, production.frame), (baseline, reference.frame)):
            _check(name, frame.names, frame.label)
        return [Pair(target, baseline, "prediction_drift")]
    others = {records.TIME, records.CORRELATION, *(signal["productionData"][0].get("columns") or {}).values()}
    common = [name for name in own if name in known and name not in others]
    chosen = signal.get("features") or {}
    if chosen.get("filterType") == "FeatureSubset":
        wanted = [str(name) for name in chosen.get("features") or []]
        for name in wanted:
            _check(name, common, "columns that both sides have")
        common = wanted
    elif chosen.get("filterType") == "TopNFeaturesByAttribution":
        say(f"The {chosen.get('top', 10)} most important features are asked for; all are taken, without attributions.")
    return [Pair(name, name) for name in common]


def _kinds(signal: Mapping[str, Any], reference: Rows, pairs: Sequence[Pair], say: Say) -> dict[str, Kind]:
    """What the columns are, by the signal's word or the baseline's values; times are not among them."""
    said = signal.get("featureDataTypeOverride") or {}
    found: dict[str, Kind] = {}
    for pair in pairs:
        kind = columns.kind_of(reference.frame.column(pair.baseline))
        asked = str(said.get(pair.column) or "").lower()
        if kind == "time" and not asked:
            say(f"The column {pair.column!r} holds times, and is left out.")
            continue
        is_number = asked == "numerical" if asked else kind == "numeric"
        found[pair.column] = "numeric" if is_number else "boolean" if kind == "boolean" else "categorical"
    return found


def _performance(signal: Mapping[str, Any], production: Rows, reference: Rows, say: Say) -> list[Row]:
    limits, task = _performance_limits(signal)
    answers, truth = signal["productionData"][0], signal["referenceData"]
    names = Names(
        _column(answers, "correlation_id") or records.CORRELATION,
        _column(truth, "correlation_id") or records.CORRELATION,
        _column(answers, "prediction") or _column(answers, "target_column"),
        _column(truth, "target") or _column(truth, "target_column"),
    )
    for name, frame in (
        (names.join, production.frame),
        (names.prediction, production.frame),
        (names.truth_join, reference.frame),
        (names.target, reference.frame),
    ):
        _check(name, frame.names, frame.label)
    joined = performance.join(production.frame, reference.frame, names, cast("Task", task))
    for note in joined.notes:
        say(note)
    positive = performance.positive_label(joined, "")
    found = performance.evaluate(joined, [production.window], production.numbers, positive)[0]
    if not found.rows:
        raise AmlflowError("The window contains no data with a truth: no answer in it has come true yet.")
    values = {item.metric: item.value for item in found.estimates}
    if "rmse" in values:
        values["mse"] = values["rmse"] ** 2
    shown = {**_OF_PERFORMANCE, "mse": "MeanSquaredError"}
    counted = Row("TargetRowCount", found.rows)
    return [
        counted,
        *(
            Row(shown[metric], value, threshold=limits.get(shown[metric].lower()))
            for metric, value in values.items()
            if metric in shown and math.isfinite(value)
        ),
    ]


def _performance_limits(signal: Mapping[str, Any]) -> tuple[dict[str, float], str]:
    """Thresholds by the metric in small letters, and the task. azure-ai-ml hands over all of them in a property of the
    signal, beside the one that the API knows."""
    every = (signal.get("properties") or {}).get(_EVERY_THRESHOLD)
    given = json.loads(every) if every else [signal["metricThreshold"]]
    first = signal["metricThreshold"] if not given else given[0]
    limits = {
        str(item["metric"]).lower(): float(item["threshold"]["value"])
        for item in given
        if (item.get("threshold") or {}).get("value") is not None
    }
    return limits, str(first.get("modelType") or "classification").lower()


def _column(data: Mapping[str, Any], use: str) -> str:
    return str((data.get("columns") or {}).get(use) or "")


def _check(name: str, known: Sequence[str], label: str) -> None:
    if name not in known:
        raise UsageError(f"There is no column {name!r} among the {label}: {', '.join(known[:20]) or 'none'}.")


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
