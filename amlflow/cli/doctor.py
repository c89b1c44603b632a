"""`amlflow doctor`: what is wrong with this set-up, and the mend."""

from __future__ import annotations

from dataclasses import asdict

import typer

from amlflow.cli.framework import Command, verb
from amlflow.cli.output import Column
from amlflow.cli.state import State

app = verb()

_STYLES = {"ok": "ok", "note": "-", "wrong": "WRONG"}
_COLUMNS = (
    Column("CHECK", "check", style="bold"),
    Column("", lambda r: _STYLES[r["state"]]),
    Column("FOUND", "detail"),
    Column("MEND", lambda r: r["mend"] if r["state"] == "wrong" else ""),
)


@app.command("doctor", cls=Command)
def doctor(ctx: typer.Context) -> None:
    """Check credentials, workspace, versions and compatibility; end with 1 where something is wrong.

    Example: amlflow doctor -w SUBSCRIPTION/GROUP/NAME
    """
    from amlflow.services import diagnosis

    state = State.of(ctx)
    found = list(diagnosis.checks(lambda: state.config, lambda: state.resolved, lambda: state.workspace))
    state.out.many([asdict(item) for item in found], _COLUMNS, "check")
    wrong = [item for item in found if item.state == "wrong"]
    for item in wrong:
        state.note(f"{item.check}: {item.detail.rstrip('.')}. {item.mend}".rstrip())
    if wrong:
        raise typer.Exit(1)
