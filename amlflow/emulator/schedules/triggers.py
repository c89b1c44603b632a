"""When a schedule is due, by the trigger of the API.

Documented («Schedule machine learning pipeline jobs», the CLI's schema of schedules, azure-ai-ml's docstrings): cron's days
and months are ignored; times without an offset are of the trigger's zone, by default UTC; without a start the schedule
begins when it is made, and a recurrence without a pattern then runs at once; a start that is past only counts the times; a
31st fires in long months alone. The emulator's own choice: a pattern of a recurrence by the minute or hour is ignored, and
weeks are counted from Mondays.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

from amlflow.emulator.schedules import time_zones
from amlflow.monitoring import timing

_ELAPSED_S = {"minute": 60, "hour": 3600}
_FREQUENCIES = (*_ELAPSED_S, "day", "week", "month")
_WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
# The 29th of February of every tenth year is further away; nobody waits for it here.
_HORIZON_DAYS = 9 * 366


@dataclass(frozen=True, slots=True)
class Trigger:
    """`start` and `end` (None for none) are epoch seconds, `times` the clock's times of a day that fits, in `zone`.
    `frequency` is cron for an expression; `weekdays` count from Monday as 0, `month_days` from 1; either may be empty."""

    zone: ZoneInfo
    start: float
    end: float | None
    frequency: str
    interval: int
    times: tuple[time, ...] = ()
    weekdays: frozenset[int] = frozenset()
    month_days: frozenset[int] = frozenset()

    def next_after(self, moment: float) -> float | None:
        """The first time later than the moment, in epoch seconds; None where there is none any more."""
        try:
            found = next((at for at in self._from(moment) if at > moment and at >= self.start), None)
        except OverflowError:
            # The calendar ends with the year 9999.
            return None
        return None if found is None or (self.end is not None and found > self.end) else found

    def last_until(self, moment: float, first: float) -> float:
        """The latest time that is not later than the moment, where `first` is one of those times."""
        if (step := _ELAPSED_S.get(self.frequency, 0) * self.interval) and self.end is None:
            return first + (moment - first) // step * step
        while (following := self.next_after(first)) is not None and following <= moment:
            first = following
        return first

    def _from(self, moment: float) -> Iterator[float]:
        """Times in order, beginning somewhat before the moment."""
        if step := _ELAPSED_S.get(self.frequency, 0) * self.interval:
            passed = max(0, int((moment - self.start) // step))
            yield from (self.start + count * step for count in itertools.count(passed))
        first = datetime.fromtimestamp(max(moment, self.start), self.zone).date()
        for day in (first + timedelta(days=count) for count in range(_HORIZON_DAYS)):
            if self._fits(day):
                yield from (datetime.combine(day, at, self.zone).timestamp() for at in self.times)

    def _fits(self, day: date) -> bool:
        if self.frequency == "cron":
            return day.weekday() in self.weekdays
        begun = datetime.fromtimestamp(self.start, self.zone).date()
        if self.frequency == "day":
            return (day - begun).days % self.interval == 0
        if self.frequency == "week":
            weeks = (_monday(day) - _monday(begun)).days // 7
            return weeks % self.interval == 0 and day.weekday() in self.weekdays
        months = (day.year - begun.year) * 12 + day.month - begun.month
        return months % self.interval == 0 and (day.day in self.month_days or day.weekday() in self.weekdays)


def read(given: Mapping[str, Any], created: float) -> Trigger:
    """The trigger of a schedule that was made at `created`, in epoch seconds. Raises `ValueError` for one that can never be
    meant."""
    try:
        return _read(given, created)
    except (TypeError, AttributeError, OverflowError) as error:
        raise ValueError(f"{given} is no trigger of the API ({error})") from error


def _read(given: Mapping[str, Any], created: float) -> Trigger:
    zone = time_zones.find(str(given.get("timeZone") or ""))
    begun = _moment(given.get("startTime"), zone)
    start = created if begun is None else begun
    end = _moment(given.get("endTime"), zone)
    if given.get("triggerType") == "Cron":
        return _cron(str(given.get("expression") or ""), zone, start, end)
    frequency, interval = str(given.get("frequency") or "").lower(), given.get("interval")
    if frequency not in _FREQUENCIES or not isinstance(interval, int) or interval < 1:
        raise ValueError("a recurrence has a frequency (Minute, Hour, Day, Week, Month) and an interval of 1 or more")
    if frequency in _ELAPSED_S:
        return Trigger(zone, start, end, frequency, interval)
    return _by_days(given.get("schedule") or {}, zone, start, end, frequency, interval)


def _cron(expression: str, zone: ZoneInfo, start: float, end: float | None) -> Trigger:
    fields = expression.split()
    if len(fields) != 5:
        raise ValueError(f"the cron expression '{expression}' has {len(fields)} fields, and not 5")
    minutes, hours, _, _, weekdays = (timing.values(field, place) for place, field in enumerate(fields))
    # Cron counts from Sunday.
    days = frozenset((day - 1) % 7 for day in weekdays)
    return Trigger(zone, start, end, "cron", 1, _times(hours, minutes), days)


def _by_days(
    pattern: Mapping[str, Any], zone: ZoneInfo, start: float, end: float | None, frequency: str, interval: int
) -> Trigger:
    """What the pattern leaves open is as the start has it."""
    begun = datetime.fromtimestamp(start, zone)
    hours, minutes = _numbers(pattern.get("hours"), 0, 23), _numbers(pattern.get("minutes"), 0, 59)
    times: tuple[time, ...] = (begun.time(),)
    if hours or minutes:
        times = _times(hours or frozenset((begun.hour,)), minutes or frozenset((begun.minute,)))
    weekdays = frozenset(_weekday(name) for name in pattern.get("weekDays") or [])
    month_days = _numbers(pattern.get("monthDays"), 1, 31)
    if frequency == "week":
        return Trigger(zone, start, end, frequency, interval, times, weekdays or frozenset((begun.weekday(),)))
    if frequency == "month":
        days = month_days or (frozenset() if weekdays else frozenset((begun.day,)))
        return Trigger(zone, start, end, frequency, interval, times, weekdays, days)
    return Trigger(zone, start, end, frequency, interval, times)


def _times(hours: frozenset[int], minutes: frozenset[int]) -> tuple[time, ...]:
    return tuple(time(hour, minute) for hour in sorted(hours) for minute in sorted(minutes))


def _numbers(given: Any, low: int, high: int) -> frozenset[int]:
    found = frozenset(given or ())
    if not all(isinstance(number, int) and low <= number <= high for number in found):
        raise ValueError(f"{sorted(map(str, found))} are not all numbers from {low} to {high}")
    return found


def _weekday(name: Any) -> int:
    if str(name).lower() not in _WEEKDAYS:
        raise ValueError(f"'{name}' is no day of the week")
    return _WEEKDAYS.index(str(name).lower())


def _moment(given: Any, zone: ZoneInfo) -> float | None:
    if not given:
        return None
    found = datetime.fromisoformat(str(given).strip().replace("Z", "+00:00"))
    return (found if found.tzinfo else found.replace(tzinfo=zone)).astimezone(timezone.utc).timestamp()


def _monday(day: date) -> date:
    return day - timedelta(days=day.weekday())
