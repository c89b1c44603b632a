"""Sends what the journals of a workspace hold: beside a program, or afterwards.

`python -m PACKAGE.drainer` does it in a process of its own; see `detached`.
"""

from __future__ import annotations

import contextlib
import os
import random
import threading
import time
from concurrent.futures import Future
from typing import Callable, Dict, Iterable, Iterator, List, Mapping, Optional, Set, Tuple

from . import segments
from .aside import Aside
from .batches import OPEN_SOURCE, Limits
from .crew import Crew
from .delivery import Delivery
from .errors import Refused, Unreachable
from .folder import GENERAL, Journal, RunFolder
from .identities import Identities
from .ledger import Ledger, has_passed
from .pending import Pending, pending
from .rest import Behind
from .retry import RetryPolicy
from .segments import Cursor
from .sinks import Opener
from .stuck import Stopped, Stuck
from .uploads import Uploads

__all__ = ["Drainer", "Pending", "pending"]

# How long to rest when nothing was to do, at least and at most; and before what failed is tried again.
_BUSY_S, _IDLE_S = 0.05, 0.5
_AGAIN_S, _MOST_AGAIN_S = 0.5, 30.0
# How often to look whether the program that wrote a run has ended, so that its journal can go.
_TIDY_S = 1.0


class _Known:
    """What a drainer knows of one run: the sizes of its segments when all in them had been sent, and when to try again."""

    def __init__(self) -> None:
        self.sizes: Optional[Cursor] = None
        self.work: Optional[Future[bool]] = None
        self.failures = 0
        self.again_at = 0.0
        self.tidy_at = 0.0
        self.is_waiting = False

    @property
    def is_under_way(self) -> bool:
        return self.work is not None and not self.work.done()


