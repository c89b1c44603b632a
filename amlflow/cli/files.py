"""The files that a command writes beside its result."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from amlflow.cli.state import State
from amlflow.errors import AmlflowError, UsageError


def check(option: str, file: str) -> None:
    """Raises `UsageError` for what an option names and no file can be, before any work is done for it. Empty is none named."""
    if not file:
        return
    path = Path(file)
    if path.is_dir():
        raise UsageError(f"{option} cannot write {file!r}: it is a folder.", "Name a file in it.")
    if not path.absolute().parent.is_dir():
        raise UsageError(
            f"{option} cannot write {file!r}: there is no folder {str(path.parent)!r}.",
            "Make the folder, or name another file.",
        )


def write(option: str, file: str, content: bytes) -> None:
    """Raises `AmlflowError` where the file that the option names cannot be written."""
    try:
        Path(file).write_bytes(content)
    except OSError as error:
        raise AmlflowError(
            f"{option} cannot write {file!r}: {error.strerror}.", "Name another file, or make room there."
        ) from error


class Files:
    """Holds what went wrong with them until the result has been printed and its gates have spoken."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._errors: list[AmlflowError] = []

    @contextmanager
    def writing(self) -> Iterator[None]:
        try:
            yield
        except AmlflowError as error:
            self._errors.append(error)

    @contextmanager
    def result(self) -> Iterator[None]:
        """Around what prints the result and raises for gates, whose exit code comes first. Raises what `writing` has held."""
        try:
            yield
        except AmlflowError:
            self._tell(self._errors)
            raise
        if self._errors:
            self._tell(self._errors[:-1])
            raise self._errors[-1]

    def _tell(self, errors: list[AmlflowError]) -> None:
        for error in errors:
            self._state.warn(error.paragraph())
