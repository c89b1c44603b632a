"""What amlflow adds to Typer: commands that load when they are called, global options in either place, and
defaults from `amlflow.yaml`."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from amlflow.cli.coercion import lighten
from amlflow.cli.completers import complete_workspace
from amlflow.cli.state import State
from amlflow.config import OUTPUT_FORMATS
from amlflow.errors import UsageError, nearest

GLOBAL_NAMES = ("workspace_option", "output_format", "query", "auth", "quiet", "verbose")
AUTH_WAYS = ("sp", "oidc", "mi", "cli", "browser", "device")
_GLOBAL_PANEL = "Global options"


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the root's help, and the module that is imported when the command is called."""

    name: str
    help: str
    panel: str
    module: str


class Command(TyperCommand):
    """A command that takes the global options too, and its defaults from `amlflow.yaml`. It works in one workspace."""

    several_workspaces = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        taken = {option for param in self.params for option in param.opts}
        self.params = [*self.params, *(o for o in global_options() if not taken.intersection(o.opts))]

    def get_params(self, ctx: Any) -> list[Any]:
        return lighten(super().get_params(ctx))

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not ctx.resilient_parsing:
            ctx.default_map = self._defaults(ctx, args)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        state = State.of(ctx)
        state.update({name: ctx.params.pop(name, None) for name in GLOBAL_NAMES})
        if len(state.workspace_options) > 1 and not self.several_workspaces:
            from amlflow.workspaces.resolve import without_login

            said = ", ".join(without_login(asked) for asked in state.workspace_options)
            raise UsageError(
                f"`{ctx.command_path}` works in one workspace, and -w names {len(state.workspace_options)}: {said}.",
                "Give -w once; `amlflow compare` takes several.",
            )
        return super().invoke(ctx)

    def _defaults(self, ctx: Any, args: Sequence[str]) -> dict[str, Any] | None:
        state = State.of(ctx)
        config = state.config
        asked = _peek_workspace(args) or state.workspace_option
        profile = asked or os.environ.get("AMLFLOW_WORKSPACE", "") or config.workspace
        names = ctx.command_path.split()[1:]
        body: Any = config.defaults_of(profile)
        for name in names:
            body = body.get(name) if isinstance(body, Mapping) else None
        if not body:
            return None
        command = " ".join(names)
        if not isinstance(body, Mapping):
            raise UsageError(f"The defaults of {command!r} in {config.path} must be a mapping, not {body!r}.")
        known = {
            option.lstrip("-"): param.name for param in self.params for option in param.opts if param.name is not None
        }
        for key in body:
            if key not in known:
                near = nearest(str(key), known)
                hint = f" Did you mean {near}?" if near else ""
                raise UsageError(
                    f"{config.path}: {key!r} under the defaults of {command!r} is not one of its options.{hint}",
                    f"`amlflow {command} --help` lists them.",
                )
        return {known[key]: value for key, value in body.items()}


class CommandOverWorkspaces(Command):
    """One that takes -w several times."""

    several_workspaces = True


class Group(TyperGroup):
    """A noun."""

    def get_params(self, ctx: Any) -> list[Any]:
        return lighten(super().get_params(ctx))


class LazyGroup(Group):
    """The root: it knows each command's name and one line of help, and imports the command's file when called."""

    entries: Sequence[Entry] = ()
    listing = False

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not ctx.resilient_parsing or any(argument.startswith("-") for argument in args[:1]):
            return super().parse_args(ctx, args)
        # A shell that asks for a command's name pays for every import: Typer's value parsing alone takes as long as
        # all else, and there is no option here to parse.
        params, self.params, self.add_help_option = self.params, [], False
        try:
            return super().parse_args(ctx, args)
        finally:
            self.params, self.add_help_option = params, True

    def list_commands(self, ctx: Any) -> list[str]:
        return [entry.name for entry in self.entries]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        entry = next((entry for entry in self.entries if entry.name == cmd_name), None)
        if entry is None:
            return None
        if self.listing:
            return TyperCommand(entry.name, help=entry.help, rich_help_panel=entry.panel)
        app: typer.Typer = import_module(entry.module).app
        command = typer.main.get_command(app)
        command.name = entry.name
        return command

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name = args[0]
        if not name.startswith("-") and all(entry.name != name for entry in self.entries):
            near = nearest(name, self.list_commands(ctx))
            hint = f" Did you mean {near}?" if near else ""
            raise UsageError(f"There is no command {name!r}.{hint}", "`amlflow --help` lists them.")
        _check_default_names(State.of(ctx), self.list_commands(ctx))
        return super().resolve_command(ctx, args)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        self.listing = True
        try:
            super().format_help(ctx, formatter)
        finally:
            self.listing = False

    def shell_complete(self, ctx: Any, incomplete: str) -> Any:
        self.listing = True
        try:
            return super().shell_complete(ctx, incomplete)
        finally:
            self.listing = False


