"""`amlflow monitor`: what an endpoint is really asked, and how well it answers."""

from __future__ import annotations

from typing import Annotated

import typer

from amlflow.cli.completers import complete_endpoint, complete_run
from amlflow.cli.framework import Command, noun
from amlflow.cli.state import State

app = noun("Whether data drifted, and whether a model still performs.")

NameArgument = Annotated[
    str, typer.Argument(metavar="NAME", help="An endpoint that collects data.", autocompletion=complete_endpoint)
]
DataOption = Annotated[
    list[str] | None,
    typer.Option(
        "--data", metavar="FILE", help="A .csv, .parquet or .jsonl file, or a folder; may be given several times."
    ),
]
WindowOption = Annotated[
    str, typer.Option("--window", metavar="7d", help="Only the last so much time; of an endpoint 7d by default.")
]
UntilOption = Annotated[str, typer.Option("--until", metavar="TIME", help="Only before this time (UTC).")]
EveryOption = Annotated[str, typer.Option("--every", metavar="1d", help="A window for each such span of time.")]
TimeOption = Annotated[str, typer.Option("--time", metavar="COLUMN", help="The column that says when a row was.")]
LogOption = Annotated[
    bool, typer.Option("--log/--no-log", help="Keep the result as a run of the monitor's experiment.")
]
ExperimentOption = Annotated[str, typer.Option("--experiment", "-e", help="Instead of NAME-monitoring.")]
FailIfOption = Annotated[
    list[str] | None,
    typer.Option(
        "--fail-if", metavar="EXPR", help="End with exit code 6 where a window makes it true: 'columns_drifted > 2'."
    ),
]
MarkdownOption = Annotated[bool, typer.Option("--markdown", help="Print Markdown, for a pull request.")]


@app.command(cls=Command)
def drift(
    ctx: typer.Context,
    name: NameArgument = "",
    data: DataOption = None,
    baseline: Annotated[
        str,
        typer.Option(
            "--baseline",
            help="A file, a run, runs:/RUN/FILE or a model; else what the endpoint's model was trained on.",
            autocompletion=complete_run,
        ),
    ] = "",
    window: WindowOption = "",
    until: UntilOption = "",
    every: EveryOption = "",
    time: TimeOption = "",
    metric: Annotated[
        list[str] | None,
        typer.Option("--metric", "-m", help="Only this metric, with a threshold: jensenShannonDistance, …"),
    ] = None,
    threshold: Annotated[
        list[str] | None,
        typer.Option("--threshold", metavar="NAME=VALUE", help="METRIC=0.2, COLUMN=0.2 or COLUMN.METRIC=0.2."),
    ] = None,
    prediction: Annotated[
        list[str] | None,
        typer.Option("--prediction", metavar="COLUMN[=BASELINE]", help="A column of the model's answers."),
    ] = None,
    ignore: Annotated[
        list[str] | None, typer.Option("--ignore", metavar="COLUMN", help="Leave this column out.")
    ] = None,
    kind: Annotated[
        list[str] | None,
        typer.Option(
            "--kind", metavar="COLUMN=KIND", help="numeric, categorical, boolean, time or text (by its length)."
        ),
    ] = None,
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
    )
    monitoring.drift(
        State.of(ctx), request, monitoring.View(markdown, html, log, experiment, fail_on_drift, fail_if or [])
    )


@app.command(cls=Command)
def performance(
    ctx: typer.Context,
    name: NameArgument = "",
    truth: Annotated[
        str, typer.Option("--truth", metavar="FILE", help="What came true: a table with an id and a value.")
    ] = "",
    join: Annotated[
        str,
        typer.Option(
            "--join", metavar="ID", help="The id that both have in common; COLUMN=TRUTH_COLUMN where names differ."
        ),
    ] = "",
    data: DataOption = None,
    task: Annotated[
        str, typer.Option("--task", metavar="classification|regression", help="Else told from the values.")
    ] = "",
    prediction: Annotated[str, typer.Option("--prediction", metavar="COLUMN", help="The model's answer.")] = "",
    target: Annotated[str, typer.Option("--target", metavar="COLUMN", help="The true value, in the truth.")] = "",
    score: Annotated[
        str, typer.Option("--score", metavar="COLUMN", help="The positive class's probability, for the AUC.")
    ] = "",
    positive: Annotated[
        str, typer.Option("--positive", metavar="CLASS", help="Which class precision and recall are of.")
    ] = "",
    window: WindowOption = "",
    until: UntilOption = "",
    every: EveryOption = "",
    time: TimeOption = "",
    baseline: Annotated[
        str, typer.Option("--baseline", help="The training run, or its model.", autocompletion=complete_run)
    ] = "",
    against: Annotated[
        list[str] | None, typer.Option("--against", metavar="METRIC=KEY", help="What the training run calls a metric.")
    ] = None,
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
    request = PerformanceRequest(rows, truth, join, task, prediction, target, score, positive, baseline, known)
    monitoring.performance(
        State.of(ctx), request, monitoring.View(markdown, html, log, experiment, fail_on_worse, fail_if or [])
    )
