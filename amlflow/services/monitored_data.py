"""The rows that a monitor looks at: from files, or from what an endpoint has collected, of one time or of several."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from amlflow.errors import NotFound, UsageError
from amlflow.monitoring import collection, columns, frames, records, windows
from amlflow.monitoring.collection import Collected
from amlflow.monitoring.frames import Frame, Source
from amlflow.monitoring.windows import Window
from amlflow.services import baselines, collected_data
from amlflow.workspaces.base import Workspace

DEFAULT_WINDOW = "7d"
_SHOWN = 10


class HasRows(Protocol):
    """What was found in a window."""

    @property
    def window(self) -> Window: ...

    @property
    def rows(self) -> int: ...


R = TypeVar("R", bound=HasRows)


@dataclass(frozen=True, slots=True)
class DataRequest:
    """Which rows: of `files` (or folders), else what the endpoint `name` has collected; of the last `window` before `until`;
    parted by `every`. `time` is the column that says when a row was."""

    name: str = ""
    files: Sequence[str] = ()
    window: str = ""
    until: str = ""
    every: str = ""
    time: str = ""


@dataclass(frozen=True, slots=True)
class Located:
    """Where the rows lie, and the bounds of their times; `label` is what to call them."""

    label: str
    files: Collected
    span: Window


@dataclass(frozen=True, slots=True)
class Opened:
    """The data's frames: `inputs` with what was asked, `outputs` with what was answered where the two are apart; at least one is
    there. `span` bounds the rows, `is_collected` says that they have the time and id of their request."""

    label: str
    inputs: Frame | None
    outputs: Frame | None
    span: Window
    is_collected: bool

    @property
    def frames(self) -> list[Frame]:
        return [frame for frame in (self.inputs, self.outputs) if frame is not None]

    @property
    def rows(self) -> int:
        return max(frame.rows for frame in self.frames)


@dataclass(frozen=True, slots=True)
class Parted:
    """The windows, and for each frame of the data the number of the window that each row lies in, as `windows.numbers` has them,
    None for all rows in one."""

    windows: Sequence[Window]
    numbers: Sequence[Any]
    notes: Sequence[str] = ()


def locate(workspace: Workspace, request: DataRequest) -> Located:
    """Raises `NotFound` where there is no file of that time."""
    if not request.files and not request.name:
        raise UsageError("There are no data to look at.", "Name an endpoint, or files with --data FILE.")
    span = _span(request)
    if request.files:
        label = request.files[0] if len(request.files) == 1 else f"{len(request.files)} files"
        return Located(label, _given(request.files, span), span)
    found = collected_data.find(workspace, request.name, span.start_ms, span.end_ms)
    return Located(f"what {request.name!r} was asked", found, span)


def open_data(located: Located, scratch: Path, beside: Source, texts: Sequence[str] = ()) -> tuple[Opened, Frame]:
    """Read the data, with the columns `texts` of a CSV as text, and another table at the same time. Raises `NotFound` where the
    data have no row."""
    label, found = located.label, located.files
    kinds = {kind: files for kind, files in (("inputs", found.inputs), ("outputs", found.outputs)) if files}
    sources = [Source(files, scratch / kind, label, texts) for kind, files in kinds.items()]
    *read, other = frames.read_all([*sources, beside])
    by_kind = dict(zip(kinds, read, strict=True))
    if not any(frame.rows for frame in read):
        span = located.span
        raise NotFound(
            f"There is no row in {label}{' ' + _within(span) if span.start_ms else ''}.", "Give data with rows."
        )
    is_collected = all({records.TIME, records.CORRELATION} <= set(frame.names) for frame in read)
    return Opened(label, by_kind.get("inputs"), by_kind.get("outputs"), located.span, is_collected), other


def time_column(opened: Opened, request: DataRequest) -> str:
    """Empty where nothing says when a row was."""
    return request.time or (records.TIME if opened.is_collected else "")


def part(opened: Opened, request: DataRequest) -> Parted:
    """Raises `NotFound` where no row lies in any window, `UsageError` where a window is asked for and nothing says when a
    row was."""
    import numpy as np

    span = opened.span
    if not request.every and span.start_ms is None and span.end_ms is None:
        return Parted([span], [None for _ in opened.frames])
    times = [_times_ms(frame, time_column(opened, request)) for frame in opened.frames]
    inside = [windows.numbers(of_frame, [span]) for of_frame in times]
    known = np.concatenate([of_frame[own == 0] for of_frame, own in zip(times, inside, strict=True)])
    if not len(known):
        raise NotFound(f"{opened.label} has no row {_within(span)}.", "Take a longer --window, or another --until.")
    parted, numbers = [span], inside
    if request.every:
        # Until the end that is asked for: what stopped coming shows as windows without data.
        newest_ms = int(np.floor(known.max())) + 1
        end_ms = newest_ms if span.end_ms is None else max(newest_ms, min(span.end_ms, _now_ms()))
        every_ms = windows.duration_ms(request.every, "--every")
        parted = windows.split(int(np.floor(known.min())), end_ms, every_ms)
        # The first and the last window may reach beyond the span.
        numbers = [
            np.where(own == 0, windows.numbers(of_frame, parted), own)
            for of_frame, own in zip(times, inside, strict=True)
        ]
    lost = sum(int(np.isnan(of_frame).sum()) for of_frame in times)
    return Parted(parted, numbers, [f"{lost} rows without a time are left out."] if lost else [])


def without_unfinished(reports: Sequence[R]) -> tuple[list[R], list[str]]:
    """The windows without those at the end that are not over and have no data yet, of which nothing can be said; and a sentence
    on them and on each window that has no data."""
    kept, now_ms = list(reports), _now_ms()
    unfinished = []
    while len(kept) > 1 and not kept[-1].rows and (kept[-1].window.end_ms or 0) > now_ms:
        unfinished.append(kept.pop())
    notes = [f"The window {report.window.label} is not over, and has no data yet." for report in unfinished[::-1]]
    empty = [report.window.label for report in kept if not report.rows]
    if empty:
        more = f" and {len(empty) - _SHOWN} more" if len(empty) > _SHOWN else ""
        notes.append(
            f"No data in {len(empty)} of {len(kept)} windows, of which nothing can be said: {', '.join(empty[:_SHOWN])}{more}."
        )
    return kept, notes


def check_newest(reports: Sequence[HasRows], what: str) -> None:
    """Raises `NotFound` where the newest window has no data: then nothing was looked at, and that is no pass."""
    newest = reports[-1]
    if not newest.rows:
        raise NotFound(
            f"The newest window, {newest.window.label}, has no {what}, so that nothing can be said of it.",
            "Find out why none came, or look at an earlier time with --until.",
        )


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _span(request: DataRequest) -> Window:
    """What is collected goes on growing: without a window the last days of it. Files are taken whole."""
    until_ms = windows.moment_ms(request.until, "--until") if request.until else None
    window = request.window or ("" if request.files or request.until else DEFAULT_WINDOW)
    if not window:
        return Window(None, until_ms)
    end_ms = until_ms if until_ms is not None else _now_ms()
    return Window(end_ms - windows.duration_ms(window, "--window"), end_ms)


def _given(given: Sequence[str], span: Window) -> Collected:
    inputs: list[Path] = []
    outputs: list[Path] = []
    for name in given:
        path = Path(name).expanduser()
        if path.is_dir() and collection.is_collection(path):
            found = collection.files(path, span.start_ms, span.end_ms)
            if not found.inputs and not found.outputs:
                raise NotFound(f"{name!r} has no data {_within(span)}.", "Take a longer --window, or another --until.")
            inputs += found.inputs
            outputs += found.outputs
        else:
            inputs += baselines.tables_in(path)
    return Collected(inputs, outputs)


def _times_ms(frame: Frame, name: str) -> Any:
    """When each row was, NaN where that is not known."""
    if not name:
        raise UsageError(
            f"Nothing says when the rows of {frame.label} were, which --window, --until and --every ask for.",
            f"Name the column with --time; there are {', '.join(frame.names[:20])}.",
        )
    check_column(frame, name, "--time")
    found = columns.values(frame.column(name), "time")
    if not (~found.nulls & ~found.errors).any():
        raise UsageError(
            f"The column {name!r} of {frame.label} holds no times.", "--time names a column of ISO 8601 dates or times."
        )
    return found.numbers * 1000


def check_column(frame: Frame, name: str, option: str) -> None:
    """Raises `NotFound`, naming the nearest."""
    if name not in frame.names:
        raise NotFound(
            f"{option} {name!r}: {frame.label} has no such column.",
            f"It has {', '.join(frame.names[:20])}.",
            name=name,
            known=frame.names,
        )


def _within(window: Window) -> str:
    if window.start_ms is None and window.end_ms is None:
        return "at all"
    return f"from {window.label}" if window.start_ms is not None else f"before {windows.stamp(window.end_ms or 0)}"
