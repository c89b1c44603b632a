"""What a person sees of work that takes long: a spinner with the current step on a terminal, plain lines elsewhere. All of it
on stderr."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator

from amlflow.cli.state import State

_SILENT_S = 2.0


@contextlib.contextmanager
def steps(state: State) -> Iterator[Callable[[str], None]]:
    """Gives the function that services report their steps to."""
    if state.quiet or not sys.stderr.isatty() or os.environ.get("CI"):
        yield state.note
        return
    from rich.console import Console
    from rich.text import Text

    console = Console(stderr=True, no_color=True if os.environ.get("NO_COLOR") else None)
    spinner = console.status("")

    def report(line: str) -> None:
        spinner.update(Text(line))
        spinner.start()

    try:
        yield report
    finally:
        spinner.stop()


@contextlib.contextmanager
def transfer(state: State, what: str) -> Iterator[Callable[[int, int], None]]:
    """Gives the function that is told of bytes done and bytes in all: a bar on a terminal, a line for each tenth elsewhere."""
    if state.quiet:
        yield lambda _done, _total: None
        return
    if not sys.stderr.isatty() or os.environ.get("CI"):
        yield _tenths(state, what)
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True, no_color=True if os.environ.get("NO_COLOR") else None)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _tenths(state: State, what: str) -> Callable[[int, int], None]:
    """Says nothing of what is done within two seconds."""
    started, said = time.monotonic(), 0

    def advance(done: int, total: int) -> None:
        nonlocal said
        tenth = done * 10 // total if total else 10
        if tenth > said and time.monotonic() - started > _SILENT_S:
            said = tenth
            state.note(f"{what}: {done / 1e6:.0f} of {total / 1e6:.0f} MB")

    return advance
