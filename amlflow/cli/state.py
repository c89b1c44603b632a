"""The options that every command takes, wherever they stand on the line, and what they lead to."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import typer

from amlflow import config

if TYPE_CHECKING:
    from amlflow.cli.output import Output
    from amlflow.workspaces.base import Workspace
    from amlflow.workspaces.resolve import Resolved


@dataclass
class State:
    """One invocation's global options. The workspace is resolved when a command first asks for it."""

    workspace_options: tuple[str, ...] = ()
    output_format: str = ""
    query: str = ""
    auth: str = ""
    quiet: bool = False
    verbose: bool = False
    # A sentence on what goes on, or is kept, where the command is interrupted.
    stays: str = ""

    @staticmethod
    def of(ctx: typer.Context) -> State:
        root = ctx.find_root()
        if not isinstance(root.obj, State):
            root.obj = State()
        return root.obj

    def update(self, values: dict[str, Any]) -> None:
        """Take the global options given after the command's name; they win over those before it."""
        self.workspace_options = tuple(values.get("workspace_option") or ()) or self.workspace_options
        self.output_format = values.get("output_format") or self.output_format
        self.query = values.get("query") or self.query
        self.auth = values.get("auth") or self.auth
        self.quiet = bool(values.get("quiet")) or self.quiet
        self.verbose = bool(values.get("verbose")) or self.verbose

    @property
    def workspace_option(self) -> str:
        """What -w says, the first of them where a command takes several."""
        return self.workspace_options[0] if self.workspace_options else ""

    @cached_property
    def config(self) -> config.Config:
        return config.load(config.find())

    @cached_property
    def resolved(self) -> Resolved:
        from amlflow.workspaces import resolve

        return resolve.resolve(self.workspace_option, self.config)

    @cached_property
    def workspace(self) -> Workspace:
        from amlflow.workspaces import resolve

        return resolve.open_workspace(self.resolved, self.note, self.auth)

    def open(self, asked: str, source: str) -> Workspace:
        """Another workspace, as -w takes it; `source` is where it was said."""
        from amlflow.workspaces import resolve

        resolved = resolve.Resolved(resolve.parse(asked, self.config), asked, source)
        return resolve.open_workspace(resolved, self.note, self.auth)

    @cached_property
    def out(self) -> Output:
        from amlflow.cli.output import Output

        return Output(self.output_format or self.config.output, self.query, self.quiet)

    def note(self, line: str) -> None:
        """A line of progress or advice for the person: stderr, and silent with -q."""
        if not self.quiet:
            print(line, file=sys.stderr, flush=True)  # noqa: T201

    def warn(self, line: str) -> None:
        """What must be seen even with -q: stderr."""
        print(line, file=sys.stderr, flush=True)  # noqa: T201


def running_verbose(argv: list[str]) -> bool:
    """Whether -v stands before `--`: asked by the error handler, which may run before any option was parsed."""
    own = argv[: argv.index("--")] if "--" in argv else argv
    return "-v" in own or "--verbose" in own or os.environ.get("AMLFLOW_VERBOSE", "") not in ("", "0")
