"""The options that `track` and `run-project` share: how a run is written, and what is said when it has ended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from amlflow.cli.state import State
from amlflow.errors import UsageError, nearest
from amlflow.journal.segments import DURABILITIES

if TYPE_CHECKING:
    from amlflow.services.execution import Finished, Watch
    from amlflow.services.recording import Left, Options

OfflineOption = Annotated[bool, typer.Option("--offline", help="Keep everything on this machine until `amlflow sync`.")]
DurabilityOption = Annotated[
    str,
    typer.Option(
        "--durability",
        metavar="|".join(DURABILITIES),
        help="What a logged value survives: the death of the process, or of the machine with at most a second lost, or none.",
        autocompletion=lambda: list(DURABILITIES),
    ),
]
RankZeroOption = Annotated[
    bool, typer.Option("--rank-zero-only", help="In a distributed program, let only the process of rank 0 log.")
]
FlushTimeoutOption = Annotated[
    float,
    typer.Option(
        "--flush-timeout", metavar="SECONDS", min=0, help="How long to wait at the end until everything is sent."
    ),
]
RequireModelOption = Annotated[
    bool, typer.Option("--require-model", help="Fail the run, with exit code 1, when it ends without a model.")
]
DatasetRowsOption = Annotated[
    int,
    typer.Option(
        "--dataset-rows",
        metavar="N",
        min=0,
        help="Keep up to N rows of each dataset that the program logs for training, which `amlflow monitor` compares with.",
    ),
]


def options(offline: bool, durability: str, rank_zero: bool, flush_timeout: float, dataset_rows: int) -> Options:
    from amlflow.services.recording import Options

    if durability not in DURABILITIES:
        near = nearest(durability, DURABILITIES)
        hint = f" Did you mean {near}?" if near else ""
        raise UsageError(f"There is no durability {durability!r}.{hint}", f"It is one of {', '.join(DURABILITIES)}.")
    return Options(offline, durability, rank_zero, flush_timeout, dataset_rows)


def watch(state: State, options: Options, require_model: bool) -> Watch:
    from amlflow.services.execution import Watch

    return Watch(
        options,
        require_model,
        announce=lambda run: state.note(f"Run {run.name} ({run.id}) in experiment {run.experiment_name}"),
        warn=state.warn,
    )


def finish(state: State, finished: Finished) -> None:
    """Say how the run ended, and end with the program's own exit code."""
    run = finished.run
    state.note(f"Run {run.name} {run.status.lower()} after {finished.ended.seconds:.1f}s")
    if finished.lost_model:
        state.warn(f"WARNING: run {run.name} ({run.id}) HAS NO MODEL: autologging lost it: {finished.lost_model}")
    if finished.no_model:
        state.warn(
            f"Error: Run {run.name} ({run.id}) has no model, and --require-model asks for one. Log it in the program with "
            "`mlflow.FLAVOR.log_model(model, name='model')`."
        )
    note_left(state, finished.left)
    raise typer.Exit(finished.ended.exit_code or int(finished.no_model))


def note_left(state: State, left: Left) -> None:
    """What the workspace has not, or has refused, and the command that mends it."""
    from amlflow.cli.output import size
    from amlflow.services.references import sync_command

    if left.pending_bytes:
        state.warn(
            f"Warning: {size(left.pending_bytes)} wait on this machine to be sent: {left.reason}. "
            f"`{sync_command(state.workspace)}` sends them, `amlflow sync status --all` says why they wait."
        )
    for reason in left.refused[:5]:
        state.warn(f"Warning: the workspace refused a write, which is kept with the run: {reason}")
