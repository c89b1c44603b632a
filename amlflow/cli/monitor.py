"""`amlflow monitor`: what an endpoint is really asked, and how well it answers."""

from __future__ import annotations

from typing import Annotated

import typer

from amlflow.cli import monitor_schedules
from amlflow.cli.completers import complete_endpoint, complete_run
from amlflow.cli.framework import Command, noun
from amlflow.cli.monitor_options import (
    AgainstOption,
    AverageOption,
    BaselineOption,
    ColumnOption,
    DataOption,
    EveryOption,
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
    UntilOption,
    WindowOption,
)
from amlflow.cli.state import State

app = noun("Whether data drifted, and whether a model still performs.")

NameArgument = Annotated[
    str, typer.Argument(metavar="NAME", help="An endpoint that collects data.", autocompletion=complete_endpoint)
]


@app.command(cls=Command)
def drift(
    ctx: typer.Context,
    name: NameArgument = "",
    data: DataOption = None,
    baseline: BaselineOption = "",
    window: WindowOption = "",
    until: UntilOption = "",
    every: EveryOption = "",
    time: TimeOption = "",
    metric: MetricOption = None,
    threshold: ThresholdOption = None,
    prediction: PredictionOption = None,
    column: ColumnOption = None,
    ignore: IgnoreOption = None,
    kind: KindOption = None,
    fail_on_drift: Annotated[
        bool, typer.Option("--fail-on-drift", help="End with exit code 6 where a column crossed a threshold.")
    ] = False,
    fail_if: FailIfOption = None,
    html: Annotated[str, typer.Option("--html", metavar="FILE", help="Write a page with the distributions.")] = "",
    markdown: MarkdownOption = False,
    log: LogOption = True,
    experiment: ExperimentOption = "",
) -> None:
    """Hold what a model is asked against what it was trained on, column by column.

    The metrics and thresholds are those of Azure ML's monitors: a normalized Wasserstein distance of numbers, or a Jensen-Shannon
    distance of categories, above 0.1 is drift.

    Example: amlflow monitor drift --data today.parquet --baseline wine:3 --fail-on-drift
    """
    from amlflow.cli import monitoring
    from amlflow.services.monitored_data import DataRequest
    from amlflow.services.monitoring import DriftRequest

    request = DriftRequest(
        DataRequest(name, data or [], window, until, every, time),
        baseline,
        metric or [],
        threshold or [],
        monitoring.predictions(prediction or []),
        ignore or [],
        monitoring.kinds(kind or []),
        column or [],
    )
    monitoring.drift(
        State.of(ctx), request, monitoring.View(markdown, html, log, experiment, fail_on_drift, fail_if or [])
    )


@app.command(cls=Command)
def performance(
    ctx: typer.Context,
    name: NameArgument = "",
    truth: TruthOption = "",
    join: JoinOption = "",
    data: DataOption = None,
    task: TaskOption = "",
    prediction: Annotated[str, typer.Option("--prediction", metavar="COLUMN", help="The model's answer.")] = "",
    target: TargetOption = "",
    score: ScoreOption = None,
    positive: PositiveOption = "",
    average: AverageOption = "",
    window: WindowOption = "",
    until: UntilOption = "",
    every: EveryOption = "",
    time: TimeOption = "",
    baseline: Annotated[
        str, typer.Option("--baseline", help="The training run, or its model.", autocompletion=complete_run)
    ] = "",
    against: AgainstOption = None,
    fail_on_worse: Annotated[
        bool,
        typer.Option("--fail-on-worse", help="End with exit code 6 where a metric is surely worse than in training."),
    ] = False,
    fail_if: FailIfOption = None,
    html: Annotated[str, typer.Option("--html", metavar="FILE", help="Write a page with the metrics over time.")] = "",
    markdown: MarkdownOption = False,
    log: LogOption = True,
    experiment: ExperimentOption = "",
) -> None:
    """Join a model's answers to what came true: the task's metrics over time, with 95 % intervals, beside those of training.

    Example: amlflow monitor performance wine --truth tasted.csv --join bottle --every 1d
    """
    from amlflow.cli import monitoring
    from amlflow.services import tracking
    from amlflow.services.monitored_data import DataRequest
    from amlflow.services.performing import PerformanceRequest

    monitoring.need(truth, "--truth FILE, what came true")
    monitoring.need(join, "--join ID, the column that data and truth have in common")
    rows = DataRequest(name, data or [], window, until, every, time)
    known = tracking.pairs(against, "metric of the training run") if against else {}
    request = PerformanceRequest(
        rows, truth, join, task, prediction, target, score or [], positive, average, baseline, known
    )
    monitoring.performance(
        State.of(ctx), request, monitoring.View(markdown, html, log, experiment, fail_on_worse, fail_if or [])
    )


monitor_schedules.add(app)
