"""What a person sees of work that takes long: a spinner with the current step on a terminal, plain lines elsewhere. All of it
on stderr."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator

from amlflow.cli.state import State


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
