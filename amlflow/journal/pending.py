"""What the journals of a workspace still hold, since when, and why."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from typing import List

from . import segments
from .folder import GENERAL, Journal, RunFolder


@dataclass(frozen=True)
class Pending:
    """A run with something that its workspace has not. `records` counts those of the log that wait, `size_bytes` is the size of
    these and of the files; `since_ms` is when the last of it was acknowledged, or the journal begun. `kind` is that of the
    problem (unreachable, not_allowed, gone) and `reason` its sentence, both empty without one; `refused` counts what was
    refused for good."""

    run_id: str
    name: str
    records: int
    size_bytes: int
    since_ms: int
    reason: str
    kind: str
    refused: int


def pending(journal: Journal) -> List[Pending]:
    """Oldest first; runs of which everything was sent but for what the workspace refused are among them."""
    found = [_of(folder) for folder in journal.runs()]
    waiting = [item for item in found if item.size_bytes or item.refused or item.kind]
    return sorted(waiting, key=lambda item: (item.since_ms, item.run_id))


def _of(folder: RunFolder) -> Pending:
    base, problem = folder.base() or {}, folder.problem() or {}
    info = base.get("run", {}).get("info", {})
    since_ms = int(base.get("begun_ms", 0))
    with contextlib.suppress(OSError):
        since_ms = (folder.path / "sent.json").stat().st_mtime_ns // 1_000_000
    return Pending(
        run_id=folder.id,
        name="" if folder.id == GENERAL else info.get("run_name", ""),
        records=_count(folder),
        size_bytes=folder.pending_bytes() + _spooled_bytes(folder),
        since_ms=int(problem.get("since_ms", since_ms)),
        reason=problem.get("reason", ""),
        kind=problem.get("kind", ""),
        refused=len(folder.refused()),
    )


def _count(folder: RunFolder) -> int:
    reader = segments.Reader(folder.path, folder.sent()["log"])
    count = 0
    while True:
        columns = reader.read_columns()
        if not columns:
            return count
        count += sum(len(ends) for _, ends, _ in columns)


def _spooled_bytes(folder: RunFolder) -> int:
    """Of the files that have not gone."""
    try:
        with os.scandir(folder.spool) as entries:
            return sum(entry.stat().st_size for entry in entries)
    except FileNotFoundError:
        return 0
