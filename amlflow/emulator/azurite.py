"""Azurite, the storage emulator that Azure's own developers use: installed from npm once, run beside the emulator."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from amlflow import paths, processes
from amlflow.emulator import certificates, storage_access
from amlflow.emulator.settings import HOST, STORAGE_ACCOUNT, Settings
from amlflow.errors import AmlflowError, NotFound, Unavailable
from amlflow.locks import locked

VERSION = "3.37.0"
_ENTRY = Path("node_modules") / "azurite" / "dist" / "src" / "blob" / "main.js"
_START_S = 60.0
_STOP_S = 10.0
_NODE_MEND = (
    "Install Node.js 18 or newer (https://nodejs.org, `apt install nodejs npm`, `brew install node`), or start without blobs: "
    "`amlflow emulator start --no-blobs`."
)


def ensure(report: Callable[[str], None]) -> Path:
    """The folder with Azurite in it, installed if it is new. Raises `NotFound` without Node.js, `Unavailable` when npm's registry
    does not answer."""
    folder = paths.cache() / f"azurite-{VERSION}"
    if shutil.which("node") is None:
        raise NotFound(
            "Blobs are kept by Azurite, which needs Node.js, and there is no `node` on this machine.", _NODE_MEND
        )
    if (folder / _ENTRY).is_file():
        return folder
    npm = shutil.which("npm")
    if npm is None:
        raise NotFound("Azurite is installed by npm, and there is no `npm` on this machine.", _NODE_MEND)
    with locked(folder.with_suffix(".lock")):
        if (folder / _ENTRY).is_file():
            return folder
        report(f"Installing Azurite {VERSION} with npm (once)…")
        part = folder.with_name(f"{folder.name}.part")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        command = [
            npm,
            "install",
            "--prefix",
            str(part),
            "--no-audit",
            "--no-fund",
            "--loglevel=error",
            f"azurite@{VERSION}",
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, cwd=part)
        if done.returncode != 0:
            last = " ".join((done.stderr or done.stdout).split())[-400:]
            raise Unavailable(
                f"npm could not install Azurite {VERSION}: {last}",
                "Check the network and npm's registry, or start without blobs: `amlflow emulator start --no-blobs`.",
            )
        shutil.rmtree(folder, ignore_errors=True)
        part.rename(folder)
    return folder


class Azurite:
    """The running process. Its blobs stay in the state folder."""

    def __init__(self, installed: Path, place: Path, settings: Settings) -> None:
        data = place / "blobs"
        data.mkdir(mode=0o700, exist_ok=True)
        guard = Path(__file__).with_name("storage_guard.js")
        command = ["node", "--require", str(guard), str(installed / _ENTRY)]
        command += ["--silent", "--disableTelemetry", "--skipApiVersionCheck", "--oauth", "basic"]
        command += ["--blobHost", HOST, "--blobPort", str(settings.storage_port), "--location", str(data)]
        command += ["--cert", str(place / certificates.CERTIFICATE), "--key", str(place / certificates.KEY)]
        # The account's key goes in by the environment, never by an argument that others can list.
        environment = {
            **os.environ,
            "AZURITE_ACCOUNTS": f"{STORAGE_ACCOUNT}:{settings.storage_key}",
            "AMLFLOW_STORAGE_ACCESS": f"{settings.base_url}{storage_access.PATH}",
            "AMLFLOW_STORAGE_ACCESS_KEY": settings.control_key,
            "AMLFLOW_STORAGE_ACCESS_CA": str(place / certificates.AUTHORITY),
        }
        self._record = place / "azurite.json"
        _end_leftover(self._record)
        self._log = (place / "azurite.log").open("ab")
        self._process = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log, cwd=data
        )
        record = {"pid": self._process.pid, "started": processes.started(self._process.pid)}
        self._record.write_text(json.dumps(record), encoding="utf-8")
        try:
            self._wait(place, settings.storage_port)
        except BaseException:
            self.stop()
            raise

    def _wait(self, place: Path, port: int) -> None:
        context = ssl.create_default_context(cafile=str(place / certificates.AUTHORITY))
        deadline = time.monotonic() + _START_S
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                break
            with (
                contextlib.suppress(OSError),
                socket.create_connection((HOST, port), 2) as raw,
                context.wrap_socket(raw, server_hostname=HOST),
            ):
                return
            time.sleep(0.05)
        tail = (place / "azurite.log").read_text(encoding="utf-8", errors="replace")[-600:]
        raise AmlflowError(f"Azurite did not start on port {port}: {' '.join(tail.split()) or 'it printed nothing'}")

    def stop(self) -> None:
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._record.unlink(missing_ok=True)
        self._log.close()


def _end_leftover(record: Path) -> None:
    """End the Azurite of an emulator that was killed: it holds the port and the blobs."""
    try:
        known = json.loads(record.read_text(encoding="utf-8"))
        begun = processes.started(known["pid"])
        if begun and abs(begun - known["started"]) < 0.1:
            os.kill(known["pid"], signal.SIGTERM)
            deadline = time.monotonic() + _STOP_S
            while processes.started(known["pid"]) and time.monotonic() < deadline:
                time.sleep(0.05)
    except (OSError, ValueError, KeyError, TypeError):
        return
