"""Files that wait beside a journal until they are uploaded: a copy of each, since the program may change its own at once."""

from __future__ import annotations

import contextlib
import os
import uuid
import zlib
from pathlib import Path
from typing import Any, Callable, List, Tuple

from . import records
from .folder import RunFolder

_CHUNK = 1 << 20


def keep(run: RunFolder, append: Callable[[List[Any]], None], file: Path, path: str, place: str = "") -> None:
    """Copy a file into the run's spool and note it in the journal as the artifact `path`: of the run, or of another place of
    the workspace by its address. Raises `OSError`; then nothing is noted."""
    folder = run.spool
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    name = uuid.uuid4().hex
    try:
        size, checksum = _copy(file, folder / name)
        record = [records.FILE, path, name, size, checksum]
        append([*record, place] if place else record)
    except OSError:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(folder / name)
        raise


def _copy(source: Path, target: Path) -> Tuple[int, int]:
    """The size in bytes and CRC-32 of what was copied."""
    size = checksum = 0
    with open(source, "rb") as reading, open(target, "wb") as writing:
        os.chmod(target, 0o600)
        while True:
            chunk = reading.read(_CHUNK)
            if not chunk:
                return size, checksum
            writing.write(chunk)
            checksum = zlib.crc32(chunk, checksum)
            size += len(chunk)