def noun(help: str) -> typer.Typer:
    """The Typer app of a noun: a group of commands such as `run list`."""
    app = typer.Typer(cls=Group, help=help, no_args_is_help=True, add_completion=False, rich_markup_mode="rich")

    @app.callback()
    def group() -> None:
        pass

    return app


def verb() -> typer.Typer:
    """The Typer app of a single command."""
    return typer.Typer(add_completion=False, rich_markup_mode="rich")


def global_options() -> list[Any]:
    """-w, -o, --query, --auth, -q and -v as parameters; new objects each time, because Typer keeps state in them."""
    # Typer builds parameters from a function's signature alone: that is its public way, the same in every version.
    app = typer.Typer(add_completion=False)
    app.command()(_global_signature)
    return [param for param in typer.main.get_command(app).params if param.name in GLOBAL_NAMES]


def typed(ctx: typer.Context, name: str) -> bool:
    """Whether the parameter of that name stands on the command line, rather than in `amlflow.yaml`."""
    source = ctx.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def in_settings(ctx: typer.Context, name: str) -> bool:
    """Whether the parameter of that name has its value from `amlflow.yaml`."""
    source = ctx.get_parameter_source(name)
    return source is not None and source.name == "DEFAULT_MAP"


def _check_format(value: str) -> str:
    if value and value not in OUTPUT_FORMATS:
        near = nearest(value, OUTPUT_FORMATS)
        hint = f" Did you mean {near}?" if near else ""
        raise UsageError(f"There is no output format {value!r}.{hint}", f"It is one of {', '.join(OUTPUT_FORMATS)}.")
    return value


def _check_auth(value: str) -> str:
    if value and value not in AUTH_WAYS:
        near = nearest(value, AUTH_WAYS)
        hint = f" Did you mean {near}?" if near else ""
        raise UsageError(f"There is no way {value!r} to sign in.{hint}", f"It is one of {', '.join(AUTH_WAYS)}.")
    return value


def _global_signature(
    workspace_option: Annotated[
        list[str] | None,
        typer.Option(
            "-w",
            "--workspace",
            metavar="WORKSPACE",
            help="Where runs and models live: local, local:PATH, a profile, SUBSCRIPTION/GROUP/NAME, …",
            show_default=False,
            rich_help_panel=_GLOBAL_PANEL,
            autocompletion=complete_workspace,
        ),
    ] = None,
    output_format: Annotated[
        str,
        typer.Option(
            "-o",
            "--output",
            metavar="|".join(OUTPUT_FORMATS),
            help="How to print the result; a terminal gets a table, a pipe tab-separated text.",
            show_default=False,
            rich_help_panel=_GLOBAL_PANEL,
            callback=_check_format,
            autocompletion=lambda: list(OUTPUT_FORMATS),
        ),
    ] = "",
    query: Annotated[
        str,
        typer.Option(
            "--query",
            metavar="JMESPATH",
            help="Keep only this part of the result.",
            show_default=False,
            rich_help_panel=_GLOBAL_PANEL,
        ),
    ] = "",
    auth: Annotated[
        str,
        typer.Option(
            "--auth",
            metavar="|".join(AUTH_WAYS),
            help="The one way to sign in to Azure; by default the first that works.",
            show_default=False,
            rich_help_panel=_GLOBAL_PANEL,
            callback=_check_auth,
            autocompletion=lambda: list(AUTH_WAYS),
        ),
    ] = "",
    quiet: Annotated[
        bool, typer.Option("-q", "--quiet", help="Print only the identifier.", rich_help_panel=_GLOBAL_PANEL)
    ] = False,
    verbose: Annotated[
        bool,
        typer.Option("-v", "--verbose", help="Show the traceback of an error.", rich_help_panel=_GLOBAL_PANEL),
    ] = False,
) -> None:
    pass


def _check_default_names(state: State, known: Sequence[str]) -> None:
    profiles = state.config.profiles.values()
    for name in [*state.config.defaults, *(name for profile in profiles for name in profile.defaults)]:
        if name not in known:
            near = nearest(str(name), known)
            hint = f" Did you mean {near}?" if near else ""
            raise UsageError(f"{state.config.path}: 'defaults' names {name!r}, which is not a command.{hint}")


def _peek_workspace(args: Sequence[str]) -> str:
    for index, argument in enumerate(args):
        if argument == "--":
            break
        if argument in ("-w", "--workspace") and index + 1 < len(args):
            return args[index + 1]
        if argument.startswith("--workspace="):
            return argument.split("=", 1)[1]
    return ""
