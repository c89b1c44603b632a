"""What the commands of `amlflow monitor` show of a report, keep of it, and fail on."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from amlflow.cli import progress
from amlflow.cli.output import Column, number, print_table
from amlflow.cli.state import State
from amlflow.errors import AmlflowError, GateFailed, UsageError
from amlflow.reports import drift as drift_report
from amlflow.reports import drift_page
from amlflow.reports import performance as performance_report
from amlflow.reports.grid import Grid
from amlflow.services import monitor_runs, monitoring, performing
from amlflow.services.monitor_runs import Finding
from amlflow.services.monitoring import DriftRequest
from amlflow.services.performing import PerformanceRequest


@dataclass(frozen=True, slots=True)
class View:
    """How to print, whether to write a page and to log a run (in `experiment`), and whether what was found fails the command."""

    markdown: bool
    html: str
    log: bool
    experiment: str
    fail: bool


def drift(state: State, request: DriftRequest, view: View) -> None:
    with _scratch() as folder, progress.steps(state) as say:
        found = monitoring.find_drift(state.workspace, request, folder, say)
    report, document = found.report, drift_report.document(found.report)
    page = drift_page.page(report, number) if view.html or view.log else ""
    if view.html:
        _write(view.html, page)
    run_id = _logged(state, view, lambda: monitor_runs.of_drift(report, found.name, found.run_id, document, page))
    text = drift_report.as_markdown(report, number) if view.markdown else ""
    _show(state, {"run_id": run_id, **document}, drift_report.grid(report, number), drift_report.summary(report), text)
    _check_drift(view, report.failing)


def performance(state: State, request: PerformanceRequest, view: View) -> None:
    with _scratch() as folder, progress.steps(state) as say:
        found = performing.find_performance(state.workspace, request, folder, say)
    report, document = found.report, performance_report.document(found.report)
    run_id = _logged(state, view, lambda: monitor_runs.of_performance(report, found.name, found.run_id, document))
    text = performance_report.as_markdown(report, number) if view.markdown else ""
    grid, lines = performance_report.grid(report, number), performance_report.summary(report)
    _show(state, {"run_id": run_id, **document}, grid, lines, text)
    if view.fail and report.worse:
        raise GateFailed(
            f"The model is worse than in training by {', '.join(report.worse)}.", "See the intervals above."
        )


def predictions(given: Sequence[str]) -> dict[str, str]:
    """`COLUMN` or `COLUMN=BASELINE`, with an empty baseline for the column of the same name."""
    return {item.partition("=")[0]: item.partition("=")[2] for item in given}


def kinds(given: Sequence[str]) -> Mapping[str, str]:
    found = {}
    for item in given:
        column, separator, kind = item.rpartition("=")
        if not separator or not column:
            raise UsageError(f"--kind {item!r} names no kind.", "Write COLUMN=categorical.")
        found[column] = kind
    return found


def need(value: str, what: str) -> None:
    if not value:
        raise UsageError(f"There is no {what.split()[0]}.", f"Give {what}.")


def _check_drift(view: View, failing: Sequence[str]) -> None:
    """The one place that says whether what was found fails the command."""
    if view.fail and failing:
        raise GateFailed(
            f"{len(failing)} columns crossed a threshold: {', '.join(failing[:20])}.",
            "See which by how much above; --threshold COLUMN=VALUE allows a column more.",
        )


def _logged(state: State, view: View, finding: Callable[[], Finding]) -> str:
    """The id of the run that keeps it; empty where none is wanted."""
    if not view.log:
        return ""
    run = monitor_runs.log(state.workspace, finding(), view.experiment)
    state.note(
        f"Logged as run {run.id[:8]} of experiment {run.experiment_name}: `amlflow compare -e {run.experiment_name}`."
    )
    return run.id


def _show(state: State, record: dict[str, Any], grid: Grid, lines: Sequence[str], markdown: str) -> None:
    if markdown:
        sys.stdout.write(markdown)
    elif state.out.wants_document() or state.quiet:
        state.out.one(record, "run_id")
    elif state.out.format == "tsv":
        sys.stdout.write("".join("\t".join(row) + "\n" for row in [grid.headings, *grid.rows]))
    else:
        print_table(grid.rows, [Column(heading, "", right=i in grid.right) for i, heading in enumerate(grid.headings)])
    if not markdown:
        for line in lines:
            state.note(line)


def _write(file: str, page: str) -> None:
    try:
        Path(file).write_text(page, encoding="utf-8")
    except OSError as error:
        raise AmlflowError(f"--html {file!r} cannot be written: {error.strerror}.", "Name another place.") from error


@contextmanager
def _scratch() -> Iterator[Path]:
    """A folder for what is read in pieces; on the disk of $TMPDIR."""
    with tempfile.TemporaryDirectory(prefix="amlflow-monitor-") as folder:
        yield Path(folder)
