"""The clock of the schedules: one thread that fires each of them when its time has come."""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable, Iterable

from amlflow.emulator.schedules import triggers
from amlflow.emulator.store import Document, Store

# A machine that was asleep, or whose clock was set, is noticed after so long.
_LONGEST_WAIT_S = 15.0
_JOIN_S = 5.0


class Timekeeper:
    """`every` gives all schedules, `fire` is called with one and the time that it was due. What is due is kept in the
    store, so that a time that came while the emulator was off is made up for at its next start: once, however many were
    missed (the service is never off, so there is nothing of it to follow). A time is taken off before it is fired: it may
    be lost, but never comes twice."""

    def __init__(
        self,
        store: Store,
        every: Callable[[], Iterable[Document]],
        fire: Callable[[Document, float], None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store, self._every, self._fire, self._clock = store, every, fire, clock
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="schedules", daemon=True)
        self._closing = False

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join(_JOIN_S)

    def arm(self, schedule: Document, new: bool) -> None:
        """Set the time that the schedule is due next: of a new one also the time at which it was made."""
        self._set(schedule, schedule.created - 0.001 if new else self._clock())
        with self._changed:
            self._changed.notify_all()

    def tick(self) -> float | None:
        """Fire what is due. Returns when something will be next, in epoch seconds; None for never."""
        coming = [self._look(schedule) for schedule in self._every()]
        return min((due for due in coming if due is not None), default=None)

    def _look(self, schedule: Document) -> float | None:
        now = self._clock()
        with self._store.undisturbed():
            kept = self._store.get(_key(schedule))
            if kept is None:
                # It is deleted by now, or from before schedules kept their time.
                return self._set(schedule, now) if self._store.get(schedule.id) else None
            due: float | None = kept.body["due"]
            if due is None or due > now:
                return due
            latest = triggers.read(schedule.body["trigger"], schedule.created).last_until(now, due)
            following = self._set(schedule, now)
        try:
            self._fire(schedule, latest)
        except Exception:
            # One schedule that cannot be fired is no other's failure; this is the emulator's log.
            traceback.print_exc()
        return following

    def _set(self, schedule: Document, moment: float) -> float | None:
        """Keep, and return, when the schedule is due after the moment."""
        due = None
        if schedule.body.get("isEnabled"):
            try:
                due = triggers.read(schedule.body["trigger"], schedule.created).next_after(moment)
            except (ValueError, TypeError):
                # Kept by an emulator that did not check it.
                traceback.print_exc()
        self._store.put(_key(schedule), {"due": due})
        return due

    def _run(self) -> None:
        while True:
            coming = self.tick()
            with self._changed:
                if self._closing:
                    return
                wait = _LONGEST_WAIT_S if coming is None else coming - self._clock()
                self._changed.wait(max(0.0, min(wait, _LONGEST_WAIT_S)))
                if self._closing:
                    return


def _key(schedule: Document) -> str:
    return f"{schedule.id}/due"