class Drainer:
    """Sends the runs of one journal, a few at once, each in its order.

    `openers` say by scheme where artifacts go that are not an MLflow server's. `tell` is given a sentence, once, for what the
    workspace could not hold. Several drainers of one journal share the work: each run has a lock.
    """

    def __init__(
        self,
        journal: Journal,
        behind: Behind,
        limits: Limits = OPEN_SOURCE,
        *,
        policy: Optional[RetryPolicy] = None,
        openers: Optional[Mapping[str, Opener]] = None,
        threads: int = 4,
        file_threads: int = 6,
        tell: Callable[[str], None] = lambda sentence: None,
    ) -> None:
        self._journal, self._behind, self._limits = journal, behind, limits
        self._policy, self._openers, self._tell = policy or RetryPolicy(), dict(openers or {}), tell
        self._identities = Identities(journal)
        self._crew, self._file_crew = Crew(threads, "amlflow-drain"), Crew(file_threads, "amlflow-upload")
        self._known: Dict[str, _Known] = {}
        self._halts: Set[threading.Event] = set()
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._thread: Optional[threading.Thread] = None

    # ------------------------------------------------------------------ public

    def drain_once(self) -> bool:
        """Try to send all that is there; whether all of it was."""
        self._try_again()
        while True:
            before = self._progress()
            for work in self._round():
                work.exception()
            if any(known.is_waiting for known in self._known.values()) and self._progress() != before:
                # The run that it waits for may have been made.
                time.sleep(_BUSY_S)
            elif not self._due():
                return all(known.sizes is not None for known in self._known.values())

    def run(self, stop: threading.Event) -> None:
        """Send until `stop` is set; what is under way then is left as it is."""
        pause = _BUSY_S
        while not stop.is_set() and not self._stop.is_set():
            begun = self._round()
            self._tidy()
            busy = begun or any(known.is_under_way for known in self._known.values())
            pause = _BUSY_S if busy else min(_IDLE_S, pause * 1.3)
            self._wake.wait(pause)
            self._wake.clear()
        self._halt()

    def start(self) -> None:
        """Send from a thread of its own."""
        if self._thread is None:
            self._stop.clear()
            self._thread = threading.Thread(target=self.run, args=(self._stop,), name="amlflow-drainer", daemon=True)
            self._thread.start()

    def stop(self, timeout_s: float = 5.0) -> None:
        """End the thread; a request under way is waited for no longer than `timeout_s`. Call `flush` before."""
        self._stop.set()
        self._wake.set()
        self._halt()
        deadline = time.monotonic() + timeout_s
        if self._thread is not None:
            self._thread.join(timeout_s)
            self._thread = None
        for known in list(self._known.values()):
            if known.work is not None:
                with contextlib.suppress(Exception):
                    known.work.exception(max(0.0, deadline - time.monotonic()))
        self._tidy(at_once=True)
        self._crew.end()
        self._file_crew.end()
        self._stop.clear()

    def flush(
        self,
        run_ids: Optional[Iterable[str]] = None,
        timeout_s: float = 60.0,
        give_up: Callable[[], bool] = lambda: False,
    ) -> bool:
        """Wait until what these runs (all, without) have written by now is sent. False at the end of the time, when `give_up`
        says so, or at once where only somebody else can change that it cannot be sent."""
        ids = list(run_ids) if run_ids is not None else self._ids()
        wanted = {run_id: segments.sizes(self._journal.run(run_id).path) for run_id in ids}
        deadline = time.monotonic() + timeout_s
        self._try_again(wanted)
        pause = 0.002
        while True:
            wanted = {run_id: sizes for run_id, sizes in wanted.items() if not self._has_sent(run_id, sizes)}
            if not wanted:
                return True
            if time.monotonic() > deadline or give_up() or all(self._is_hopeless(run_id) for run_id in wanted):
                return False
            if self._thread is None:
                self._round(wanted)
            else:
                self._wake.set()
            time.sleep(pause)
            pause = min(_BUSY_S, pause * 1.5)

    # ------------------------------------------------------------------ which runs

    def _ids(self) -> List[str]:
        try:
            names = os.listdir(self._journal.root / "runs")
        except FileNotFoundError:
            return []
        return [name for name in names if not name.startswith(".")]

    def _round(self, among: Optional[Iterable[str]] = None) -> List[Future[bool]]:
        """Set to work on every run that has something to send; a few stat calls where none has."""
        begun = []
        ids = self._ids()
        for run_id in ids if among is None else among:
            known = self._known.setdefault(run_id, _Known())
            if known.is_under_way or time.monotonic() < known.again_at:
                continue
            folder = self._journal.run(run_id)
            sizes = segments.sizes(folder.path)
            if sizes != known.sizes:
                known.work = self._crew.submit(self._send, folder, known, sizes)
                begun.append(known.work)
        for run_id in self._known.keys() - set(ids):
            if not self._known[run_id].is_under_way:
                del self._known[run_id]
        return begun

    def _due(self) -> bool:
        return any(
            known.sizes != segments.sizes(self._journal.run(run_id).path) and time.monotonic() >= known.again_at
            for run_id, known in self._known.items()
        )

    def _progress(self) -> Tuple[int, int]:
        return sum(known.sizes is not None for known in self._known.values()), len(self._journal.mapped_ids())

    def _try_again(self, run_ids: Optional[Iterable[str]] = None) -> None:
        for run_id in list(self._known) if run_ids is None else run_ids:
            known = self._known.get(run_id)
            if known is not None:
                known.again_at, known.failures = 0.0, 0

    def _has_sent(self, run_id: str, sizes: Cursor) -> bool:
        folder = self._journal.run(run_id)
        known = self._known.get(run_id)
        if known is not None and known.is_under_way:
            return False
        if not folder.exists():
            return True
        sent = folder.sent()
        return sent["sending"] is None and has_passed(sent["log"], sizes) and has_passed(sent["files"], sizes)

    def _is_hopeless(self, run_id: str) -> bool:
        known = self._known.get(run_id)
        problem = self._journal.run(run_id).problem() or {}
        return known is not None and known.failures > 0 and problem.get("kind") in ("not_allowed", "gone")

    # ------------------------------------------------------------------ one run

    def _send(self, folder: RunFolder, known: _Known, sizes: Cursor) -> bool:
        """Send a run as far as it goes; whether all of it was sent."""
        try:
            with folder.draining() as mine:
                if not mine:
                    # Somebody else sends it.
                    known.again_at = time.monotonic() + _BUSY_S
                    return False
                with self._halting() as halt:
                    known.is_waiting = not self._send_mine(folder, halt)
                if known.is_waiting:
                    known.again_at = time.monotonic() + _BUSY_S
                    return False
                folder.clear_problem()
                known.failures, known.sizes = 0, sizes
                _remove(folder)
                return True
        except Stopped:
            return False
        except FileNotFoundError as error:
            if not folder.exists():
                return True
            self._fail(folder, known, "unreachable", str(error))
        except Stuck as stuck:
            self._fail(folder, known, stuck.kind, stuck.reason)
        except Unreachable as failure:
            self._fail(folder, known, "unreachable", failure.reason)
        except Refused as refused:
            self._fail(folder, known, "not_allowed" if refused.status in (401, 403) else "unreachable", str(refused))
        except Exception as error:
            # MLflow's clients of other storage raise whatever their libraries do. One run must not keep the others from theirs.
            self._fail(folder, known, "unreachable", f"{type(error).__name__}: {error}")
        return False

    def _send_mine(self, folder: RunFolder, halt: threading.Event) -> bool:
        ledger, aside = Ledger(folder), Aside(folder, self._tell)
        uploads = Uploads(
            folder,
            self._behind,
            ledger,
            aside,
            self._identities,
            openers=self._openers,
            crew=self._file_crew,
            stop=halt,
        )
        files = _Beside(uploads.work)
        delivery = Delivery(
            folder,
            self._behind,
            self._limits,
            ledger,
            aside,
            self._identities,
            wait_for_files=lambda cursor: files.wait(lambda: uploads.have_passed(cursor), halt),
            put_aside=uploads.put_aside,
            policy=self._policy,
            stop=halt,
        )
        try:
            files.start()
            while True:
                if not delivery.deliver():
                    return False
                # A file that was recorded after the log was read may wait for the log to come to it.
                files.wait(lambda: not files.is_alive() or uploads.awaits_log(), halt)
                if not files.is_alive():
                    break
            uploads.put_aside()
            segments.remove_read(folder.path, _both(ledger))
            return True
        finally:
            halt.set()
            files.end()

    def _fail(self, folder: RunFolder, known: _Known, kind: str, reason: str) -> None:
        known.failures += 1
        longest = (
            _MOST_AGAIN_S if kind != "unreachable" else min(_MOST_AGAIN_S, _AGAIN_S * 2.0 ** min(known.failures, 10))
        )
        known.again_at = time.monotonic() + longest * (0.5 + 0.5 * random.random())  # noqa: S311  jitter, not a secret
        with contextlib.suppress(OSError):
            folder.note_problem(kind, reason)

    # ------------------------------------------------------------------ ends

    @contextlib.contextmanager
    def _halting(self) -> Iterator[threading.Event]:
        """An event that is set when the drainer is to end."""
        halt = threading.Event()
        with self._lock:
            self._halts.add(halt)
        if self._stop.is_set():
            halt.set()
        try:
            yield halt
        finally:
            with self._lock:
                self._halts.discard(halt)

    def _halt(self) -> None:
        with self._lock:
            for halt in self._halts:
                halt.set()

    def _tidy(self, at_once: bool = False) -> None:
        """Remove journals of which all was sent before their programs ended."""
        now = time.monotonic()
        for run_id, known in list(self._known.items()):
            if known.sizes is not None and not known.is_under_way and (at_once or now >= known.tidy_at):
                known.tidy_at = now + _TIDY_S
                folder = self._journal.run(run_id)
                with folder.draining() as mine:
                    if mine and known.sizes == segments.sizes(folder.path):
                        _remove(folder)


class _Beside:
    """Work in a thread beside the one that waits for it, begun again as often as there is need."""

    def __init__(self, work: Callable[[], None]) -> None:
        self._work = work
        self._thread: Optional[threading.Thread] = None
        self._error: Optional[BaseException] = None

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="amlflow-files", daemon=True)
        self._thread.start()

    def is_alive(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def wait(self, is_done: Callable[[], bool], halt: threading.Event) -> None:
        """Until `is_done`. Raises what the work raised, or `Stopped`."""
        while True:
            alive = self.is_alive()
            if self._error is not None:
                raise self._error
            if is_done():
                return
            if halt.is_set():
                raise Stopped
            if not alive:
                self.start()
            elif self._thread is not None:
                self._thread.join(0.05)

    def end(self) -> None:
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        try:
            self._work()
        except BaseException as error:
            self._error = error


def _remove(folder: RunFolder) -> None:
    if folder.id != GENERAL and segments.numbers(folder.path):
        folder.remove_if_sent()


def _both(ledger: Ledger) -> Dict[int, int]:
    return {number: min(offset, ledger.files.get(number, 0)) for number, offset in ledger.log.items()}


if __name__ == "__main__":
    from .detached import main

    main()
