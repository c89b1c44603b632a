"""The process that keeps an endpoint up. It needs the standard library alone.

It holds the listening socket, which every worker inherits: so a worker can be replaced by another without one request lost.
`spec.json` in the endpoint's folder says what to serve; on SIGHUP it is read again, a second worker is started from it, and only
when that one is ready does the first stop accepting, finish and end. `state.json` says how it went.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Optional

LOG_LIMIT_BYTES = 10 * 1024 * 1024
_BACK_OFF_S = (1.0, 2.0, 5.0, 10.0, 30.0)
_STEADY_S = 60.0
_STOP_S = 35.0


def main(arguments: list[str]) -> None:
    folder, descriptor = Path(arguments[0]), int(arguments[1])
    Supervisor(folder, descriptor).run()


class Worker:
    """One process with the model. `ready` is the pipe on which it says so, None once it has."""

    def __init__(self, generation: int, process: subprocess.Popen[bytes], ready: int) -> None:
        self.generation, self.process, self.ready = generation, process, ready
        self.started = time.monotonic()


class Supervisor:
    def __init__(self, folder: Path, descriptor: int) -> None:
        self._folder, self._socket = folder, descriptor
        self._alive_read, self._alive_write = os.pipe()
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_write, False)
        self._current: Optional[Worker] = None
        self._coming: Optional[Worker] = None
        self._going: list[Worker] = []
        self._failed = 0
        self._error = ""
        self._crashes = 0
        self._restart_at: Optional[float] = None
        self._signals: list[int] = []

    def run(self) -> None:
        signal.set_wakeup_fd(self._wake_write)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
            signal.signal(number, lambda number, _frame: self._signals.append(number))
        self._start()
        while self._step():
            pass

    def _step(self) -> bool:
        waiting = [self._wake_read, *([self._coming.ready] if self._coming else [])]
        ready, _, _ = select.select(waiting, [], [], self._timeout())
        if self._wake_read in ready:
            os.read(self._wake_read, 4096)
        if self._coming is not None and self._coming.ready in ready:
            self._arrived(self._coming)
        signals, self._signals = self._signals, []
        if signal.SIGTERM in signals or signal.SIGINT in signals:
            self._stop()
            return False
        if signal.SIGHUP in signals:
            self._start()
        self._reap()
        if self._restart_at is not None and time.monotonic() >= self._restart_at and self._coming is None:
            self._restart_at = None
            self._start()
        self._bound_log()
        return self._current is not None or self._coming is not None or self._restart_at is not None

    def _timeout(self) -> float:
        if self._restart_at is None:
            return 30.0
        return max(0.05, self._restart_at - time.monotonic())

    def _start(self) -> None:
        if self._coming is not None:
            self._end(self._coming)
        spec = json.loads((self._folder / "spec.json").read_text(encoding="utf-8"))
        # The worker gets a copy of its own: the next deploy writes spec.json anew.
        own = self._folder / f"spec-{spec['generation']}.json"
        shutil.copyfile(self._folder / "spec.json", own)
        read, write = os.pipe()
        try:
            process = subprocess.Popen(
                [
                    spec["python"],
                    str(Path(__file__).with_name("boot.py")),
                    "worker",
                    *("--spec", str(own), "--socket-fd", str(self._socket)),
                    *("--ready-fd", str(write), "--alive-fd", str(self._alive_read)),
                ],
                pass_fds=(self._socket, write, self._alive_read),
                stdin=subprocess.DEVNULL,
                env={**os.environ, **spec.get("variables", {}), "PYTHONUNBUFFERED": "1"},
                cwd=self._folder,
            )
        except OSError as error:
            os.close(read)
            self._failed, self._error = spec["generation"], f"{spec['python']} cannot be started: {error.strerror}"
            self._write_state()
            return
        finally:
            os.close(write)
        self._coming = Worker(spec["generation"], process, read)
        self._write_state()

    def _arrived(self, worker: Worker) -> None:
        """The pipe was written to, or closed by a worker that died."""
        said = os.read(worker.ready, 4096)
        os.close(worker.ready)
        self._coming = None
        content = json.loads(said) if said.strip() else {"error": "it ended before it could answer; see the log"}
        if content.get("ready"):
            old, self._current = self._current, worker
            worker.started = time.monotonic()
            if old is not None:
                self._end(old)
        else:
            self._failed, self._error = worker.generation, content["error"]
            self._end(worker)
            if self._current is None and self._crashes:
                self._plan_restart()
        self._write_state()

    def _reap(self) -> None:
        for worker in list(self._going):
            if worker.process.poll() is not None:
                self._going.remove(worker)
        current = self._current
        if current is None or current.process.poll() is None:
            return
        code = current.process.returncode
        print(f"The worker ended with {code}; it is started again.", file=sys.stderr, flush=True)  # noqa: T201
        if time.monotonic() - current.started > _STEADY_S:
            self._crashes = 0
        self._current = None
        self._plan_restart()
        self._write_state()

    def _plan_restart(self) -> None:
        self._restart_at = time.monotonic() + _BACK_OFF_S[min(self._crashes, len(_BACK_OFF_S) - 1)]
        self._crashes += 1

    def _end(self, worker: Worker) -> None:
        if worker.process.poll() is None:
            worker.process.terminate()
            self._going.append(worker)

    def _stop(self) -> None:
        for worker in (self._coming, self._current):
            if worker is not None:
                self._end(worker)
        deadline = time.monotonic() + _STOP_S
        for worker in self._going:
            try:
                worker.process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                worker.process.kill()
                worker.process.wait()

    def _write_state(self) -> None:
        content: dict[str, Any] = {
            "generation": self._current.generation if self._current else 0,
            "pid": self._current.process.pid if self._current else 0,
            "coming": self._coming.generation if self._coming else 0,
            "failed": self._failed,
            "error": self._error,
            "restarting": self._restart_at is not None,
        }
        temporary = self._folder / "state.json.new"
        temporary.write_text(json.dumps(content), encoding="utf-8")
        temporary.replace(self._folder / "state.json")

    def _bound_log(self) -> None:
        """Keep one older log; the file stays the same one, because processes have it open for appending."""
        log = self._folder / "endpoint.log"
        if log.exists() and log.stat().st_size > LOG_LIMIT_BYTES:
            shutil.copyfile(log, log.with_suffix(".log.1"))
            os.truncate(log, 0)
