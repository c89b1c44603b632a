"""What the commands that keep and run monitors do with their options."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from amlflow.cli import monitoring
from amlflow.cli.state import State
from amlflow.errors import AmlflowError, GateFailed, UsageError
from amlflow.monitoring import timing
from amlflow.services import alerts, monitor_runs, monitors, tracking
from amlflow.services.alerts import Alert
from amlflow.services.monitored_data import DataRequest
from amlflow.services.monitoring import DriftRequest
from amlflow.services.monitors import Monitor
from amlflow.services.performing import PerformanceRequest
from amlflow.workspaces.abilities import HasOnlineEndpoints


@dataclass(frozen=True, slots=True)
class Truth:
    """The options of a monitor of performance."""

    file: str
    join: str
    task: str
    target: str
    scores: Sequence[str]
    positive: str
    average: str
    against: Sequence[str]


@dataclass(frozen=True, slots=True)
class Columns:
    """The options of a monitor of drift."""

    metrics: Sequence[str]
    thresholds: Sequence[str]
    predictions: Sequence[str]
    ignore: Sequence[str]
    kinds: Sequence[str]
    chosen: Sequence[str]


@dataclass(frozen=True, slots=True)
class Watched:
    """What is watched, and what it is held against."""

    rows: DataRequest
    baseline: str
    columns: Columns
    truth: Truth
    performance: bool


@dataclass(frozen=True, slots=True)
class Kept:
    """What of the options is of the monitor itself. `export` names a file, `replacing` says that there may be one already."""

    name: str
    every: str
    cron: str
    webhook: str
    emails: Sequence[str]
    fail: bool
    fail_if: Sequence[str]
    experiment: str
    export: str
    replacing: bool


def create(state: State, kept: Kept, watched: Watched) -> None:
    in_azure = isinstance(state.workspace, HasOnlineEndpoints)
    limits: Sequence[str] = ()
    if in_azure and watched.performance:
        limits = watched.columns.thresholds
        watched = replace(watched, columns=replace(watched.columns, thresholds=()))
    webhook = sys.stdin.readline().strip() if kept.webhook == "-" else kept.webhook
    if kept.webhook == "-" and not webhook:
        raise UsageError("--webhook - found no address on stdin.", "Write it into the pipe, or set AMLFLOW_WEBHOOK.")
    when = timing.read(kept.every, kept.cron)
    wanted = Monitor(kept.name, _request(watched), when, webhook, kept.fail, kept.fail_if, kept.experiment)
    if in_azure:
        _create_in_azure(state, kept, wanted, limits)
        return
    for option, value in (("--email", kept.emails), ("--export", kept.export)):
        if value:
            raise UsageError(
                f"{option} is of monitors that Azure ML runs.",
                "Name an Azure ML workspace with -w; here, --webhook and cron's own MAILTO tell what crossed.",
            )
    # What cron cannot say is refused before anything is kept.
    when.expression  # noqa: B018
    made = monitors.create(state.workspace, wanted, kept.replacing)
    if made.fail and isinstance(made.request, PerformanceRequest):
        monitoring.warn_of_idle(state, made.request)
    state.note(f"Kept the monitor {made.name!r}. It runs when one of these runs it:")
    _show(state, made)


def records(state: State) -> list[dict[str, Any]]:
    if isinstance(state.workspace, HasOnlineEndpoints):
        from amlflow.workspaces.azure.monitors import AzureMonitors

        return AzureMonitors(state.workspace.service).list()
    return [monitor.record() for monitor in monitors.listing(state.workspace, state.warn)]


def show(state: State, name: str) -> None:
    if isinstance(state.workspace, HasOnlineEndpoints):
        from amlflow.cli import azure_monitors

        azure_monitors.show(state, name)
        return
    _show(state, monitors.get(state.workspace, name))


def delete(state: State, name: str) -> None:
    if isinstance(state.workspace, HasOnlineEndpoints):
        from amlflow.workspaces.azure.monitors import AzureMonitors

        AzureMonitors(state.workspace.service).delete(name)
        state.note(f"Deleted the monitor {name!r}. Its runs stay.")
        return
    monitors.delete(state.workspace, name)
    state.note(f"Forgot {name!r}. Take its line out of the crontab, or out of the CI service's file.")


def run(state: State, name: str, html: str, markdown: bool, log: bool, detach: bool) -> None:
    """A webhook that fails is a warning: what was found is logged and shown all the same."""
    if isinstance(state.workspace, HasOnlineEndpoints):
        from amlflow.cli import azure_monitors

        azure_monitors.run(state, name, html, markdown, log, detach)
        return
    if detach:
        raise UsageError("--detach is of monitors that Azure ML runs.", "Leave it out: this one runs here.")
    monitor = monitors.get(state.workspace, name)

    told: list[Alert] = []

    def tell(alert: Alert) -> None:
        """One run tells once: what it found has been told with the error that ends it."""
        if not monitor.webhook or told:
            return
        told.append(alert)
        try:
            alerts.post(monitor.webhook, replace(alert, name=monitor.name))
        except AmlflowError as error:
            state.warn(f"{error.message} It was to be told: {alert.text}")

    experiment = monitor.experiment or f"{monitor.name}{monitor_runs.EXPERIMENT_SUFFIX}"
    view = monitoring.View(markdown, html, log, experiment, monitor.fail, monitor.fail_if, tell)
    try:
        if isinstance(monitor.request, DriftRequest):
            monitoring.drift(state, monitor.request, view)
        else:
            monitoring.performance(state, monitor.request, view)
    except GateFailed:
        raise
    except AmlflowError as error:
        # A monitor that sees nothing must not look like one that finds nothing.
        tell(Alert(monitor.name, monitor.kind, error=error.message))
        raise
    except Exception as error:
        tell(
            Alert(monitor.name, monitor.kind, error=f"it met an error that it does not know ({type(error).__name__}).")
        )
        raise


def _refuse(options: Truth | Columns, what: str, mend: str) -> None:
    for name in type(options).__slots__:
        if getattr(options, name):
            option = {
                "file": "truth",
                "metrics": "metric",
                "thresholds": "threshold",
                "kinds": "kind",
                "predictions": "prediction",
                "scores": "score",
                "chosen": "column",
            }
            raise UsageError(f"--{option.get(name, name)} is {what}.", mend)


def _create_in_azure(state: State, kept: Kept, wanted: Monitor, limits: Sequence[str]) -> None:
    from amlflow.cli.azure_monitors import rows_of
    from amlflow.services import azure_monitors

    spec = azure_monitors.plan(state.workspace, wanted, kept.emails, limits)
    if kept.export:
        azure_monitors.export(spec, Path(kept.export))
        state.note(f"Wrote {kept.export}: `az ml schedule create --file {kept.export}` creates the monitor.")
        state.out.one({"name": spec.name, "file": kept.export}, "file")
        return
    made = azure_monitors.create(state.workspace, spec, kept.replacing)
    state.out.one(made, "name", rows_of(made))


def _request(watched: Watched) -> DriftRequest | PerformanceRequest:
    """Raises `UsageError` for options of the other kind of monitor."""
    rows, baseline, columns, truth = watched.rows, watched.baseline, watched.columns, watched.truth
    if rows.name and rows.files:
        raise UsageError("--endpoint and --data are two places of the data.", "Give one of them.")
    if not watched.performance:
        _refuse(truth, "of a monitor of performance", "Add --performance.")
        return DriftRequest(
            rows,
            baseline,
            columns.metrics,
            columns.thresholds,
            monitoring.predictions(columns.predictions),
            columns.ignore,
            monitoring.kinds(columns.kinds),
            columns.chosen,
        )
    monitoring.need(truth.file, "--truth FILE, what came true")
    monitoring.need(truth.join, "--join ID, the column that data and truth have in common")
    if len(columns.predictions) > 1:
        raise UsageError("A monitor of performance takes one --prediction COLUMN.", "Leave out the others.")
    _refuse(
        replace(columns, predictions=()),
        "of a monitor of drift",
        "Leave it out; --fail-if 'accuracy < 0.9' is a threshold.",
    )
    known = tracking.pairs(list(truth.against), "metric of the training run") if truth.against else {}
    prediction = columns.predictions[0] if columns.predictions else ""
    return PerformanceRequest(
        rows,
        truth.file,
        truth.join,
        truth.task,
        prediction,
        truth.target,
        truth.scores,
        truth.positive,
        truth.average,
        baseline,
        known,
    )


def _show(state: State, monitor: Monitor) -> None:
    """The lines alone where no document is asked for: they are what a person came for."""
    lines = monitors.lines(state.workspace, monitor)
    record = {
        **monitor.record(),
        "cron": lines.cron,
        "github": lines.github,
        "azure_pipelines": lines.azure_pipelines,
    }
    if state.out.wants_document() or state.quiet:
        state.out.one(record, "name")
        return
    facts = ", ".join(f"{key} {record[key]}" for key in ("kind", "data", "when", "webhook", "fail_if") if record[key])
    sys.stdout.write(
        f"# {monitor.name}: {facts}\n\n# For `crontab -e`:\n{lines.cron}\n\n"
        f"# GitHub Actions, on a runner of this machine, which keeps the monitor:\n{lines.github}\n"
        f"# Azure Pipelines, on an agent of this machine:\n{lines.azure_pipelines}"
    )
