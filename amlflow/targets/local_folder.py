"""The folder of a local endpoint, and the process that keeps the endpoint up.

`spec.json` says what to serve, `state.json` how it went, `keys.json` (0600) the keys; `endpoint.log` is what the processes print,
`supervisor` the pid and the start of the process that keeps them up.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from amlflow import processes, serving
from amlflow.errors import AmlflowError

HOST = "127.0.0.1"
LOG_FILE = "endpoint.log"
_TAIL_LINES = 12
_DELETE_S = 40.0


class EndpointFolder:
    """It need not be there yet."""

    def __init__(self, path: Path) -> None:
        self.path, self.log = path, path / LOG_FILE
        self.key_file = path / "keys.json"

    @property
    def exists(self) -> bool:
        return (self.path / "spec.json").is_file()

    def spec(self) -> dict[str, Any]:
        """What is wanted; empty before the first start."""
        return _read(self.path / "spec.json")

    def state(self) -> dict[str, Any]:
        """What the supervisor says of it."""
        return _read(self.path / "state.json")

    def served(self) -> dict[str, Any]:
        """The spec of the generation that answers."""
        return _read(self.path / f"spec-{self.state().get('generation', 0)}.json")

    def keys(self) -> list[str]:
        return list(_read(self.key_file).values())

    def renew_key(self) -> None:
        temporary = self.key_file.with_name(f"{self.key_file.name}.new")
        temporary.unlink(missing_ok=True)
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as target:
            json.dump({"primary": secrets.token_urlsafe(32)}, target)
        temporary.replace(self.key_file)

    def alive(self) -> bool:
        pid, started = self._supervisor()
        return bool(pid) and processes.started(pid) == started

    def start(self, spec: Mapping[str, Any], port: int | None) -> int:
        """Serve what the spec says, in a new folder, at the port or a free one; the generation. Raises `AmlflowError` for a port
        that is taken."""
        shutil.rmtree(self.path, ignore_errors=True)
        self.path.mkdir(mode=0o700)
        listening = _listen(port)
        try:
            self.renew_key()
            self._write_spec({**spec, "generation": 1, "port": listening.getsockname()[1]})
            listening.set_inheritable(True)
            with self.log.open("ab") as log:
                # Isolated and without site-packages: the supervisor needs neither, and stays at a few megabytes.
                process = subprocess.Popen(
                    [
                        sys.executable,
                        *("-I", "-S", str(Path(serving.__file__).with_name("boot.py"))),
                        *("supervisor", str(self.path), str(listening.fileno())),
                    ],
                    pass_fds=(listening.fileno(),),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                    cwd=self.path,
                )
        finally:
            listening.close()
        (self.path / "supervisor").write_text(f"{process.pid} {processes.started(process.pid)}", encoding="ascii")
        # It is meant to outlive us, of which Popen would warn.
        process.returncode = 0
        return 1

    def reload(self, spec: Mapping[str, Any]) -> int:
        """Serve this spec in place of the one before, at the same port; the generation."""
        now = self.spec()
        generation = int(now["generation"]) + 1
        kept = {name: now[name] for name in ("port", "started_ms")}
        self._write_spec({**spec, **kept, "generation": generation})
        os.kill(self._supervisor()[0], signal.SIGHUP)
        return generation

    def remove(self) -> None:
        """End its processes and delete it."""
        pid, _ = self._supervisor()
        if self.alive():
            import psutil

            try:
                process = psutil.Process(pid)
                family = [process, *process.children(recursive=True)]
                process.terminate()
                _, left = psutil.wait_procs(family, timeout=_DELETE_S)
                for item in left:
                    item.kill()
            except psutil.Error:
                pass
        shutil.rmtree(self.path, ignore_errors=True)

    def tail(self) -> str:
        try:
            with self.log.open(encoding="utf-8", errors="replace") as source:
                return "\n".join(line.rstrip("\n") for line in deque(source, _TAIL_LINES))
        except OSError:
            return "(no log)"

    def _write_spec(self, content: Mapping[str, Any]) -> None:
        temporary = self.path / "spec.json.new"
        temporary.write_text(json.dumps(content), encoding="utf-8")
        temporary.replace(self.path / "spec.json")

    def _supervisor(self) -> tuple[int, float]:
        try:
            pid, started = (self.path / "supervisor").read_text(encoding="ascii").split()
            return int(pid), float(started)
        except (OSError, ValueError):
            return 0, 0.0


def _read(file: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        return content
    except (OSError, ValueError):
        return {}


def _listen(port: int | None) -> socket.socket:
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((HOST, port or 0))
        listening.listen(1024)
    except OSError as error:
        listening.close()
        holder = _holder(port or 0)
        raise AmlflowError(
            f"Port {port} of {HOST} cannot be taken: {error.strerror}{f', by {holder}' if holder else ''}.",
            "Choose another with --port, or leave it out for a free one.",
        ) from error
    return listening


def _holder(port: int) -> str:
    import psutil

    with contextlib.suppress(psutil.Error, OSError):
        for connection in psutil.net_connections("tcp"):
            if connection.laddr and connection.laddr.port == port and connection.status == psutil.CONN_LISTEN:
                return f"process {connection.pid} ({psutil.Process(connection.pid).name()})" if connection.pid else ""
    return ""
