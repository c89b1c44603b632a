"""A comparison of runs, and its cells as text: for a terminal, a pipe and a pull request.

Few runs stand in columns, with a row for each metric and parameter; more of them stand in rows.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from amlflow.reports import gates, groups
from amlflow.reports.gates import Finding
from amlflow.reports.grid import BEST, METRICS_IN_ROWS, Direction, Grid, arrow
from amlflow.reports.groups import Grouping
from amlflow.reports.sparkline import sparkline
from amlflow.workspaces.base import MetricPoint, Run

MOST_IN_COLUMNS = 4
PARAMS_IN_ROWS = 4


@dataclass(frozen=True, slots=True)
class MetricRow:
    """One metric over the runs, in their order; None where a run lacks it. `best` holds the positions of the best value,
    empty where the direction is unknown or all are equal. `deltas` are against the baseline."""

    key: str
    direction: Direction
    values: Sequence[float | None]
    best: frozenset[int]
    deltas: Sequence[float | None]


@dataclass(frozen=True, slots=True)
class ParamRow:
    key: str
    values: Sequence[str | None]
    differs: bool


@dataclass(frozen=True, slots=True)
class Comparison:
    """`metrics` in the order asked for, else the sorted-by metric first; `params` with the differing ones first. Where runs of
    several workspaces are compared, `workspaces` names that of each run, whose id is then `WORKSPACE::ID`. `findings` are what
    the gates said; `beyond_top` are the runs that were named and are not among the first so many that were asked for."""

    runs: Sequence[Run]
    metrics: Sequence[MetricRow]
    params: Sequence[ParamRow]
    baseline: Run | None = None
    histories: Mapping[str, Mapping[str, Sequence[MetricPoint]]] = field(default_factory=dict)
    workspaces: Sequence[str] = ()
    grouping: Grouping | None = None
    findings: Sequence[Finding] = ()
    beyond_top: Sequence[Run] = ()


def grid(comparison: Comparison, number: Callable[[float], str], everything: bool = False) -> Grid:
    """The cells that people see. `number` writes a metric's value; `everything` keeps every column, however wide."""
    if comparison.grouping is not None:
        return groups.grid(comparison.grouping, number, everything)
    if len(comparison.runs) <= MOST_IN_COLUMNS:
        return _runs_in_columns(comparison, number)
    return _runs_in_rows(comparison, number, everything)


def labels(runs: Sequence[Run], workspaces: Sequence[str] = ()) -> dict[str, str]:
    """What each run is called, by its id: its name, with the beginning of its id where others have that name too, and with its
    workspace where those are given."""
    times = Counter(run.name for run in runs)
    names = [run.name + (f" ({_short(run)})" if times[run.name] > 1 else "") for run in runs]
    if workspaces:
        names = [f"{where}::{name}" for where, name in zip(workspaces, names, strict=True)]
    return {run.id: name for run, name in zip(runs, names, strict=True)}


def standing(comparison: Comparison, run: Run) -> str:
    """What is to be said of a run after its name: that it is the baseline, that it was deleted; mostly nothing."""
    said = ["baseline"] if comparison.baseline and run.id == comparison.baseline.id else []
    said += ["deleted"] if run.lifecycle_stage == "deleted" else []
    return f" ({', '.join(said)})" if said else ""


def document(comparison: Comparison) -> dict[str, Any]:
    """The full record, for JSON and YAML."""
    return {
        "baseline": comparison.baseline.id if comparison.baseline else None,
        "runs": [
            {
                "run_id": run.id,
                **({"workspace": comparison.workspaces[i]} if comparison.workspaces else {}),
                "name": run.name,
                "experiment": run.experiment_name,
                "status": run.status,
                "lifecycle_stage": run.lifecycle_stage,
                "start_time_ms": run.start_time_ms,
                "end_time_ms": run.end_time_ms,
                "metrics": {row.key: row.values[i] for row in comparison.metrics if row.values[i] is not None},
                "params": {row.key: row.values[i] for row in comparison.params if row.values[i] is not None},
                **_history_of(comparison, run),
            }
            for i, run in enumerate(comparison.runs)
        ],
        "metrics": [
            {
                "key": row.key,
                "direction": row.direction,
                "best": [comparison.runs[index].id for index in sorted(row.best)],
                **({"deltas": list(row.deltas)} if comparison.baseline else {}),
            }
            for row in comparison.metrics
        ],
        "params": [{"key": row.key, "differs": row.differs} for row in comparison.params],
        **({"groups": groups.document(comparison.grouping)} if comparison.grouping else {}),
        **({"gates": gates.document(comparison.findings)} if comparison.findings else {}),
    }


