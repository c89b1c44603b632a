"""What the commands of `amlflow monitor` show of a report, keep of it, and fail on."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from amlflow.cli import files, progress
from amlflow.cli.output import Column, number, print_rows, print_table
from amlflow.cli.state import State
from amlflow.errors import AmlflowError, GateFailed, UsageError
from amlflow.reports import drift as drift_report
from amlflow.reports import drift_page, performance_page
from amlflow.reports import performance as performance_report
from amlflow.reports.grid import Grid
from amlflow.services import gates, monitor_runs, monitored_data, monitoring, performing
from amlflow.services.alerts import Alert
from amlflow.services.expressions import Expression
from amlflow.services.gates import Subject
from amlflow.services.monitor_runs import Finding
from amlflow.services.monitored_data import HasRows
from amlflow.services.monitoring import DriftRequest
from amlflow.services.performing import PerformanceRequest


@dataclass(frozen=True, slots=True)
class View:
    """How to print, whether to write a page and to log a run (in `experiment`), and whether what was found fails the command;
    `tell` is called where something crossed a threshold, a gate did not hold or too little was seen, before the command fails of
    it."""

    markdown: bool
    html: str
    log: bool
    experiment: str
    fail: bool
    fail_if: Sequence[str] = ()
    tell: Callable[[Alert], None] = lambda alert: None


def drift(state: State, request: DriftRequest, view: View) -> None:
    expressions = gates.read(view.fail_if, has_baseline=False, of_drift=True)
    files.check("--html", view.html)
    with _scratch() as folder, progress.steps(state) as say:
        found = monitoring.find_drift(state.workspace, request, folder, say)
    report, document = found.report, drift_report.document(found.report)
    page = drift_page.page(report, number) if view.html or view.log else ""
    written = files.Files(state)
    if view.html:
        with written.writing():
            files.write("--html", view.html, page.encode())
    finding = monitor_runs.of_drift(report, found.name, found.run_id)
    run_id = _logged(state, view, finding, document, page)
    text = drift_report.as_markdown(report, number) if view.markdown else ""
    _show(state, {"run_id": run_id, **document}, drift_report.grid(report, number), drift_report.summary(report), text)
    with written.result(), _telling(view, finding, report.failing, run_id):
        _check_gates(expressions, finding, report.windows)
        _check_drift(view, report.failing)
        monitored_data.check_newest(report.windows, "data")
        monitoring.check_compared(report.windows, request)


def performance(state: State, request: PerformanceRequest, view: View) -> None:
    expressions = gates.read(view.fail_if, has_baseline=True)
    files.check("--html", view.html)
    if view.fail:
        performing.check_can_fail(request, view.fail_if)
        warn_of_idle(state, request)
    with _scratch() as folder, progress.steps(state) as say:
        found = performing.find_performance(state.workspace, request, folder, say)
    report, document = found.report, performance_report.document(found.report)
    page = performance_page.page(report, number) if view.html or view.log else ""
    written = files.Files(state)
    if view.html:
        with written.writing():
            files.write("--html", view.html, page.encode())
    finding = monitor_runs.of_performance(report, found.name, found.run_id)
    before = {key: logged.value for key, logged in report.before.items()}
    run_id = _logged(state, view, finding, document, page)
    text = performance_report.as_markdown(report, number) if view.markdown else ""
    grid, lines = performance_report.grid(report, number), performance_report.summary(report)
    _show(state, {"run_id": run_id, **document}, grid, lines, text)
    with written.result(), _telling(view, finding, report.worse, run_id):
        _check_gates(expressions, finding, report.windows, before)
        if view.fail and report.worse:
            raise GateFailed(
                f"The model is worse than in training by {', '.join(report.worse)}.", "See the intervals above."
            )
        monitored_data.check_newest(report.windows, "prediction with a truth")
        if view.fail and performing.has_training(request):
            performing.check_held(report)


def warn_of_idle(state: State, request: PerformanceRequest) -> None:
    """Where what is worse was to fail, beside gates, and nothing can be worse."""
    if not performing.has_training(request):
        state.warn(
            "No training run is named, so that no metric can be worse than in training, and --fail-if alone decides; "
            "--baseline names the run or model."
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


@contextmanager
def _telling(view: View, finding: Finding, crossed: Sequence[str], run_id: str) -> Iterator[None]:
    gate = failed = ""
    try:
        yield
    except GateFailed as error:
        gate = error.message
        raise
    except AmlflowError as error:
        failed = error.message
        raise
    finally:
        if crossed or gate or failed:
            view.tell(Alert(finding.name, finding.kind, crossed, gate, run_id, failed))


def _check_gates(
    expressions: Sequence[Expression],
    finding: Finding,
    windows: Sequence[HasRows],
    before: Mapping[str, float] | None = None,
) -> None:
    """Hold each window to the gates by the metrics that are logged of it; `before` are those of training, the gates' baseline. A
    window without data is held only to gates of how many rows there are."""
    training = Subject("", "training", before or {}, {})
    values: dict[int, dict[str, float]] = {step: {} for step in range(len(windows))}
    for point in finding.points:
        values[point.step][point.key] = point.value
    judged = []
    for step, found in enumerate(windows):
        subject = Subject("", found.window.label, values[step], finding.params)
        told = [gate for gate in expressions if found.rows or {name.key for name in gate.names} <= {"rows"}]
        judged += gates.judge(told, [training, subject], training)
    gates.check(judged, "window")


def _check_drift(view: View, failing: Sequence[str]) -> None:
    """The one place that says whether what was found fails the command."""
    if view.fail and failing:
        raise GateFailed(
            f"{len(failing)} columns crossed a threshold: {', '.join(failing[:20])}.",
            "See which by how much above; --threshold COLUMN=VALUE allows a column more.",
        )


def _logged(state: State, view: View, finding: Finding, document: Mapping[str, Any], page: str) -> str:
    """The id of the run that keeps it; empty where none is wanted."""
    if not view.log:
        return ""
    run = monitor_runs.log(state.workspace, finding, view.experiment, document, page)
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
        print_rows([grid.headings, *grid.rows])
    else:
        print_table(grid.rows, [Column(heading, "", right=i in grid.right) for i, heading in enumerate(grid.headings)])
    if not markdown:
        for line in lines:
            state.note(line)


@contextmanager
def _scratch() -> Iterator[Path]:
    """A folder for what is read in pieces; on the disk of $TMPDIR."""
    with tempfile.TemporaryDirectory(prefix="amlflow-monitor-") as folder:
        yield Path(folder)
