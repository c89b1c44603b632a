"""The `amlflow` command: its verbs and nouns, each with the file that it lives in."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from amlflow.cli.framework import GLOBAL_NAMES, Entry, LazyGroup, global_options
from amlflow.cli.state import State

VERBS = "Verbs"
NOUNS = "Nouns"

ENTRIES = (
    Entry("track", "Run any command as a tracked run.", VERBS, "amlflow.cli.track"),
    Entry("run-project", "Run an MLflow Project.", VERBS, "amlflow.cli.run_project"),
    Entry("register", "Register a model from a run, a job or a folder.", VERBS, "amlflow.cli.register"),
    Entry("deploy", "Serve a model as a web service.", VERBS, "amlflow.cli.deploy"),
    Entry("compare", "Compare runs side by side.", VERBS, "amlflow.cli.compare"),
    Entry("log", "Log a metric, param, tag or artifact from a shell step.", NOUNS, "amlflow.cli.log"),
    Entry("sync", "Send what the journal still holds.", NOUNS, "amlflow.cli.sync"),
    Entry("run", "List, show, download, copy, delete and restore runs.", NOUNS, "amlflow.cli.run"),
    Entry("job", "List, show, follow and cancel detached runs.", NOUNS, "amlflow.cli.job"),
    Entry("model", "List, show, alias, download and delete registered models.", NOUNS, "amlflow.cli.model"),
    Entry("endpoint", "List, show, call, follow and delete web services.", NOUNS, "amlflow.cli.endpoint"),
    Entry("monitor", "Whether data drifted, and whether a model still performs.", NOUNS, "amlflow.cli.monitor"),
    Entry("workspace", "Which workspace is used, and why; make and choose others.", NOUNS, "amlflow.cli.workspace"),
    Entry("emulator", "An Azure ML workspace on this machine, for tests and trials.", NOUNS, "amlflow.cli.emulator"),
    Entry("compute", "List, show, create, start, stop and delete computes.", NOUNS, "amlflow.cli.compute"),
    Entry("datastore", "List datastores; list, upload and download their files.", NOUNS, "amlflow.cli.datastore"),
    Entry("doctor", "What is wrong with this set-up, and the mend.", NOUNS, "amlflow.cli.doctor"),
    Entry("ui", "The page of a workspace, run or job in MLflow's UI or the studio.", NOUNS, "amlflow.cli.ui"),
    Entry("demo", "Run the shipped example end to end.", NOUNS, "amlflow.cli.demo"),
)


class Root(LazyGroup):
    entries = ENTRIES

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params = [*self.params, *global_options()]

    def invoke(self, ctx: Any) -> Any:
        state = State.of(ctx)
        state.update({name: ctx.params.pop(name, None) for name in GLOBAL_NAMES})
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise typer.Abort(*filter(None, [state.stays])) from None


def _print_version(wanted: bool) -> None:
    if wanted:
        from amlflow import __version__

        print(f"amlflow {__version__}")  # noqa: T201
        raise typer.Exit


app = typer.Typer(cls=Root, no_args_is_help=True, add_completion=True, rich_markup_mode="rich")


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Take an MLflow project from a laptop to an Azure web service.

    Every command works in a local workspace, with no account at all.
    """
