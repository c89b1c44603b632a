"""`amlflow monitor create|list|show|run|delete`: monitors that are kept, and run by cron, by a CI service or by Azure ML."""

from __future__ import annotations

from typing import Annotated

import typer

from amlflow.cli.completers import complete_endpoint, complete_monitor
from amlflow.cli.framework import Command
from amlflow.cli.monitor_options import (
    AgainstOption,
    AverageOption,
    BaselineOption,
    ColumnOption,
    DataOption,
    ExperimentOption,
    FailIfOption,
    IgnoreOption,
    JoinOption,
    KindOption,
    LogOption,
    MarkdownOption,
    MetricOption,
    PositiveOption,
    PredictionOption,
    ScoreOption,
    TargetOption,
    TaskOption,
    ThresholdOption,
    TimeOption,
    TruthOption,
    WindowOption,
)
from amlflow.cli.output import Column, moment
from amlflow.cli.state import State

MonitorArgument = Annotated[str, typer.Argument(metavar="NAME", help="A monitor.", autocompletion=complete_monitor)]

_COLUMNS = (
    Column("MONITOR", "name", style="cyan"),
    Column("KIND", "kind"),
    Column("DATA", "data"),
    Column("WHEN", "when"),
    Column("CREATED", lambda r: moment(r["created_ms"])),
)


def add(app: typer.Typer) -> None:
    """Make them commands of `amlflow monitor`."""
    app.command(cls=Command)(create)
    app.command("list", cls=Command)(list_)
    for command in (show, run, delete):
        app.command(cls=Command)(command)


def create(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="What to call the monitor.")],
    endpoint: Annotated[
        str,
        typer.Option("--endpoint", help="An endpoint that collects data.", autocompletion=complete_endpoint),
    ] = "",
    data: DataOption = None,
    every: Annotated[
        str, typer.Option("--every", metavar="1d", help="How often to run: 15m, 6h, 1d or 1w; 1d by default.")
    ] = "",
    cron: Annotated[
        str, typer.Option("--cron", metavar="EXPR", help="When to run, as cron writes it: '0 6 * * *'.")
    ] = "",
    baseline: BaselineOption = "",
    window: WindowOption = "",
    split: Annotated[
        str, typer.Option("--split", metavar="1d", help="A window for each such span of time, at each run.")
    ] = "",
    time: TimeOption = "",
    metric: MetricOption = None,
    threshold: ThresholdOption = None,
    prediction: PredictionOption = None,
    column: ColumnOption = None,
    ignore: IgnoreOption = None,
    kind: KindOption = None,
    performance: Annotated[
        bool, typer.Option("--performance", help="Watch how well the answers come true, not the data.")
    ] = False,
    truth: TruthOption = "",
    join: JoinOption = "",
    task: TaskOption = "",
    target: TargetOption = "",
    score: ScoreOption = None,
    positive: PositiveOption = "",
    average: AverageOption = "",
    against: AgainstOption = None,
    fail: Annotated[
        bool,
        typer.Option("--fail", help="Let `monitor run` end with exit code 6 where a threshold was crossed."),
    ] = False,
    fail_if: FailIfOption = None,
    webhook: Annotated[
        str,
        typer.Option(
            "--webhook",
            metavar="URL",
            envvar="AMLFLOW_WEBHOOK",
            help="Post JSON to this https address where something crossed; - reads it from stdin.",
        ),
    ] = "",
    email: Annotated[
        list[str] | None,
        typer.Option("--email", metavar="ADDRESS", help="Whom Azure ML tells, by mail; may be given several times."),
    ] = None,
    export: Annotated[
        str, typer.Option("--export", metavar="FILE", help="Write `az ml schedule create`'s YAML, and create nothing.")
    ] = "",
    experiment: ExperimentOption = "",
    replace: Annotated[bool, typer.Option("--replace", help="Instead of the monitor of that name.")] = False,
) -> None:
    """Keep a monitor of drift, or of performance, and print the lines by which cron or a CI service runs it.

    Nothing of amlflow's stays running: cron or the CI service calls `amlflow monitor run NAME`. In an Azure ML workspace it is
    a schedule that Azure runs; its data are what the endpoint collects, its baseline azureml:NAME:VERSION or a run's table.

    Example: amlflow monitor create wine-drift --endpoint wine --every 1d --fail
    """
    from amlflow.cli import monitor_keeping as keeping
    from amlflow.services.monitored_data import DataRequest

    rows = DataRequest(endpoint, data or [], window, "", split, time)
    truths = keeping.Truth(truth, join, task, target, score or [], positive, average, against or [])
    columns = keeping.Columns(metric or [], threshold or [], prediction or [], ignore or [], kind or [], column or [])
    kept = keeping.Kept(name, every, cron, webhook, email or [], fail, fail_if or [], experiment, export, replace)
    keeping.create(State.of(ctx), kept, keeping.Watched(rows, baseline, columns, truths, performance))


def list_(ctx: typer.Context) -> None:
    """List the monitors."""
    from amlflow.cli import monitor_keeping as keeping

    state = State.of(ctx)
    state.out.many(keeping.records(state), _COLUMNS, "name", "No monitors.")


def show(ctx: typer.Context, name: MonitorArgument) -> None:
    """Show a monitor, and the lines that run it; in an Azure ML workspace what its last runs have found."""
    from amlflow.cli import monitor_keeping as keeping

    keeping.show(State.of(ctx), name)


def run(
    ctx: typer.Context,
    name: MonitorArgument,
    html: Annotated[str, typer.Option("--html", metavar="FILE", help="Write a page, too.")] = "",
    markdown: MarkdownOption = False,
    log: LogOption = True,
    detach: Annotated[
        bool, typer.Option("--detach", help="Print the id of Azure ML's job, and leave it to itself.")
    ] = False,
) -> None:
    """Run a monitor now, as cron does: with what was kept of it. Its webhook is told where something crossed or nothing was seen.

    In an Azure ML workspace the service runs it at once, as a job that is followed. What it finds is read from the job's output,
    in the form of the service's open components, or where that is not there from the documented tags of its runs.

    Example: amlflow monitor run wine-drift
    """
    from amlflow.cli import monitor_keeping as keeping

    keeping.run(State.of(ctx), name, html, markdown, log, detach)


def delete(ctx: typer.Context, name: MonitorArgument) -> None:
    """Delete a monitor. Its runs stay, and so does a line in a crontab."""
    from amlflow.cli import monitor_keeping as keeping

    keeping.delete(State.of(ctx), name)
