"""`amlflow demo`: the shipped example from training to a web service, each step shown as what a user would type."""

from __future__ import annotations

import shlex
import subprocess
import sys
from typing import Annotated

import typer

from amlflow.cli.framework import Command, verb
from amlflow.cli.state import State

app = verb()


@app.command(cls=Command)
def demo(
    ctx: typer.Context,
    env_manager: Annotated[
        str, typer.Option("--env-manager", help="uv: the example's own environment; local: amlflow's.")
    ] = "uv",
    keep: Annotated[bool, typer.Option("--keep", help="Leave the endpoint running.")] = False,
) -> None:
    """Run the shipped example end to end: train twice, compare, register the best, serve it, ask it."""
    from amlflow.services import demonstration

    state = State.of(ctx)
    workspace = ["-w", state.workspace_option] if state.workspace_option else []
    for step in demonstration.steps(env_manager, keep):
        state.note(f"\n# {step.about}\n$ amlflow {shlex.join(step.arguments)}")
        # Each step is the real command in a process of its own: what is shown is what runs.
        done = subprocess.run([sys.executable, "-m", "amlflow", *workspace, *step.arguments], check=False)
        if done.returncode != 0:
            raise typer.Exit(done.returncode)
    state.note("\nThat is all of it. `amlflow --help` lists the commands.")
