"""A few threads that do what they are given. Unlike those of `concurrent.futures` they never keep a program from ending."""

from __future__ import annotations

import queue
import threading
from concurrent.futures import Future
from typing import Any, Callable, List, Optional, Tuple

_Job = Tuple["Future[Any]", Callable[..., Any], Tuple[Any, ...]]


class Crew:
    def __init__(self, size: int, name: str) -> None:
        self._size, self._name = size, name
        self._jobs: "queue.SimpleQueue[Optional[_Job]]" = queue.SimpleQueue()
        self._threads: List[threading.Thread] = []
        self._busy = 0
        self._lock = threading.Lock()

    def submit(self, work: Callable[..., Any], *given: Any) -> "Future[Any]":
        future: "Future[Any]" = Future()
        with self._lock:
            self._busy += 1
            if len(self._threads) < min(self._size, self._busy):
                thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._threads.append(thread)
                thread.start()
        self._jobs.put((future, work, given))
        return future

    def end(self) -> None:
        """Let the threads go when they have done what they were given."""
        with self._lock:
            for _ in self._threads:
                self._jobs.put(None)
            self._threads = []

    def _run(self) -> None:
        while True:
            job = self._jobs.get()
            if job is None:
                return
            future, work, given = job
            try:
                result = work(*given)
            except BaseException as error:
                self._done()
                future.set_exception(error)
            else:
                self._done()
                future.set_result(result)

    def _done(self) -> None:
        with self._lock:
            self._busy -= 1
