"""When a monitor runs: every so much time, or as cron's five fields say."""

from __future__ import annotations

import re
from dataclasses import dataclass

from amlflow.errors import UsageError
from amlflow.monitoring import windows

# Minute, hour, day of the month, month, day of the week: the bounds of POSIX's crontab; Sunday is 7 too, as most crons have it.
_BOUNDS = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))
_NAMES = (
    (),
    (),
    (),
    ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"),
    ("sun", "mon", "tue", "wed", "thu", "fri", "sat"),
)
_WEEKDAY = 4
_PART = re.compile(r"(\*|\w{1,9}(?:-\w{1,9})?)(?:/(\d{1,9}))?")
_MINUTES = {"minute": 1, "hour": 60, "day": 1440, "week": 10_080}


@dataclass(frozen=True, slots=True)
class Timing:
    """`every` is a span of time such as 1d, or empty where `cron` is an expression."""

    every: str = ""
    cron: str = ""

    @property
    def recurrence(self) -> tuple[str, int]:
        """The largest unit that `every` is a whole number of (minute, hour, day or week), and that number. Raises `UsageError`
        for a part of a minute."""
        minutes, rest = divmod(windows.duration_ms(self.every, "--every"), 60_000)
        if rest:
            raise UsageError(f"--every {self.every!r} is no whole number of minutes.", "Write 30m, 6h, 1d or 1w.")
        unit = next(name for name in ("week", "day", "hour", "minute") if minutes % _MINUTES[name] == 0)
        return unit, minutes // _MINUTES[unit]

    @property
    def expression(self) -> str:
        """For cron, which counts within the hour, the day and the week. Raises `UsageError` for what it cannot say."""
        if self.cron:
            return self.cron
        unit, count = self.recurrence
        if unit == "minute" and 60 % count == 0:
            return f"*/{count} * * * *" if count > 1 else "* * * * *"
        if unit == "hour" and 24 % count == 0:
            return f"0 */{count} * * *" if count > 1 else "0 * * * *"
        if count == 1:
            return "0 0 * * *" if unit == "day" else "0 0 * * 0"
        raise UsageError(
            f"Cron cannot say 'every {self.every}': it counts anew with each hour, day and week.",
            "Write 15m, 6h, 1d or 1w, or an expression with --cron '0 6 * * 1,4'.",
        )


def read(every: str, cron: str) -> Timing:
    """Once a day where neither is said. Raises `UsageError` for both, and for what is neither a span of time nor five fields."""
    if every and cron:
        raise UsageError("--every and --cron are two ways to say when.", "Give one of them.")
    if not cron:
        timing = Timing(every or "1d")
        timing.recurrence  # noqa: B018
        return timing
    fields = cron.split()
    if len(fields) != len(_BOUNDS):
        raise UsageError(
            f"--cron {cron!r} has {len(fields)} fields, and an expression has 5.",
            "Write minute, hour, day, month and day of the week: '0 6 * * *' is every day at six.",
        )
    for place, field in enumerate(fields):
        if not all(_is_part(part, place) for part in field.split(",")):
            low, high = _BOUNDS[place]
            raise UsageError(
                f"--cron {cron!r}: {field!r} is nothing that field {place + 1} can be.",
                f"It is *, a number from {low} to {high}, a range 1-5, a list 1,3 or a step */2.",
            )
    return Timing("", " ".join(fields))


def values(field: str, place: int) -> frozenset[int]:
    """What the field at that place of an expression (0 for the minutes) allows; 0 and 7 are both Sunday. Raises `ValueError`."""
    found: set[int] = set()
    for part in field.split(","):
        if not _is_part(part, place):
            raise ValueError(f"{field!r} is no field {place + 1} of a cron expression")
        span, _, step = part.partition("/")
        ends = list(_BOUNDS[place]) if span == "*" else [_number(text, place) for text in span.split("-")]
        # Of a number with a step the rest of the range is meant.
        last = _BOUNDS[place][1] if step and len(ends) == 1 else ends[-1]
        found.update(range(ends[0], last + 1, int(step or 1)))
    return frozenset(value % 7 for value in found) if place == _WEEKDAY else frozenset(found)


def _is_part(part: str, place: int) -> bool:
    found = _PART.fullmatch(part)
    if not found or (found[2] is not None and int(found[2]) == 0):
        return False
    if found[1] == "*":
        return True
    low, high = _BOUNDS[place]
    ends = [_number(text, place) for text in found[1].split("-")]
    return all(low <= end <= high for end in ends) and ends == sorted(ends)


def _number(text: str, place: int) -> int:
    if text.lower() in _NAMES[place]:
        return _NAMES[place].index(text.lower()) + _BOUNDS[place][0]
    return int(text) if text.isascii() and text.isdigit() else -1
