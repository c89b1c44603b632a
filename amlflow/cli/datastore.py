"""`amlflow datastore`: places for files, and what is in them."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from amlflow.cli.completers import complete_datastore
from amlflow.cli.framework import Command, noun
from amlflow.cli.output import Column, moment, size
from amlflow.cli.state import State

app = noun("List datastores; list, upload and download their files.")

NameOption = Annotated[
    str,
    typer.Option("--name", "-n", help="The datastore; the default one otherwise.", autocompletion=complete_datastore),
]

_COLUMNS = (
    Column("", lambda r: "*" if r["is_default"] else ""),
    Column("DATASTORE", "name", style="cyan"),
    Column("KIND", "kind"),
    Column("LOCATION", "location"),
    Column("SIGN-IN", "sign_in"),
)
_FILE_COLUMNS = (
    Column("PATH", lambda r: r["path"] + ("/" if r["is_dir"] else ""), style="cyan"),
    Column("SIZE", lambda r: size(r["size_bytes"]), right=True),
    Column("CHANGED", lambda r: moment(r["modified_ms"])),
)


@app.command("list", cls=Command)
def list_(ctx: typer.Context) -> None:
    """List the datastores of the workspace."""
    from amlflow.workspaces import abilities

    state = State.of(ctx)
    found = [asdict(item) for item in abilities.datastores(state.workspace).list()]
    state.out.many(found, _COLUMNS, "name", "No datastores.")


@app.command(cls=Command)
def show(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="DATASTORE", help="Its name.", autocompletion=complete_datastore)] = "",
) -> None:
    """Show one datastore, the default one without a name."""
    from amlflow.workspaces import abilities

    state = State.of(ctx)
    state.out.one(asdict(abilities.datastores(state.workspace).get(name)), "name")


@app.command(cls=Command)
def ls(
    ctx: typer.Context,
    path: Annotated[str, typer.Argument(help="A folder or file of it.")] = "",
    name: NameOption = "",
    recursive: Annotated[bool, typer.Option("--recursive", "-r", help="What lies deeper, too.")] = False,
) -> None:
    """List files."""
    from amlflow.workspaces import abilities

    state = State.of(ctx)
    found = [asdict(item) for item in abilities.datastores(state.workspace).files(name, path, recursive)]
    state.out.many(found, _FILE_COLUMNS, "path", "No files.")


@app.command(cls=Command)
def upload(
    ctx: typer.Context,
    source: Annotated[Path, typer.Argument(help="A file or folder of this machine.")],
    path: Annotated[str, typer.Argument(help="Where to; a folder when it ends in '/'.")] = "",
    name: NameOption = "",
) -> None:
    """Upload a file or folder; what is there already is not sent again."""
    from amlflow.cli import progress
    from amlflow.workspaces import abilities

    state = State.of(ctx)
    with progress.transfer(state, "Uploading") as advance:
        count = abilities.datastores(state.workspace).upload(name, source, path, advance)
    state.note(f"Sent {count} file{'' if count == 1 else 's'}.")
    state.out.one({"path": path or source.name, "sent": count}, "path")


@app.command(cls=Command)
def download(
    ctx: typer.Context,
    path: Annotated[str, typer.Argument(help="A folder or file of it.")],
    to: Annotated[Path, typer.Option("--to", help="The folder to put it into.")] = Path(),
    name: NameOption = "",
) -> None:
    """Download a file or folder; an attempt that broke off goes on where it stopped."""
    from amlflow.cli import progress
    from amlflow.workspaces import abilities

    state = State.of(ctx)
    with progress.transfer(state, "Downloading") as advance:
        count = abilities.datastores(state.workspace).download(name, path, to, advance)
    state.out.one({"path": str(to), "files": count}, "path")
