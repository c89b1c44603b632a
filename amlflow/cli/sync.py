"""`amlflow sync`: what the journal still holds goes to its workspace."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from amlflow.cli.framework import Command, verb
from amlflow.cli.output import Column, moment, size
from amlflow.cli.state import State
from amlflow.errors import Unavailable, UsageError

app = verb()

_STATUS = (
    Column("RUN", lambda r: r["run_id"][:8], style="cyan"),
    Column("NAME", "name"),
    Column("WORKSPACE", "workspace"),
    Column("WAITING", lambda r: size(r["size_bytes"]), right=True),
    Column("SINCE", lambda r: moment(r["since_ms"])),
    Column("REFUSED", "refused", right=True),
    Column("WHY", "reason"),
)
_SYNCED = (
    Column("WORKSPACE", "workspace", style="cyan"),
    Column("RUNS", "runs", right=True),
    Column("LEFT", lambda r: size(r["left"]["pending_bytes"]), right=True),
    Column("WHY", lambda r: r["left"]["reason"]),
)


@app.command(cls=Command)
def sync(
    ctx: typer.Context,
    action: Annotated[
        str,
        typer.Argument(metavar="[status]", help="status: only say what waits.", autocompletion=lambda: ["status"]),
    ] = "",
    everywhere: Annotated[bool, typer.Option("--all", help="The journals of every workspace of this machine.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Go on sending what is written, until interrupted.")] = False,
    timeout: Annotated[
        float, typer.Option("--timeout", metavar="SECONDS", min=0, help="How long to go on with one workspace.")
    ] = 600.0,
) -> None:
    """Send what the journal still holds: runs that were made offline, and what a workspace could not take.

    Ends with 5 where something could not be sent; it stays in the journal.

    Example: amlflow sync status --all
    """
    from amlflow.services import syncing

    state = State.of(ctx)
    if action == "status":
        waiting = [asdict(item) for item in syncing.status(state.workspace, everywhere)]
        state.out.many(waiting, _STATUS, "run_id", "" if waiting else _nothing(state, everywhere))
        return
    if action:
        raise UsageError(f"There is no `amlflow sync {action}`.", "It is `amlflow sync` or `amlflow sync status`.")
    state.stays = "What was not sent stays in the journal."
    if watch:
        syncing.watch(state.workspace, state.note)
        return
    done = [asdict(item) for item in syncing.sync(state.workspace, state.config, everywhere, timeout, state.note)]
    state.out.many(done, _SYNCED, "workspace", "" if done else _nothing(state, everywhere))
    left = [item["left"] for item in done if item["left"]["pending_bytes"]]
    if left:
        raise Unavailable(
            f"{size(sum(item['pending_bytes'] for item in left))} could not be sent: {left[0]['reason']}.",
            "They stay in the journal; `amlflow sync status --all` lists them.",
        )


def _nothing(state: State, everywhere: bool) -> str:
    """What to say of a journal that holds nothing: runs may wait for another workspace than the one in use."""
    from amlflow.services import syncing

    waiting = (
        [] if everywhere else [item for item in syncing.status(state.workspace, everywhere=True) if item.size_bytes]
    )
    if not waiting:
        return "Nothing waits."
    return (
        f"Nothing waits for {state.workspace.name}; {len(waiting)} run{'s wait' if len(waiting) > 1 else ' waits'} for other "
        "workspaces: `amlflow sync --all` sends them, `amlflow sync status --all` lists them."
    )
