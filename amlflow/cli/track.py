"""`amlflow track`: run any command as a tracked run."""

from __future__ import annotations

from typing import Annotated

import typer

from amlflow.cli import recording_options
from amlflow.cli.completers import complete_experiment
from amlflow.cli.framework import Command, verb
from amlflow.cli.recording_options import (
    DatasetRowsOption,
    DurabilityOption,
    FlushTimeoutOption,
    OfflineOption,
    RankZeroOption,
    RequireModelOption,
)
from amlflow.cli.state import State

app = verb()


@app.command(cls=Command, context_settings={"allow_interspersed_args": False, "ignore_unknown_options": False})
def track(
    ctx: typer.Context,
    command: Annotated[list[str], typer.Argument(metavar="-- COMMAND…", help="The command, after --.")],
    experiment: Annotated[
        str,
        typer.Option("--experiment", "-e", help="The experiment; made if new.", autocompletion=complete_experiment),
    ] = "",
    run_name: Annotated[str, typer.Option("--run-name", help="The run's name; a random one otherwise.")] = "",
    tag: Annotated[list[str] | None, typer.Option("--tag", metavar="KEY=VALUE", help="A tag of the run.")] = None,
    autolog: Annotated[bool, typer.Option("--autolog", help="Turn MLflow autologging on in the program.")] = False,
    system_metrics: Annotated[
        bool, typer.Option("--system-metrics", help="Log CPU, memory, disk and network use.")
    ] = False,
    capture: Annotated[
        bool, typer.Option("--capture/--no-capture", help="Keep stdout and stderr as artifacts of the run.")
    ] = True,
    offline: OfflineOption = False,
    durability: DurabilityOption = "process",
    rank_zero_only: RankZeroOption = False,
    flush_timeout: FlushTimeoutOption = 60.0,
    require_model: RequireModelOption = False,
    dataset_rows: DatasetRowsOption = 0,
) -> None:
    """Run any command as a tracked run.

    The program finds its run by MLflow's own variables, so `mlflow.log_metric` just works in it; `amlflow log` does in
    a shell script. Ends with the program's own exit code.

    Example: amlflow track -e wine -- python train.py
    """
    from amlflow.services.execution import Program
    from amlflow.services.tracking import TrackRequest, pairs
    from amlflow.services.tracking import track as run_tracked

    state = State.of(ctx)
    recorded = recording_options.options(offline, durability, rank_zero_only, flush_timeout, dataset_rows)
    program = Program(command, autolog=autolog, system_metrics=system_metrics, capture=capture)
    request = TrackRequest(program, experiment, run_name, pairs(tag or [], "tag"))
    watch = recording_options.watch(state, recorded, require_model)
    recording_options.finish(state, run_tracked(state.workspace, request, watch))
