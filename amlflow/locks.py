"""A lock between processes, held on a file and released by the system when its holder dies."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def locked(file: Path) -> Iterator[None]:
    """Wait for the file's exclusive lock and hold it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a") as handle:
        if os.name == "posix":
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
