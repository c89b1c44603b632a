"""`amlflow log`: one line of a CI script each."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from amlflow.cli.completers import complete_run
from amlflow.cli.framework import Command, noun
from amlflow.cli.state import State

if TYPE_CHECKING:
    from amlflow.services.logging import Logged

app = noun("Log a metric, param, tag or artifact from a shell step.")

RunOption = Annotated[
    str,
    typer.Option("--run", "-r", help="The run; $AMLFLOW_RUN, else the last, by default.", autocompletion=complete_run),
]
Pairs = Annotated[list[str], typer.Argument(metavar="KEY=VALUE…", help="What to log; also KEY VALUE for one.")]


@app.command(cls=Command, context_settings={"ignore_unknown_options": True})
def metric(
    ctx: typer.Context,
    values: Pairs,
    run: RunOption = "",
    step: Annotated[int, typer.Option("--step", help="The step that the values belong to.")] = 0,
) -> None:
    """Log numbers: amlflow log metric rmse=0.31 mae=0.2 --step 3"""
    from amlflow.services import logging, tracking

    state = State.of(ctx)
    _said(state, logging.log_metrics(state.workspace, run, tracking.pairs(values, "metric"), step))


@app.command(cls=Command)
def param(ctx: typer.Context, values: Pairs, run: RunOption = "") -> None:
    """Log parameters, which cannot change afterwards: amlflow log param alpha=0.1"""
    from amlflow.services import logging, tracking

    state = State.of(ctx)
    _said(state, logging.log_params(state.workspace, run, tracking.pairs(values, "param")))


@app.command(cls=Command)
def tag(ctx: typer.Context, values: Pairs, run: RunOption = "") -> None:
    """Set tags: amlflow log tag stage=nightly"""
    from amlflow.services import logging, tracking

    state = State.of(ctx)
    _said(state, logging.log_tags(state.workspace, run, tracking.pairs(values, "tag")))


@app.command(cls=Command)
def artifact(
    ctx: typer.Context,
    path: Annotated[Path, typer.Argument(help="A file or folder to keep with the run.")],
    to: Annotated[str, typer.Option("--to", metavar="FOLDER", help="The folder among the artifacts.")] = "",
    run: RunOption = "",
) -> None:
    """Keep a file or folder with the run: amlflow log artifact report.html"""
    from amlflow.services import logging

    state = State.of(ctx)
    _said(state, logging.log_artifact(state.workspace, run, path, to), "Kept with")


def _said(state: State, logged: Logged, done: str = "Logged to") -> None:
    from amlflow.cli.recording_options import note_left

    state.note(f"{done} run {logged.run.name} ({logged.run.id})")
    note_left(state, logged.left)
