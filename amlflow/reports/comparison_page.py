"""A comparison as a page for a browser: what its scripts are given."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from amlflow.reports.comparison import Comparison
from amlflow.reports.histories import Packed
from amlflow.reports.importance import FEWEST_RUNS, grouped, importance
from amlflow.reports.page import page, plotly_text
from amlflow.reports.room import MOST_BYTES, fitted, weight
from amlflow.reports.verdicts import verdicts
from amlflow.workspaces.base import Run

# Tags that MLflow itself sets and that tell runs apart; the rest of its own are of no use to a reader.
_TELLING_TAGS = ("mlflow.source.name", "mlflow.source.git.commit", "mlflow.source.git.branch", "mlflow.user")
# The page ranks so many of the parameters that differ, or as many as keep parameters times metrics times runs, which take
# about four microseconds each, below this.
_RANKED_PARAMS = 200
_RANKED_CELLS = 2_000_000
_SHOWN_OF_RANKED = 20
_SCRIPTS = (
    "base.js",
    "series.js",
    "runs.js",
    "verdicts.js",
    "histories.js",
    "parameters.js",
    "artifacts.js",
    "start.js",
)


@dataclass(frozen=True, slots=True)
class Matrix:
    """A confusion matrix; `counts[i][j]` are of true class `labels[i]`, predicted as `labels[j]`."""

    labels: Sequence[str]
    counts: Sequence[Sequence[float]]


@dataclass(frozen=True, slots=True)
class RunFiles:
    """What is shown of the files of one run, by the path of each: images as `data:` addresses; of each model the facts by
    name; the packages of its environment by name."""

    images: Mapping[str, str] = field(default_factory=dict)
    matrices: Mapping[str, Matrix] = field(default_factory=dict)
    models: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    packages: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    uncommitted: str = ""


@dataclass(frozen=True, slots=True)
class CodeChange:
    """What Git says was changed from one commit to another; empty where the commits are not to be had."""

    before: str
    after: str
    text: str


@dataclass(frozen=True, slots=True)
class PageContent:
    """A comparison with all that the page adds. `files` is by the position of the run, for the runs whose files were read;
    `workspaces` name that of each run; `notes` are sentences on what was left out; `made_ms` is when. A page that is written
    again while runs go on is read again every `again_s` seconds; 0 is never."""

    comparison: Comparison
    title: str
    workspaces: Sequence[str]
    made_ms: int
    histories: Packed
    files: Mapping[int, RunFiles]
    changes: Sequence[CodeChange] = ()
    notes: Sequence[str] = ()
    again_s: float = 0


def document(content: PageContent) -> tuple[Iterator[str], list[str]]:
    """The pieces of the file, and sentences on what was left out."""
    histories = content.histories.text()
    data = _data(content, MOST_BYTES - len(histories) - len(plotly_text()))
    return page(content.title, "compare", _SCRIPTS, data, {"histories": histories}), data["notes"]


def _data(content: PageContent, room_bytes: int) -> dict[str, Any]:
    comparison = content.comparison
    said = verdicts(comparison)
    data = {**_known_to_fit(content), **said.data}
    metrics = [
        {"key": row.key, "direction": row.direction, "values": list(row.values), "best": sorted(row.best)}
        for row in comparison.metrics
    ]
    params = [_column(row.key, row.values) for row in comparison.params]
    importance = _importance(comparison)
    kept = fitted(metrics, params, _tags(comparison.runs), room_bytes - weight(data) - weight(importance))
    importance["byMetric"] = [
        [row for row in rows if row[0] < len(kept.params)] for rows in importance["byMetric"][: len(kept.metrics)]
    ]
    columns = {"metrics": list(kept.metrics), "params": list(kept.params), "tags": list(kept.tags)}
    return {**data, **columns, "importance": importance, "notes": [*content.notes, *said.notes, *kept.notes]}


def _known_to_fit(content: PageContent) -> dict[str, Any]:
    """What is bounded already."""
    comparison = content.comparison
    runs = comparison.runs
    names = {run.id: run.name for run in runs}
    base = comparison.baseline.id if comparison.baseline else None
    return {
        "title": content.title,
        "made": content.made_ms,
        "again": content.again_s,
        "baseline": next((index for index, run in enumerate(runs) if run.id == base), None),
        "runs": [
            {
                "id": run.id,
                "name": run.name,
                "workspace": workspace,
                "experiment": run.experiment_name,
                "status": run.status,
                "start": run.start_time_ms,
                "end": run.end_time_ms,
                "user": run.user,
                "parent": _parent(run, names),
                **({"deleted": True} if run.lifecycle_stage == "deleted" else {}),
            }
            for run, workspace in zip(runs, content.workspaces, strict=True)
        ],
        "files": [{"run": index, **_files(files)} for index, files in sorted(content.files.items())],
        "changes": [{"before": one.before, "after": one.after, "text": one.text} for one in content.changes],
        "thinned": content.histories.thinned_series,
        "pointsEach": content.histories.per_series,
    }


def _parent(run: Run, names: Mapping[str, str]) -> str:
    """Its name, or its id where it is not compared itself; empty for a run without one."""
    parent = run.tags.get("mlflow.parentRunId", "")
    where = run.id.rpartition("::")[0]
    return names.get(f"{where}::{parent}" if where else parent, parent[:8])


def _column(key: str, values: Sequence[str | None]) -> dict[str, Any]:
    """A value that all runs share is held once."""
    if len(set(values)) > 1:
        return {"key": key, "values": list(values)}
    return {"key": key, "same": values[0] if values else None}


def _tags(runs: Sequence[Run]) -> list[dict[str, Any]]:
    keys = sorted({key for run in runs for key in run.tags})
    shown = [key for key in keys if not key.startswith("mlflow.") or key in _TELLING_TAGS]
    return [_column(key, [run.tags.get(key) for run in runs]) for key in shown]


def _importance(comparison: Comparison) -> dict[str, Any]:
    """For each metric rows of: the position of the parameter, its share, its trend, runs, groups; the highest share first."""
    differing = [(index, row) for index, row in enumerate(comparison.params) if row.differs]
    most = min(_RANKED_PARAMS, _RANKED_CELLS // max(1, len(comparison.runs) * len(comparison.metrics)))
    ready = [(index, grouped(row.values)) for index, row in differing[:most]]
    found, ranked = [], []
    for metric in comparison.metrics:
        measured = [(index, importance(parameter, metric.values)) for index, parameter in ready]
        rows = [
            [index, round(one.share, 4), None if one.trend is None else round(one.trend, 3), one.runs, one.groups]
            for index, one in measured
            if one is not None
        ]
        found.append(sorted(rows, key=lambda row: -float(row[1] or 0))[:_SHOWN_OF_RANKED])
        ranked.append(len(rows))
    left = max(0, len(differing) - len(ready))
    return {"fewest": FEWEST_RUNS, "leftOut": left, "byMetric": found, "ranked": ranked}


def _files(files: RunFiles) -> dict[str, Any]:
    return {
        "images": dict(files.images),
        "matrices": {
            path: {"labels": list(matrix.labels), "counts": [list(row) for row in matrix.counts]}
            for path, matrix in files.matrices.items()
        },
        "models": {name: dict(facts) for name, facts in files.models.items()},
        "packages": {name: dict(packages) for name, packages in files.packages.items()},
        "uncommitted": files.uncommitted,
    }
