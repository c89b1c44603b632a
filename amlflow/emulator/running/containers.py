"""Containers without an engine: each is a process with the folder of its image, kept up as its group wants.

A port of a container is one of this machine's loopback address; the word of its command that is the port is changed accordingly.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from amlflow import processes
from amlflow.emulator.running.environment import base_variables
from amlflow.emulator.running.images import Built
from amlflow.emulator.settings import HOST
from amlflow.emulator.web import iso

_BACK_OFF_S = (0.5, 1.0, 2.0, 5.0, 10.0)
_POLL_S = 0.1
# What Kubernetes leaves a container between SIGTERM and SIGKILL, in which the scoring app sends what it has collected.
_STOP_S = 30.0
_LOG_LIMIT_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class Spec:
    """A container to run. `ports` are those that it has inside, `variables` its environment; `image` None for one that only the
    emulator itself plays. `liveness` and `readiness` are the probes as Azure takes them, empty for none."""

    name: str
    reference: str
    image: Built | None
    command: Sequence[str]
    ports: Sequence[int]
    variables: Mapping[str, str] = field(repr=False)
    liveness: Mapping[str, Any]
    readiness: Mapping[str, Any]
    policy: str


class Container:
    """One process after the other, until `stop`. `note_pid` is told of each process, and of None when there is none any more."""

    def __init__(self, spec: Spec, log: Path, note_pid: Callable[[tuple[int, float] | None], None]) -> None:
        self.spec, self._log, self._note_pid = spec, log, note_pid
        self._ports = {port: _free_port() for port in spec.ports} if spec.image else {}
        self._lock = threading.Lock()
        self._now: dict[str, Any] = {"state": "Waiting", "detailStatus": "Creating"}
        self._before: dict[str, Any] = {}
        self._events: list[dict[str, Any]] = []
        self._restarts = 0
        self._stopping = threading.Event()
        self.started = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"container {spec.name}", daemon=True)

    def start(self) -> None:
        self._event("Pulling", f'pulling image "{self.spec.reference}"')
        self._event("Pulled", f'Successfully pulled image "{self.spec.reference}"')
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def forget(self) -> None:
        """Remove what is left of it, once it is stopped."""
        self._log.unlink(missing_ok=True)

    def port(self, inside: int) -> int:
        """The port of this machine behind one of the container's, 0 while nothing answers there."""
        with self._lock:
            return self._ports.get(inside, 0) if self._now["state"] == "Running" else 0

    def view(self) -> dict[str, Any]:
        with self._lock:
            shown: dict[str, Any] = {"restartCount": self._restarts, "currentState": dict(self._now)}
            if self._before:
                shown["previousState"] = dict(self._before)
            return {**shown, "events": [dict(event) for event in self._events]}

    def log(self, lines: int) -> str:
        try:
            return "\n".join(self._log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])
        except OSError:
            return ""

    def _run(self) -> None:
        while not self._stopping.is_set():
            code = self._once()
            again = self.spec.policy == "Always" or (self.spec.policy == "OnFailure" and code != 0)
            if self._stopping.is_set() or not again:
                break
            wait = _BACK_OFF_S[min(self._restarts, len(_BACK_OFF_S) - 1)]
            with self._lock:
                self._restarts += 1
                self._before = self._now
                self._now = {"state": "Waiting", "detailStatus": "CrashLoopBackOff: Back-off restarting failed"}
            self._stopping.wait(wait)
        self.started.set()

    def _once(self) -> int:
        """Run the process to its end; the exit code."""
        begun = time.time()
        if self.spec.image is None:
            self._running(begun)
            self._stopping.wait()
            return self._ended(begun, 0)
        command = self._command()
        with self._log.open("ab") as sink:
            try:
                process = subprocess.Popen(
                    command,
                    cwd=Path(command[0]).parent,
                    env={**base_variables(), **self.spec.image.variables, **self.spec.variables},
                    stdin=subprocess.DEVNULL,
                    stdout=sink,
                    stderr=sink,
                    start_new_session=True,
                )
            except (OSError, IndexError) as error:
                sink.write(f"no command specified: {error}\n".encode())
                return self._ended(begun, 127)
            self._note_pid((process.pid, processes.started(process.pid)))
            self._running(begun)
            alive, ready = (_Probe(asked, self._ports) for asked in (self.spec.liveness, self.spec.readiness))
            while process.poll() is None and not self._stopping.wait(_POLL_S):
                if ready.due() and (why := ready.fails()):
                    # Of a container that is not ready the service says so; what shares its group reaches it all the same.
                    self._event("Unhealthy", f"Readiness probe failed: {why}", "Warning")
                if alive.due() and (why := alive.fails()):
                    self._event("Unhealthy", f"Liveness probe failed: {why}", "Warning")
                    if alive.exhausted:
                        self._event("Killing", f"Killing container with id {self.spec.name}: failed liveness probe")
                        break
                self._bound_log()
            end(process)
        self._note_pid(None)
        return self._ended(begun, process.returncode if process.returncode >= 0 else 128 - process.returncode)

    def _command(self) -> list[str]:
        assert self.spec.image is not None
        words = list(self.spec.command) or self.spec.image.command
        placed = [str(self._ports.get(int(word), word)) if word.isdigit() else word for word in words]
        # What listens listens to this machine alone.
        return [*placed, "--host", HOST] if "--port" in words else placed

    def _running(self, begun: float) -> None:
        with self._lock:
            self._now = {"state": "Running", "startTime": iso(begun), "detailStatus": ""}
        self._event("Started", f"Started container {self.spec.name}")
        self.started.set()

    def _ended(self, begun: float, code: int) -> int:
        with self._lock:
            self._now = {
                "state": "Terminated",
                "startTime": iso(begun),
                "exitCode": code,
                "finishTime": iso(time.time()),
                "detailStatus": "Completed" if code == 0 else "Error",
            }
        self.started.set()
        return code

    def _event(self, name: str, message: str, kind: str = "Normal") -> None:
        now = iso(time.time())
        with self._lock:
            for event in self._events:
                if (event["name"], event["message"]) == (name, message):
                    event.update(count=event["count"] + 1, lastTimestamp=now)
                    return
            self._events.append(
                {
                    "count": 1,
                    "firstTimestamp": now,
                    "lastTimestamp": now,
                    "name": name,
                    "message": message,
                    "type": kind,
                }
            )

    def _bound_log(self) -> None:
        if self._log.stat().st_size > _LOG_LIMIT_BYTES:
            os.truncate(self._log, 0)


