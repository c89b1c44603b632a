"""Options that several commands of `amlflow monitor` take."""

from __future__ import annotations

from typing import Annotated

import typer

from amlflow.cli.completers import complete_run

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
BaselineOption = Annotated[
    str,
    typer.Option(
        "--baseline",
        help="A file, a run, runs:/RUN/FILE or a model; else what the endpoint's model was trained on.",
        autocompletion=complete_run,
    ),
]
MetricOption = Annotated[
    list[str] | None,
    typer.Option("--metric", "-m", help="Only this metric, with a threshold: jensenShannonDistance, …"),
]
ThresholdOption = Annotated[
    list[str] | None,
    typer.Option("--threshold", metavar="NAME=VALUE", help="METRIC=0.2, COLUMN=0.2 or COLUMN.METRIC=0.2."),
]
PredictionOption = Annotated[
    list[str] | None,
    typer.Option("--prediction", metavar="COLUMN[=BASELINE]", help="A column of the model's answers."),
]
ColumnOption = Annotated[
    list[str] | None,
    typer.Option("--column", metavar="COLUMN", help="Compare this column; may be given several times."),
]
IgnoreOption = Annotated[list[str] | None, typer.Option("--ignore", metavar="COLUMN", help="Leave this column out.")]
KindOption = Annotated[
    list[str] | None,
    typer.Option("--kind", metavar="COLUMN=KIND", help="numeric, categorical, boolean, time or text (by its length)."),
]
TruthOption = Annotated[
    str, typer.Option("--truth", metavar="FILE", help="What came true: a table with an id and a value.")
]
JoinOption = Annotated[
    str,
    typer.Option(
        "--join", metavar="ID", help="The id that both have in common; COLUMN=TRUTH_COLUMN where names differ."
    ),
]
TaskOption = Annotated[
    str, typer.Option("--task", metavar="classification|regression", help="Else told from the values.")
]
TargetOption = Annotated[str, typer.Option("--target", metavar="COLUMN", help="The true value, in the truth.")]
ScoreOption = Annotated[
    list[str] | None,
    typer.Option(
        "--score",
        metavar="[CLASS=]COLUMN",
        help="The positive class's probability, for the AUC; of several classes CLASS=COLUMN for each.",
    ),
]
AverageOption = Annotated[
    str,
    typer.Option("--average", metavar="macro|weighted", help="Over classes: all alike, or each by its number of rows."),
]
PositiveOption = Annotated[
    str, typer.Option("--positive", metavar="CLASS", help="Which class precision and recall are of.")
]
AgainstOption = Annotated[
    list[str] | None, typer.Option("--against", metavar="METRIC=KEY", help="What the training run calls a metric.")
]
