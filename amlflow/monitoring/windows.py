"""Spans of time: what `7d` means, and which rows lie in which window."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from amlflow.errors import UsageError

# A numpy array; numpy is imported by the functions that need it.
Array = Any

_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)([smhdw])")
# More windows than anyone reads; a slip such as `--every 1s` over a year would make millions.
_MOST = 1000
_LONGEST_MS = 100 * 365 * 86_400_000
# What a `datetime` can hold.
_FIRST_MS, _LAST_MS = -62_135_596_800_000, 253_402_300_799_999


@dataclass(frozen=True, slots=True)
class Window:
    """From `start_ms` (included) to `end_ms` (not included); None leaves that side open."""

    start_ms: int | None = None
    end_ms: int | None = None

    @property
    def label(self) -> str:
        return " to ".join(stamp(side) if side is not None else "…" for side in (self.start_ms, self.end_ms))


@dataclass(frozen=True, slots=True)
class Order:
    """Rows in the order of their windows: those of window i are `places[ends[i]:ends[i + 1]]`. Without `places` all rows, as they
    lie, are of the only window."""

    places: Array | None
    ends: Sequence[int]

    def rows(self, index: int) -> slice:
        """Where, in that order, the rows of a window stand."""
        return slice(self.ends[index], self.ends[index + 1])


def duration_ms(text: str, option: str) -> int:
    """`30m`, `24h`, `7d` or `2w`. Raises `UsageError`."""
    found = _DURATION.fullmatch(text.strip())
    span = float(found[1]) * _UNITS_S[found[2]] * 1000 if found else 0.0
    if span > _LONGEST_MS:
        raise UsageError(f"{option} {_short(text)} is longer than 100 years.", "Write 30m, 24h, 7d or 2w.")
    if round(span) <= 0:
        raise UsageError(f"{option} {_short(text)} is not a span of time.", "Write 30m, 24h, 7d or 2w.")
    return round(span)


def moment_ms(text: str, option: str) -> int:
    """An ISO 8601 date or time, UTC where it names no zone. Raises `UsageError`."""
    try:
        found = datetime.fromisoformat(text.strip().replace("Z", "+00:00"))
    except ValueError:
        raise UsageError(
            f"{option} {text!r} is not a date or time.", "Write 2026-11-27 or 2026-11-27T18:00:00Z."
        ) from None
    moment = round((found if found.tzinfo else found.replace(tzinfo=timezone.utc)).timestamp() * 1000)
    if not _FIRST_MS <= moment <= _LAST_MS:
        raise UsageError(f"{option} {text!r} is not within the years 1 to 9999 of UTC.", "Write 2026-11-27T18:00:00Z.")
    return moment


def stamp(epoch_ms: int) -> str:
    """UTC, to the minute, or to the day at midnight; a moment beyond the years 1 to 9999 as the nearest in them."""
    epoch_ms = min(max(epoch_ms, _FIRST_MS), _LAST_MS)
    found = datetime.fromtimestamp(epoch_ms / 1000, timezone.utc).replace(tzinfo=None)
    return found.date().isoformat() if epoch_ms % 86_400_000 == 0 else f"{found.isoformat(' ', 'minutes')}Z"


def split(start_ms: int, end_ms: int, every_ms: int) -> list[Window]:
    """Windows of one length from the start on, at whole multiples of that length since 1970 (days begin at midnight UTC)."""
    first = start_ms // every_ms * every_ms
    count = -(-(end_ms - first) // every_ms)
    if count > _MOST:
        raise UsageError(
            f"From {stamp(start_ms)}, when the first row was, to {stamp(end_ms - 1)} there are {count} windows, and {_MOST} is "
            "the most.",
            "Give a longer --every; or, where few rows have such times, take those of a --window before --until.",
        )
    return [Window(first + i * every_ms, first + (i + 1) * every_ms) for i in range(count)]


def numbers(times_ms: Array, parted: Sequence[Window]) -> Array:
    """The window that each row lies in, as its place among those that follow on one another; -1 for a row of none, or whose time
    is not known (NaN)."""
    import numpy as np

    starts = [
        -np.inf if parted[0].start_ms is None else parted[0].start_ms,
        *(window.start_ms for window in parted[1:]),
    ]
    found = np.searchsorted(np.array(starts, dtype=float), times_ms, side="right") - 1
    end_ms = parted[-1].end_ms
    # Of so few bits a stable sort counts instead of comparing.
    return np.where(times_ms < (np.inf if end_ms is None else end_ms), found, -1).astype(np.int16)


def in_order(numbers: Array | None, rows: int, count: int) -> Order:
    """The rows of `count` windows by each row's number, as they stand within a window; without numbers all `rows` are of one."""
    import numpy as np

    if numbers is None:
        return Order(None, [0, rows])
    inside = np.flatnonzero(numbers >= 0)
    own = numbers[inside]
    ends = np.concatenate(([0], np.cumsum(np.bincount(own, minlength=count))))
    return Order(inside[np.argsort(own, kind="stable")], ends.tolist())


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else f"{text[:37]}…")
