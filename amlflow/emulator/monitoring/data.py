"""The rows that a signal looks at: a folder or file of the job, by the window that the API describes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from amlflow.errors import AmlflowError, NotFound
from amlflow.monitoring import collection, frames, records, windows
from amlflow.monitoring.frames import Frame
from amlflow.monitoring.windows import Window
from amlflow.services import baselines, monitored_data
from amlflow.services.monitored_data import DataRequest, Opened
from amlflow.workspaces.azure.service import duration_s

# A numpy array.
Array = Any


@dataclass(frozen=True, slots=True)
class Rows:
    """`numbers` are 0 for the rows of the frame that lie in the window and -1 for others; None where all of them do."""

    frame: Frame
    window: Window
    numbers: Array | None

    @property
    def count(self) -> int:
        return self.frame.rows if self.numbers is None else int((self.numbers == 0).sum())


def window_of(data: Mapping[str, Any], now_ms: int) -> Window:
    """Of Trailing and Rolling data the `windowSize` that ends `windowOffset` before the monitor runs, of Static data from its
    start to its end, of Fixed data all."""
    kind = data.get("inputDataType")
    if kind == "Static":
        sides = [windows.moment_ms(str(data.get(key) or ""), key) for key in ("windowStart", "windowEnd")]
        return Window(sides[0], sides[1])
    if kind not in ("Trailing", "Rolling"):
        return Window()
    end_ms = now_ms - _duration_ms(data, "windowOffset")
    return Window(end_ms - _duration_ms(data, "windowSize"), end_ms)


def read(data: Mapping[str, Any], folder: str, scratch: Path, now_ms: int, say: Callable[[str], None]) -> Rows:
    """`folder` is where the job has the data, a file or a folder; empty where there was nothing. Collected data are taken
    by the time of each row; tables that tell no time are taken whole, and that is said. Raises `NotFound` for a window
    without data."""
    window = window_of(data, now_ms)
    label = f"{data.get('dataContext') or 'data'} {str(data['uri']).rpartition('/data/')[2]}"
    files = _files(Path(folder), window) if folder else []
    if not files:
        raise _empty(label, window)
    joined_by = str((data.get("columns") or {}).get("correlation_id") or records.CORRELATION)
    frame = frames.read(frames.Source(files, scratch, label, [joined_by]))
    for note in frame.notes:
        say(note)
    if not frame.rows:
        raise _empty(label, window)
    if window == Window():
        return Rows(frame, window, None)
    if records.TIME not in frame.names:
        say(f"The {label} tell no time: all {frame.rows} rows are taken, not those {window.label}.")
        return Rows(frame, window, None)
    try:
        parted = monitored_data.part(Opened(label, frame, None, window, True), DataRequest())
    except NotFound as error:
        raise _empty(label, window) from error
    return Rows(frame, window, parted.numbers[0])


def _files(place: Path, window: Window) -> list[Path]:
    if place.is_file():
        return [place]
    try:
        found = baselines.tables_in(place)
    except NotFound:
        return []
    # The folder is a collection itself, whose name the paths below it lack.
    root = collection.INPUTS
    return [
        file
        for file in found
        if collection.in_time(f"{root}/{file.relative_to(place).as_posix()}", window.start_ms, window.end_ms)
    ]


def _duration_ms(data: Mapping[str, Any], key: str) -> int:
    found = duration_s(str(data.get(key) or "P0D"))
    if found is None:
        raise AmlflowError(f"The {key} {data.get(key)!r} is no duration of days, hours, minutes and seconds.")
    return found * 1000


def _empty(label: str, window: Window) -> NotFound:
    when = "" if window == Window() else f" from {window.label}"
    return NotFound(f"The window contains no data: there is no row of {label}{when}.")