def _runs_in_columns(comparison: Comparison, number: Callable[[float], str]) -> Grid:
    rows: list[list[str]] = [["status", *(run.status for run in comparison.runs)]]
    if comparison.workspaces:
        rows.insert(0, ["workspace", *comparison.workspaces])
    for param in comparison.params:
        mark = "≠ " if param.differs and len(comparison.runs) > 1 else ""
        rows.append([f"{mark}{param.key}", *(value if value is not None else "-" for value in param.values)])
    for metric in comparison.metrics:
        cells = [_cell(comparison, metric, index, number) for index in range(len(comparison.runs))]
        rows.append([_metric_heading(metric), *cells])
    right = frozenset(range(1, len(comparison.runs) + 1))
    # A row says the workspaces already.
    called = labels(comparison.runs)
    headings = [called[run.id] + standing(comparison, run) for run in comparison.runs]
    return Grid(["", *headings], rows, right)


def _runs_in_rows(comparison: Comparison, number: Callable[[float], str], everything: bool) -> Grid:
    metrics = comparison.metrics if everything else comparison.metrics[:METRICS_IN_ROWS]
    differing = [param for param in comparison.params if param.differs]
    params = comparison.params if everything else differing[:PARAMS_IN_ROWS]
    where = ["WORKSPACE"] if comparison.workspaces else []
    headings = [
        *where,
        "RUN",
        "NAME",
        *(_metric_heading(metric) for metric in metrics),
        *(param.key for param in params),
    ]
    rows = [
        [
            *comparison.workspaces[index : index + 1],
            _short(run),
            run.name + standing(comparison, run),
            *(_cell(comparison, metric, index, number) for metric in metrics),
            *(param.values[index] or "-" for param in params),
        ]
        for index, run in enumerate(comparison.runs)
    ]
    left = []
    if len(metrics) < len(comparison.metrics):
        left.append(f"{len(comparison.metrics) - len(metrics)} more metrics")
    if len(params) < len(differing):
        left.append(f"{len(differing) - len(params)} more differing parameters")
    note = f"{' and '.join(left)}: name them with --metric and --param, or use -o json." if left else ""
    return Grid(headings, rows, frozenset(range(2 + len(where), 2 + len(where) + len(metrics))), note)


def _cell(comparison: Comparison, metric: MetricRow, index: int, number: Callable[[float], str]) -> str:
    value = metric.values[index]
    if value is None:
        return "-"
    run, parts = comparison.runs[index], [number(value)]
    delta = metric.deltas[index]
    if delta is not None and math.isfinite(delta) and comparison.baseline and run.id != comparison.baseline.id:
        parts.append(f"({'+' if delta >= 0 else '-'}{number(abs(delta))})")
    if index in metric.best:
        parts.append(BEST)
    points = comparison.histories.get(run.id, {}).get(metric.key, ())
    line = sparkline([point.value for point in points])
    return " ".join([line, *parts] if line else parts)


def _metric_heading(metric: MetricRow) -> str:
    return metric.key + arrow(metric.direction)


def _short(run: Run) -> str:
    return run.id.rpartition("::")[2][:8]


def _history_of(comparison: Comparison, run: Run) -> dict[str, Any]:
    lines = comparison.histories.get(run.id)
    if not lines:
        return {}
    return {
        "histories": {
            key: {
                "steps": [point.step for point in points],
                "values": [point.value for point in points],
                "timestamps_ms": [point.timestamp_ms for point in points],
            }
            for key, points in lines.items()
        }
    }
