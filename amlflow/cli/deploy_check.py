"""What `amlflow deploy --check` and `--mend` print."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from amlflow.cli import progress
from amlflow.cli.output import Column
from amlflow.cli.state import State

if TYPE_CHECKING:
    from amlflow.services.deployment import DeployRequest

_SHOWN = {"ok": "ok", "warning": "warning", "error": "ERROR"}
_COLUMNS = (
    Column("", lambda r: _SHOWN[r["severity"]]),
    Column("WHAT", "what", style="bold"),
    Column("WHY", "why"),
    Column("MEND", "mend"),
)


def check(state: State, request: DeployRequest) -> None:
    """Print the findings, the worst first; ends with 1 where one is an error."""
    from amlflow.services.readiness import check as readiness

    with progress.steps(state) as report:
        checked = readiness.check(state.workspace, request, report)
    ordered = sorted(checked.findings, key=lambda item: ("error", "warning", "ok").index(item.severity))
    state.out.many([asdict(item) for item in ordered], _COLUMNS, "what")
    errors, warnings = checked.count("error"), checked.count("warning")
    state.note(f"{checked.label} on {checked.target}: {_counted(errors, 'error')}, {_counted(warnings, 'warning')}.")
    if errors:
        raise typer.Exit(1)


def mend(state: State, request: DeployRequest, dry_run: bool) -> None:
    """Print the version that was made; ends with 1 where errors are left in it. With `dry_run`, what would be changed."""
    from amlflow.services.readiness import mending

    with progress.steps(state) as report:
        mended = mending.mend(state.workspace, request, report, dry_run)
    made = mended.version
    name = f"{made.name}:{made.version}" if made else mended.label
    record = {
        "model": name,
        "mended_from": mended.label,
        "changed": bool(mended.changes),
        "changes": list(mended.changes),
        "left": [asdict(item) for item in mended.left],
    }
    rows = [("model", name), *(("changed", change) for change in mended.changes)]
    rows += [(f"left {item.severity}", f"{item.why} {item.mend}".strip()) for item in mended.left]
    state.out.one(record, "model", rows)
    if not mended.changes:
        can = "can be mended by its files alone" if mended.left else "is to mend"
        state.note(f"Nothing in {mended.label} {can}.")
    elif made is None:
        state.note("Nothing was registered.")
    elif not mended.is_new:
        state.note(f"It was mended before: {name} is that version.")
    if any(item.severity == "error" for item in mended.left):
        raise typer.Exit(1)


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
