"""`amlflow emulator`: an Azure ML workspace on this machine."""

from __future__ import annotations

import shlex
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from amlflow.cli.framework import Command, noun
from amlflow.cli.output import Column
from amlflow.cli.state import State

if TYPE_CHECKING:
    from amlflow.emulator.lifecycle import Status

app = noun("Run an Azure ML workspace on this machine, for tests and trials without a subscription.")
_FAULT_COLUMNS = (Column("FAULT", "spec"),)


@app.command(cls=Command)
def start(
    ctx: typer.Context,
    port: Annotated[
        int, typer.Option("--port", help="The port to answer at; by default a free one, then the same.")
    ] = 0,
    no_blobs: Annotated[
        bool, typer.Option("--no-blobs", help="Leave the blob storage out, which needs Node.js.")
    ] = False,
    fault: Annotated[
        list[str] | None,
        typer.Option("--fault", metavar="'METHOD PATH:ACTION:RATE'", help="Fail on purpose: 'PUT */jobs/*:503:0.2'."),
    ] = None,
    record: Annotated[
        Path | None, typer.Option("--record", help="Write each exchange to this file, secrets replaced.")
    ] = None,
    token_lifetime: Annotated[
        int, typer.Option("--token-lifetime", min=1, metavar="SECONDS", help="How long a token is good for.")
    ] = 3600,
    aliases: Annotated[bool, typer.Option("--aliases", help="Give the model registry aliases.")] = False,
    reset: Annotated[bool, typer.Option("--reset", help="Forget what an earlier one has kept.")] = False,
) -> None:
    """Start the emulator in the background; what it held before is there again."""
    from amlflow.emulator import lifecycle

    state = State.of(ctx)
    if reset:
        lifecycle.reset()
    options = lifecycle.Options(port, not no_blobs, tuple(fault or ()), record, token_lifetime, aliases)
    _print(state, lifecycle.start(options, state.note))
    state.note('Point this shell at it: eval "$(amlflow emulator env)"')


@app.command(cls=Command)
def stop(ctx: typer.Context) -> None:
    """Stop the emulator, its blob storage and its jobs; what it holds is kept."""
    from amlflow.emulator import lifecycle

    ended = lifecycle.stop()
    State.of(ctx).note("The emulator has stopped." if ended else "No emulator was running.")


@app.command(cls=Command)
def status(ctx: typer.Context) -> None:
    """Show whether it runs, and where."""
    from amlflow.emulator import lifecycle

    _print(State.of(ctx), lifecycle.status())


@app.command(cls=Command)
def env(
    ctx: typer.Context,
    role: Annotated[
        str,
        typer.Option(
            "--role",
            help="Sign in as: contributor, reader or owner, who alone may assign roles.",
            autocompletion=lambda: ["contributor", "reader", "owner"],
        ),
    ] = "contributor",
) -> None:
    """Print the variables that point Azure's SDKs and amlflow at it, as `export` lines for a shell."""
    from amlflow.emulator import lifecycle

    state = State.of(ctx)
    variables = lifecycle.environment(role)
    if state.out.wants_document():
        state.out.one(variables, "AMLFLOW_WORKSPACE")
        return
    for name, value in variables.items():
        print(f"export {name}={shlex.quote(value)}")  # noqa: T201


@app.command(cls=Command)
def fault(
    ctx: typer.Context,
    specs: Annotated[
        list[str] | None,
        typer.Argument(metavar="'METHOD PATH:ACTION:RATE'", help="Such as '* *:429' or 'GET */jobs/*:reset:x2'."),
    ] = None,
    clear: Annotated[bool, typer.Option("--clear", help="Remove all faults first.")] = False,
) -> None:
    """Add faults to the running emulator, or list those at work."""
    from amlflow.emulator import lifecycle

    state = State.of(ctx)
    found = lifecycle.fail(specs or (), clear)
    state.out.many([{"spec": spec} for spec in found], _FAULT_COLUMNS, "spec", "No faults.")


@app.command("token-lifetime", cls=Command)
def token_lifetime(
    ctx: typer.Context,
    seconds: Annotated[int, typer.Argument(min=1, metavar="SECONDS", help="How long new tokens are good for.")],
) -> None:
    """Change how long the running emulator's new tokens are good for."""
    from amlflow.emulator import lifecycle

    found = lifecycle.ask("PUT", "/emulator/token-lifetime", {"seconds": seconds})
    State.of(ctx).note(f"New tokens are good for {found['token_lifetime_s']} s.")


@app.command(cls=Command)
def preempt(ctx: typer.Context, job: Annotated[str, typer.Argument(metavar="JOB", help="The job's name.")]) -> None:
    """Take a running job's nodes away, as happens to Spot nodes: it is queued and run again."""
    from amlflow.emulator import lifecycle

    lifecycle.ask("POST", "/emulator/preempt", {"job": job})
    State.of(ctx).note(f"The nodes of {job} were taken away.")


def _print(state: State, status: Status) -> None:
    state.out.one(asdict(status), "url")
