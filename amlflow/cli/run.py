"""`amlflow run`: the runs that are there."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from amlflow.cli.completers import complete_experiment, complete_run, complete_workspace
from amlflow.cli.framework import Command, noun
from amlflow.cli.state import State

app = noun("List, show, download, copy, delete and restore runs.")

RunArgument = Annotated[
    str,
    typer.Argument(
        metavar="RUN", help="An id, a name, a prefix, last, best:METRIC or a model.", autocompletion=complete_run
    ),
]
RunArguments = Annotated[list[str], typer.Argument(metavar="RUN…", autocompletion=complete_run)]


@app.command("list", cls=Command)
def list_(
    ctx: typer.Context,
    experiment: Annotated[
        str, typer.Option("--experiment", "-e", help="Only its runs.", autocompletion=complete_experiment)
    ] = "",
    filter: Annotated[
        str, typer.Option("--filter", help="MLflow's filter language: \"metrics.rmse < 1 and params.alpha = '0.1'\".")
    ] = "",
    sort: Annotated[
        str, typer.Option("--sort", help="A metric, or attributes.NAME, params.NAME; -NAME downwards.")
    ] = "",
    limit: Annotated[int | None, typer.Option("--limit", "-n", min=1, help="At most so many.")] = None,
    deleted: Annotated[bool, typer.Option("--deleted", help="Those that were deleted.")] = False,
) -> None:
    """List runs, newest first."""
    from amlflow.cli.records import RUN_COLUMNS, run_record
    from amlflow.services import tracking
    from amlflow.workspaces.base import RunQuery

    state = State.of(ctx)
    query = RunQuery(
        filter=filter,
        order_by=sort.removeprefix("-"),
        descending=sort.startswith("-"),
        limit=limit,
        lifecycle="deleted" if deleted else "active",
    )
    runs = tracking.list_runs(state.workspace, experiment, query)
    state.out.many([run_record(run) for run in runs], RUN_COLUMNS, "run_id", "No runs.")


@app.command(cls=Command)
def show(
    ctx: typer.Context,
    run: RunArgument = "",
    experiment: Annotated[
        str,
        typer.Option(
            "--experiment", "-e", help="Where last and best: look, and names first.", autocompletion=complete_experiment
        ),
    ] = "",
    history: Annotated[
        list[str] | None, typer.Option("--history", metavar="METRIC", help="Every logged value of a metric too.")
    ] = None,
) -> None:
    """Show one run: its parameters, metrics, tags and files."""
    from amlflow.cli.records import artifact_record, run_record, run_rows
    from amlflow.services import references, tracking

    state = State.of(ctx)
    found = references.find_run(state.workspace, run, experiment)
    record, files = run_record(found), tracking.artifacts(state.workspace, found.id)
    rows = run_rows(record, files)
    record["artifacts"] = [artifact_record(item) for item in files]
    if history:
        points = state.workspace.metric_histories([found.id], history).get(found.id, {})
        record["histories"] = {
            key: [{"step": p.step, "value": p.value, "timestamp_ms": p.timestamp_ms} for p in line]
            for key, line in points.items()
        }
        rows += [(f"{key} at {p.step}", p.value) for key, line in points.items() for p in line]
    state.out.one(record, "run_id", rows)


@app.command(cls=Command)
def download(
    ctx: typer.Context,
    run: RunArgument,
    path: Annotated[str, typer.Argument(help="Only this file or folder of the run.")] = "",
    to: Annotated[Path, typer.Option("--to", help="The folder to write to.", file_okay=False)] = Path(),
) -> None:
    """Download a run's artifacts."""
    from amlflow.services import tracking

    state = State.of(ctx)
    written = tracking.download(state.workspace, run, path, to)
    state.out.one({"path": str(written)}, "path", [("path", str(written))])


@app.command(cls=Command)
def delete(ctx: typer.Context, runs: RunArguments) -> None:
    """Delete runs; `restore` brings them back."""
    from amlflow.cli.records import RUN_COLUMNS, run_record
    from amlflow.services import tracking

    state = State.of(ctx)
    found = tracking.set_deleted(state.workspace, runs, deleted=True)
    state.note(f"Deleted {len(found)} run{'s' * (len(found) != 1)}; `amlflow run restore` brings them back.")
    state.out.many([run_record(run) for run in found], RUN_COLUMNS, "run_id")


@app.command(cls=Command)
def restore(ctx: typer.Context, runs: RunArguments) -> None:
    """Restore deleted runs."""
    from amlflow.cli.records import RUN_COLUMNS, run_record
    from amlflow.services import tracking

    state = State.of(ctx)
    found = tracking.set_deleted(state.workspace, runs, deleted=False)
    state.note(f"Restored {len(found)} run{'s' * (len(found) != 1)}.")
    state.out.many([run_record(run) for run in found], RUN_COLUMNS, "run_id")


@app.command(cls=Command)
def copy(
    ctx: typer.Context,
    runs: RunArguments,
    to: Annotated[
        str,
        typer.Option(
            "--to", metavar="WORKSPACE", help="Where they go, as -w takes it.", autocompletion=complete_workspace
        ),
    ],
    source: Annotated[
        str,
        typer.Option(
            "--from",
            metavar="WORKSPACE",
            help="Where they are; the workspace in use by default.",
            autocompletion=complete_workspace,
        ),
    ] = "",
    experiment: Annotated[
        str,
        typer.Option("--experiment", "-e", help="The experiment of new copies; that of the same name by default."),
    ] = "",
    children: Annotated[bool, typer.Option("--children", help="The runs nested in them, too.")] = False,
) -> None:
    """Copy runs to another workspace: params, whole histories, tags, datasets, artifacts, models, start, end and status.

    A second time, the copy is found and brought what it lacks; after a cut it goes on where it stopped.

    Example: amlflow run copy best:rmse --from local --to prod
    """
    from amlflow.cli import progress
    from amlflow.cli.records import COPY_COLUMNS, copy_record, copy_warnings
    from amlflow.services.copying.runs import Copied, CopyRequest
    from amlflow.services.copying.runs import copy as copy_runs
    from amlflow.workspaces import resolve

    state = State.of(ctx)
    origin = state.workspace
    if source:
        origin = resolve.open_workspace(resolve.resolve(source, state.config), state.note, state.auth)
    target = resolve.open_workspace(resolve.resolve(to, state.config), state.note, state.auth)
    state.stays = "What was copied stays; the same command goes on where it stopped."
    done: list[Copied] = []
    try:
        with progress.steps(state) as report:
            for item in copy_runs(origin, target, CopyRequest(runs, experiment, children), report):
                done.append(item)
    finally:
        for line in copy_warnings(done, target):
            state.warn(line)
        if done:
            state.out.many([copy_record(item, target) for item in done], COPY_COLUMNS, "run_id")
