"""Where Azure ML's data collector puts what an endpoint was asked and answered: `model_inputs/2026/11/27/18/ID.jsonl`, and the
same below `model_outputs`, by the hour (or the day) in UTC."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

INPUTS, OUTPUTS = "model_inputs", "model_outputs"


@dataclass(frozen=True, slots=True)
class Collected:
    """The files of a window, oldest first. Those of the first and last hour may hold records from outside it."""

    inputs: Sequence[Path]
    outputs: Sequence[Path]


def files(root: Path, since_ms: int | None = None, until_ms: int | None = None) -> Collected:
    """What lies below `root`, at whatever depth the collections begin (Azure puts endpoint and deployment before them)."""
    return Collected(_of(root, INPUTS, since_ms, until_ms), _of(root, OUTPUTS, since_ms, until_ms))


def in_time(relative: str, since_ms: int | None, until_ms: int | None) -> bool:
    """Whether the path of a file, with a collection somewhere in it, is of that time; True for one that tells no time."""
    parts = relative.split("/")
    start = next((index for index, part in enumerate(parts) if part in (INPUTS, OUTPUTS)), len(parts))
    hours = _hours(parts[start + 1 : -1])
    return hours is None or _overlaps(hours, since_ms, until_ms)


def is_collection(folder: Path) -> bool:
    return any(next(folder.rglob(name), None) is not None for name in (INPUTS, OUTPUTS)) or folder.name in (
        INPUTS,
        OUTPUTS,
    )


def _of(root: Path, collection: str, since_ms: int | None, until_ms: int | None) -> list[Path]:
    roots = [root] if root.name == collection else sorted(path for path in root.rglob(collection) if path.is_dir())
    found = []
    for folder in roots:
        for file in folder.rglob("*.jsonl"):
            hours = _hours(file.relative_to(folder).parts[:-1])
            if hours is None or _overlaps(hours, since_ms, until_ms):
                found.append((file.relative_to(folder).as_posix(), file))
    return [file for _, file in sorted(found)]


def _hours(parts: Sequence[str]) -> tuple[datetime, datetime] | None:
    """The span that a folder such as 2026/11/27/18 or 2026/11/27 stands for; None for one that is no time."""
    try:
        numbers = [int(part) for part in parts]
        start = datetime(*numbers, tzinfo=timezone.utc)  # type: ignore[arg-type, misc]
    except (ValueError, TypeError):
        return None
    return start, start + (timedelta(hours=1) if len(numbers) > 3 else timedelta(days=1))


def _overlaps(hours: tuple[datetime, datetime], since_ms: int | None, until_ms: int | None) -> bool:
    start_ms, end_ms = (side.timestamp() * 1000 for side in hours)
    return (since_ms is None or end_ms > since_ms) and (until_ms is None or start_ms < until_ms)