class _Probe:
    """A probe over HTTP, as Azure takes it: every so often after a first delay, and failed for good after so many in a row."""

    def __init__(self, asked: Mapping[str, Any], ports: Mapping[int, int]) -> None:
        get = asked.get("httpGet") or {}
        self._path, self._port = str(get.get("path") or "/"), ports.get(int(get.get("port") or 0), 0)
        self._period = float(asked.get("periodSeconds") or 10)
        self._threshold, self._timeout = (
            int(asked.get("failureThreshold") or 3),
            float(asked.get("timeoutSeconds") or 1),
        )
        self._next = time.monotonic() + float(asked.get("initialDelaySeconds") or 0)
        self._failed = 0
        self._on = bool(get)

    @property
    def exhausted(self) -> bool:
        return self._failed >= self._threshold

    def due(self) -> bool:
        return self._on and time.monotonic() >= self._next

    def fails(self) -> str:
        """Why it fails now, empty where it does not."""
        self._next = time.monotonic() + self._period
        connection = http.client.HTTPConnection(HOST, self._port, timeout=self._timeout)
        try:
            connection.request("GET", self._path)
            status = connection.getresponse().status
            why = "" if 200 <= status < 400 else f"HTTP probe failed with statuscode: {status}"
        except (OSError, http.client.HTTPException) as error:
            why = f"Get {self._path}: {type(error).__name__}"
        finally:
            connection.close()
        self._failed = self._failed + 1 if why else 0
        return why


def end(process: subprocess.Popen[bytes]) -> None:
    """The process with all that it started: asked first, then killed."""
    if process.poll() is None:
        _signal(process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_STOP_S)
    _signal(process.pid, signal.SIGKILL)
    process.wait()


def end_left(pid: int, started: float) -> None:
    """A process of an emulator that was killed."""
    if processes.started(pid) == started:
        _signal(pid, signal.SIGKILL)


def _signal(group: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])
