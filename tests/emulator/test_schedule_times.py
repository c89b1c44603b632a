"""When schedules are due: the trigger alone, and the clock that fires them, which is given its time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from azure.ai.ml.constants import TimeZone

from amlflow.emulator.schedules import time_zones, triggers
from amlflow.emulator.schedules.timekeeper import Timekeeper
from amlflow.emulator.store import Document, Store


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=timezone.utc).timestamp()


def cron(expression: str, **more: Any) -> dict[str, Any]:
    return {"triggerType": "Cron", "expression": expression, **more}


def every(interval: int, frequency: str, **more: Any) -> dict[str, Any]:
    return {"triggerType": "Recurrence", "frequency": frequency, "interval": interval, **more}


def pattern(hours: list[int], minutes: list[int], **days: list[Any]) -> dict[str, Any]:
    return {"schedule": {"hours": hours, "minutes": minutes, **days}}


def times(trigger: dict[str, Any], created: str, count: int = 3) -> list[str]:
    """The first times after the schedule was made, in UTC."""
    found, moment = [], at(created)
    read = triggers.read(trigger, moment)
    while len(found) < count and (following := read.next_after(moment)) is not None:
        moment = following
        found.append(datetime.fromtimestamp(moment, timezone.utc).strftime("%m-%d %H:%M:%S"))
    return found


# The 2nd of March 2026 is a Monday.
@pytest.mark.parametrize(
    ("trigger", "expected"),
    [
        (cron("30 6 * * *"), ["03-02 06:30:00", "03-03 06:30:00", "03-04 06:30:00"]),
        (cron("*/20 5 * * *"), ["03-02 05:20:00", "03-02 05:40:00", "03-03 05:00:00"]),
        (cron("0 0 * * 7"), ["03-08 00:00:00", "03-15 00:00:00", "03-22 00:00:00"]),
        (cron("0 0 * * 0,tue-wed"), ["03-03 00:00:00", "03-04 00:00:00", "03-08 00:00:00"]),
        # Days and months are ignored, as the service does.
        (cron("0 12 13 12 *"), ["03-02 12:00:00", "03-03 12:00:00", "03-04 12:00:00"]),
        (cron("0 6 * * *", timeZone="Tokyo Standard Time"), ["03-02 21:00:00", "03-03 21:00:00", "03-04 21:00:00"]),
        (cron("0 6 * * *", startTime="2026-03-04T07:00:00"), ["03-05 06:00:00", "03-06 06:00:00", "03-07 06:00:00"]),
        (cron("0 6 * * *", endTime="2026-03-03T07:00:00"), ["03-02 06:00:00", "03-03 06:00:00"]),
        (every(90, "Minute"), ["03-02 06:37:30", "03-02 08:07:30", "03-02 09:37:30"]),
        (every(6, "Hour", startTime="2026-03-01 20:00:00"), ["03-02 08:00:00", "03-02 14:00:00", "03-02 20:00:00"]),
        (
            every(6, "Hour", startTime="2026-03-02T10:00:00+02:00"),
            ["03-02 08:00:00", "03-02 14:00:00", "03-02 20:00:00"],
        ),
        # What the SDK sends for no pattern.
        (every(2, "Day", **pattern([], [])), ["03-04 05:07:30", "03-06 05:07:30", "03-08 05:07:30"]),
        (every(2, "Day", **pattern([4, 6], [15])), ["03-02 06:15:00", "03-04 04:15:00", "03-04 06:15:00"]),
        (
            every(2, "Week", **pattern([3], [0], weekDays=["Sunday", "monday"])),
            ["03-08 03:00:00", "03-16 03:00:00", "03-22 03:00:00"],
        ),
        (every(1, "Month", startTime="2026-01-31T08:00:00"), ["03-31 08:00:00", "05-31 08:00:00", "07-31 08:00:00"]),
        (
            every(3, "Month", **pattern([1], [0], monthDays=[1, 15])),
            ["03-15 01:00:00", "06-01 01:00:00", "06-15 01:00:00"],
        ),
        # The clocks of Berlin go forward on the 29th of March.
        (
            cron("30 6 * * *", timeZone="W. Europe Standard Time", startTime="2026-03-28T00:00:00"),
            ["03-28 05:30:00", "03-29 04:30:00", "03-30 04:30:00"],
        ),
    ],
)
def test_times(trigger: dict[str, Any], expected: list[str]) -> None:
    assert times(trigger, "2026-03-02 05:07:30") == expected


@pytest.mark.parametrize(
    "trigger",
    [
        cron("60 * * * *"),
        cron("* * * *"),
        cron("* * * * *", timeZone="Middle Earth Standard Time"),
        cron("* * * * *", startTime="soon"),
        every(0, "Day"),
        every(1, "Fortnight"),
        every(1, "Day", **pattern([24], [0])),
        every(1, "Week", **pattern([4], [0], weekDays=["Someday"])),
    ],
)
def test_what_is_no_trigger(trigger: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        triggers.read(trigger, 0.0)


def test_every_time_zone_of_the_sdk_is_known() -> None:
    assert {time_zones.find(zone.value).key for zone in TimeZone} >= {"UTC", "Europe/Berlin", "America/Los_Angeles"}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(tmp_path / "resources.db")
    yield opened
    opened.close()


class Clockwork:
    """Schedules in a store, and a clock that stands where it is set."""

    def __init__(self, store: Store) -> None:
        self.store, self.now = store, 0.0
        self.fired: list[tuple[str, str]] = []
        self.keeper = Timekeeper(store, lambda: store.children("/w/schedules"), self._fire, lambda: self.now)

    def put(self, name: str, trigger: dict[str, Any], **more: Any) -> Document:
        made, new = self.store.put(f"/w/schedules/{name}", {"trigger": trigger, "isEnabled": True, **more})
        self.now = max(self.now, made.created)
        self.keeper.arm(made, new)
        return made

    def move(self, seconds: float) -> float | None:
        self.now += seconds
        return self.keeper.tick()

    def _fire(self, schedule: Document, due: float) -> None:
        self.fired.append((schedule.name, f"{due - schedule.created:.0f}"))
        if schedule.name == "broken":
            raise RuntimeError("it cannot be fired")


def test_each_time_fires_once(store: Store) -> None:
    clock = Clockwork(store)
    made = clock.put("hourly", every(1, "Hour"))
    clock.put("broken", every(2, "Hour"))
    later = clock.put("off", every(1, "Minute"), isEnabled=False)
    clock.move(1)
    assert sorted(clock.fired) == [("broken", "0"), ("hourly", "0")], "without a start the first run is at once"
    assert clock.move(3590) == pytest.approx(made.created + 3600)
    assert len(clock.fired) == 2
    clock.move(20)
    clock.move(20)
    assert clock.fired[2:] == [("hourly", "3600")]
    # One that cannot be fired is tried at its next time, and keeps the others from nothing.
    clock.move(3600)
    assert sorted(clock.fired[3:]) == [("broken", "7200"), ("hourly", "7200")]
    # A change of what is there is no new start.
    clock.put("hourly", every(1, "Hour"), displayName="renamed")
    clock.put("off", every(1, "Minute"))
    clock.move(1)
    assert [name for name, _ in clock.fired[5:]] == []
    clock.move(60)
    assert [name for name, _ in clock.fired[5:]] == ["off"]
    store.delete(later.id)
    clock.move(120)
    assert [name for name, _ in clock.fired[6:]] == []


def test_what_was_missed_is_made_up_for_once(store: Store) -> None:
    before = Clockwork(store)
    before.put("minutely", every(1, "Minute"))
    before.put("ended", cron("* * * * *", endTime="2020-01-01T00:00:00"))
    before.move(1)
    after = Clockwork(store)
    after.now = before.now + 86_400
    after.keeper.tick()
    after.keeper.tick()
    assert after.fired == [("minutely", "86400")], "and the one that is made up for is the latest"
    after.move(60)
    assert [due for _, due in after.fired] == ["86400", "86460"]


def test_schedules_from_before_they_kept_their_time(store: Store) -> None:
    made, _ = store.put("/w/schedules/old", {"trigger": every(1, "Hour"), "isEnabled": True})
    store.put("/w/schedules/wrong", {"trigger": cron("never"), "isEnabled": True})
    clock = Clockwork(store)
    clock.now = made.created + 1800
    assert clock.move(0) == pytest.approx(made.created + 3600)
    assert (clock.move(1801), clock.fired) == (pytest.approx(made.created + 7200), [("old", "3600")])


def test_the_thread_fires_by_itself(store: Store) -> None:
    clock = Clockwork(store)
    clock.keeper.start()
    try:
        clock.put("now", every(1, "Hour"))
        deadline = time.monotonic() + 10
        while not clock.fired and time.monotonic() < deadline:
            time.sleep(0.01)
    finally:
        clock.keeper.close()
    assert clock.fired == [("now", "0")]
