"""What a monitor has found, as a run of its experiment, so that `compare` and MLflow's own pages show it over time."""

from __future__ import annotations

import hashlib
import json
import math
import re
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from amlflow.monitoring import metrics
from amlflow.monitoring.drift import ColumnReport, DriftReport, WindowReport
from amlflow.monitoring.performance import PerformanceReport
from amlflow.monitoring.windows import Window
from amlflow.workspaces.base import Metric, Run, Workspace

EXPERIMENT_SUFFIX = "-monitoring"
# MLflow refuses other characters in a metric's name; a slash would make a path of it.
_NOT_IN_KEYS = re.compile(r"[^\w\-. ]")
_LONGEST_KEY = 250
# What two columns' keys have in common at the least where they are alike with any metric behind them.
_COMPARED = _LONGEST_KEY - 1 - max(map(len, metrics.ALL))
_SUMMARIES = ("max", "min")
_LONGEST_PARAM = 250
# A column's name, that of the baseline's, and the signal.
_Column = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class Finding:
    """What is logged; `kind` is drift or performance."""

    kind: str
    name: str
    model_run_id: str
    params: Mapping[str, str]
    points: Sequence[Metric]


def log(workspace: Workspace, finding: Finding, experiment: str, document: Mapping[str, Any], page: str) -> Run:
    """Log it, with the report's record and its page among the artifacts, as one finished run of the experiment, `NAME-monitoring`
    where none is named."""
    target = workspace.ensure_experiment(experiment or f"{finding.name}{EXPERIMENT_SUFFIX}")
    tags = {"amlflow.monitor": finding.kind, "amlflow.monitor.name": finding.name}
    if finding.model_run_id:
        tags["amlflow.monitor.model_run"] = finding.model_run_id
    params = {key: value[:_LONGEST_PARAM] for key, value in finding.params.items() if value}
    name = f"{finding.kind}-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}"
    run = workspace.create_run(target.id, name, tags, params)
    try:
        workspace.log_batch(run.id, finding.points)
        with tempfile.TemporaryDirectory() as folder:
            for suffix, text in (("json", _json(document)), ("html", page)):
                file = Path(folder) / f"{finding.kind}.{suffix}"
                file.write_text(text, encoding="utf-8")
                workspace.log_artifact(run.id, file)
    except BaseException:
        workspace.finish_run(run.id, "FAILED")
        raise
    workspace.finish_run(run.id, "FINISHED")
    return workspace.get_run(run.id)


def of_drift(report: DriftReport, name: str, run_id: str) -> Finding:
    """A step a window: how many columns crossed a threshold, the largest of each metric, and of each column the metrics that
    have a threshold which counts."""
    stems = _stems(column for window in report.windows for column in window.columns)
    points = [
        point
        for step, window in enumerate(report.windows)
        for point in _points(_of_window(window, stems), step, window.window)
    ]
    return Finding("drift", name, run_id, {"data": report.data, "baseline": report.baseline}, points)


def of_performance(report: PerformanceReport, name: str, run_id: str) -> Finding:
    points: list[Metric] = []
    for step, window in enumerate(report.windows):
        values = {"rows": float(window.rows)}
        for item in window.estimates:
            values |= {item.metric: item.value, f"{item.metric}.low": item.low, f"{item.metric}.high": item.high}
        points += _points(values.items(), step, window.window)
    params = {"data": report.data, "truth": report.truth, "task": report.task, "baseline": report.baseline}
    return Finding("performance", name, run_id, params, points)


def _of_window(window: WindowReport, stems: Mapping[_Column, str]) -> Iterator[tuple[str, float]]:
    yield "rows", float(window.rows)
    if not window.columns:
        return
    yield "columns_drifted", float(len(window.failing))
    yield "columns_drifted_share", len(window.failing) / len(window.columns)
    for metric in metrics.ALL:
        values = [reading.value for column in window.columns if (reading := column.reading(metric)) is not None]
        if values and metric in metrics.TESTS:
            yield f"min.{metric}", min(values)
        elif values:
            yield f"max.{metric}", max(values)
    for column in window.columns:
        for reading in column.readings:
            if reading.threshold is not None and reading.threshold.enforced:
                yield f"{stems[_identity(column)]}.{reading.metric}"[-_LONGEST_KEY:], reading.value


def _identity(column: ColumnReport) -> _Column:
    """Inputs and answers may have a column of one name."""
    return column.column, column.baseline, column.signal


def _stems(reports: Iterable[ColumnReport]) -> dict[_Column, str]:
    """What the keys of each column begin with: its name as far as a key can hold it, with a digest where several columns would
    have the same keys, or a column those of the summaries, so that no value stands for another."""
    alike: dict[str, list[_Column]] = defaultdict(list)
    for column in dict.fromkeys(map(_identity, reports)):
        alike[_NOT_IN_KEYS.sub("_", column[0])[-_COMPARED:]].append(column)
    stems = {}
    for known, found in alike.items():
        for column in found:
            stem = _NOT_IN_KEYS.sub("_", column[0])
            if len(found) > 1 or known in _SUMMARIES:
                stem += f"_{hashlib.sha256(json.dumps(column).encode()).hexdigest()[:8]}"
            stems[column] = stem
    return stems


def _points(values: Iterable[tuple[str, float]], step: int, window: Window) -> list[Metric]:
    at_ms = window.end_ms if window.end_ms is not None else time.time_ns() // 1_000_000
    return [Metric(key, value, step, at_ms) for key, value in values if math.isfinite(value)]


def _json(document: Mapping[str, Any]) -> str:
    return json.dumps(_finite(document), indent=1, ensure_ascii=False, allow_nan=False)


def _finite(value: Any) -> Any:
    """JSON has no number for what is not finite."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list) else value
