"""`amlflow model`: the registered models."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from amlflow.cli.completers import complete_model, complete_workspace
from amlflow.cli.framework import Command, noun
from amlflow.cli.state import State

app = noun("List, show, alias, download, package, promote and delete registered models.")

ModelArgument = Annotated[
    str, typer.Argument(metavar="MODEL", help="NAME, NAME:VERSION or NAME@ALIAS.", autocompletion=complete_model)
]


@app.command("list", cls=Command)
def list_(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="List its versions instead.", autocompletion=complete_model)] = "",
) -> None:
    """List the registered models, or one's versions."""
    from amlflow.cli.records import MODEL_COLUMNS, VERSION_COLUMNS, model_record, version_record

    state = State.of(ctx)
    if name:
        state.workspace.get_model(name)
        versions = [version_record(version) for version in state.workspace.list_model_versions(name)]
        state.out.many(versions, VERSION_COLUMNS, "model", "No versions.")
        return
    models = [model_record(model) for model in state.workspace.list_models()]
    state.out.many(models, MODEL_COLUMNS, "name", "No registered models; `amlflow register` makes one.")


@app.command(cls=Command)
def show(ctx: typer.Context, model: ModelArgument) -> None:
    """Show one version: where it came from, its aliases, tags and signature."""
    from amlflow.cli.records import version_record
    from amlflow.services import references, registry

    state = State.of(ctx)
    version = references.find_version(state.workspace, model)
    record = version_record(version)
    mlmodel = registry.read_mlmodel(state.workspace.fetch(version.location))
    record["flavors"] = list(mlmodel["flavors"])
    record["signature"] = mlmodel.get("signature")
    state.out.one(record, "model")


@app.command(cls=Command)
def alias(
    ctx: typer.Context,
    model: ModelArgument,
    alias: Annotated[str, typer.Argument(help="The alias, such as champion.")],
    delete: Annotated[bool, typer.Option("--delete", help="Take the alias away.")] = False,
) -> None:
    """Let an alias mean this version: amlflow model alias wine:3 champion"""
    from amlflow.cli.records import VERSION_COLUMNS, version_record
    from amlflow.services import registry

    state = State.of(ctx)
    if delete:
        name = model.split(":")[0].split("@")[0]
        registry.delete_alias(state.workspace, name, alias)
        state.note(f"{name}@{alias} is gone.")
        return
    record = version_record(registry.set_alias(state.workspace, model, alias, state.note))
    state.out.one(record, "model", [(column.heading.lower(), column.of(record)) for column in VERSION_COLUMNS])


@app.command(cls=Command)
def download(
    ctx: typer.Context,
    model: ModelArgument,
    to: Annotated[Path, typer.Option("--to", help="The folder to write; new or empty.", file_okay=False)],
) -> None:
    """Download a model's folder."""
    from amlflow.services import registry

    state = State.of(ctx)
    written = registry.download(state.workspace, model, to)
    state.out.one({"path": str(written)}, "path")


@app.command(cls=Command)
def image(
    ctx: typer.Context,
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="wine:3, wine@champion, wine (the latest), runs:/ID/NAME, a run or a folder.",
            autocompletion=complete_model,
        ),
    ],
    to: Annotated[
        Path | None, typer.Option("--to", help="Write the build context here; new or empty.", file_okay=False)
    ] = None,
    build: Annotated[
        bool, typer.Option("--build", help="Build it in the container registry of the Azure ML workspace.")
    ] = False,
) -> None:
    """Package a model as a container image: its build context (--to), or built in Azure (--build).

    The image has the model's requirements, locked, on a base of Microsoft's registry, and the scoring app of `deploy`. It runs
    without root, answers on port 5001, and takes its key from AMLFLOW_ENDPOINT_KEY: without one it refuses every request but
    /health. An image of the same content is not built twice.

    Example: amlflow model image wine:3 --to image && docker build -t wine image
    """
    from amlflow.cli import progress
    from amlflow.errors import UsageError
    from amlflow.services import images

    state = State.of(ctx)
    if (to is None) != build:
        raise UsageError(
            "--to and --build exclude each other." if build else "Where the image goes is missing.",
            "Give --to DIR for its build context, or --build.",
        )
    with progress.steps(state) as report:
        if to is not None:
            written = images.write(state.workspace, model, to, report)
            record: dict[str, object] = {"path": str(to), "tag": written.tag, "python": written.python}
        else:
            made = images.build(state.workspace, model, report)
            record = {
                "image": made.reference,
                "built": made.built,
                "tag": made.image.tag,
                "python": made.image.python,
            }
    state.out.one(record, "path" if to is not None else "image")


@app.command(cls=Command)
def delete(
    ctx: typer.Context,
    model: ModelArgument,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Delete a version (NAME:VERSION), or a model with all its versions (NAME)."""
    import sys

    from amlflow.errors import UsageError
    from amlflow.services import registry

    state = State.of(ctx)
    if ":" not in model and "@" not in model and not yes:
        if not sys.stdin.isatty():
            raise UsageError(
                f"This deletes {model!r} with all its versions.", "Add --yes to do it without being asked."
            )
        typer.confirm(f"Delete {model!r} with all its versions?", abort=True, err=True)
    state.note(f"Deleted {registry.delete(state.workspace, model)}.")


@app.command(cls=Command)
def promote(
    ctx: typer.Context,
    model: ModelArgument,
    to: Annotated[
        str,
        typer.Option(
            "--to", metavar="WORKSPACE", help="Where it goes, as -w takes it.", autocompletion=complete_workspace
        ),
    ],
    name: Annotated[str, typer.Option("--name", "-n", help="Its name there, if another.")] = "",
    alias: Annotated[list[str] | None, typer.Option("--alias", help="An alias that means it there.")] = None,
) -> None:
    """Copy a version to another workspace; a second time, the copy that is there is found.

    Example: amlflow model promote wine@champion --to prod --alias champion
    """
    from amlflow.cli.records import VERSION_COLUMNS, version_record
    from amlflow.services import promotion
    from amlflow.workspaces import resolve

    state = State.of(ctx)
    target = resolve.open_workspace(promotion.target(to, state.config), state.note, state.auth)
    done = promotion.promote(state.workspace, model, target, name, alias or [], state.note)
    record = {**version_record(done.version), "workspace": target.reference, "promoted": done.is_new}
    if not done.is_new:
        state.note(f"It was promoted before: {record['model']} in {target.name} is that copy.")
    state.out.one(record, "model", [(column.heading.lower(), column.of(record)) for column in VERSION_COLUMNS])
