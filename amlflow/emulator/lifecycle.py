"""Starting, stopping and asking after the emulator, which runs in the background of this machine."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import ssl
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from amlflow import processes
from amlflow.emulator import azurite, certificates, control, faults, settings
from amlflow.emulator.settings import CLOUD_NAME, HOST, Settings
from amlflow.errors import AmlflowError, NotFound, Unavailable, UsageError
from amlflow.locks import locked

LOG_FILE, STATE_FILE, OPTIONS_FILE = "emulator.log", "state.json", "options.json"
DEFAULT_LIFETIME_S = 3600
_START_S, _STOP_S, _POLL_S = 120.0, 40.0, 0.05
_TAIL_LINES = 12


@dataclass(frozen=True, slots=True)
class Options:
    """How to start. `faults` are specs as `faults.parse` takes them; `record` is the file that exchanges are written to;
    `aliases` gives the model registry aliases."""

    port: int = 0
    blobs: bool = True
    faults: Sequence[str] = ()
    record: Path | None = None
    token_lifetime_s: int = DEFAULT_LIFETIME_S
    aliases: bool = False


@dataclass(frozen=True, slots=True)
class Status:
    """`pid` is 0 where none runs; `url` and `workspace` are what the next start would have as well."""

    running: bool
    pid: int
    url: str
    storage_url: str
    workspace: str
    folder: str
    log_file: str
    faults: Sequence[str]


def start(options: Options, report: Callable[[str], None]) -> Status:
    """Start the emulator, if it does not run already. What it kept before is there again. Raises `AmlflowError` with the end
    of its log when it does not come up."""
    for spec in options.faults:
        faults.parse(spec)
    place = settings.folder()
    place.mkdir(parents=True, exist_ok=True, mode=0o700)
    place.chmod(0o700)
    with locked(place / "start.lock"):
        if _pid(place):
            report("The emulator runs already; `amlflow emulator stop` ends it.")
            return status()
        known = settings.read(place) or settings.fresh()
        certificates.ensure(place)
        if options.blobs:
            azurite.ensure(report)
        known = settings.complete(
            known,
            _free(options.port or known.port, bool(options.port), report),
            _free(known.storage_port, False, report),
        )
        settings.write(place, known)
        asked = {
            "blobs": options.blobs,
            "faults": list(options.faults),
            "record": str(options.record.absolute()) if options.record else "",
            "token_lifetime_s": options.token_lifetime_s,
            "aliases": options.aliases,
        }
        (place / OPTIONS_FILE).write_text(json.dumps(asked), encoding="utf-8")
        _launch(place, known)
    return status()


def stop() -> bool:
    """Stop it and all that it started; what it holds is kept. False where none ran."""
    place = settings.folder()
    pid = _pid(place)
    if not pid:
        return False
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + _STOP_S
    while _pid(place):
        if time.monotonic() > deadline:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            break
        time.sleep(_POLL_S)
    (place / STATE_FILE).unlink(missing_ok=True)
    return True


def reset() -> None:
    """Forget all that it holds. Raises `AmlflowError` while it runs."""
    place = settings.folder()
    if _pid(place):
        raise AmlflowError("The emulator is running.", "Stop it first with `amlflow emulator stop`.")
    shutil.rmtree(place, ignore_errors=True)


def status() -> Status:
    """Raises `NotFound` where no emulator was ever started."""
    place = settings.folder()
    known = _settings(place)
    pid = _pid(place)
    return Status(
        bool(pid),
        pid,
        known.base_url,
        known.storage_url,
        f"{known.subscription}/{known.group}/{known.workspace}",
        str(place),
        str(place / LOG_FILE),
        ask("GET", "/emulator/faults")["faults"] if pid else (),
    )


def environment(role: str = "contributor") -> dict[str, str]:
    """The variables with which Azure's SDKs, and amlflow, talk to the emulator, signed in with that role. They hold secrets.
    Raises `UsageError` for a role that nobody has."""
    place = settings.folder()
    known = _settings(place)
    principal = next((item for item in known.principals if item.role == role), None)
    if principal is None:
        roles = ", ".join(item.role for item in known.principals)
        raise UsageError(f"Nobody has the role {role!r} in the emulator.", f"It is one of {roles}.")
    bundle = str(place / certificates.BUNDLE)
    return {
        "ARM_CLOUD_METADATA_URL": f"{known.base_url}/metadata/endpoints",
        "AZUREML_CURRENT_CLOUD": CLOUD_NAME,
        "AZURE_AUTHORITY_HOST": known.base_url,
        "AZURE_TENANT_ID": known.tenant,
        "AZURE_CLIENT_ID": principal.client_id,
        "AZURE_CLIENT_SECRET": principal.secret,
        "IDENTITY_ENDPOINT": f"{known.base_url}/msi/token",
        "IDENTITY_HEADER": known.identity_header,
        # Of the ways that DefaultAzureCredential would try, the one that needs no instance discovery on the internet.
        "AZURE_TOKEN_CREDENTIALS": "ManagedIdentityCredential",
        "REQUESTS_CA_BUNDLE": bundle,
        "SSL_CERT_FILE": bundle,
        "AMLFLOW_WORKSPACE": f"{known.subscription}/{known.group}/{known.workspace}",
        "AZURE_SUBSCRIPTION_ID": known.subscription,
    }


def fail(specs: Sequence[str], clear: bool) -> list[str]:
    """Add faults to the running emulator, in place of those at work if `clear`. Returns all. Raises `UsageError` for what is no
    fault; then nothing is changed."""
    for spec in specs:
        faults.parse(spec)
    found = ask("DELETE" if clear else "GET", "/emulator/faults")
    if specs:
        found = ask("POST", "/emulator/faults", {"faults": list(specs)})
    return [str(spec) for spec in found["faults"]]


def ask(method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Ask the running emulator something of its own. Raises `Unavailable` when it does not answer, `AmlflowError` for a
    refusal."""
    place = settings.folder()
    known = _settings(place)
    context = ssl.create_default_context(cafile=str(place / certificates.AUTHORITY))
    connection = http.client.HTTPSConnection(HOST, known.port, timeout=30, context=context)
    try:
        content = json.dumps(body) if body is not None else None
        connection.request(
            method, path, content, {control.HEADER: known.control_key, "content-type": "application/json"}
        )
        answer = connection.getresponse()
        found: dict[str, Any] = json.loads(answer.read())
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise Unavailable(
            f"The emulator does not answer at {known.base_url}: {error}.", "Start it with `amlflow emulator start`."
        ) from error
    finally:
        connection.close()
    if answer.status >= 400:
        raise AmlflowError(f"The emulator refused: {found['error']['message']}")
    return found


def _settings(place: Path) -> Settings:
    known = settings.read(place)
    if known is None:
        raise NotFound("No emulator was started here yet.", "Start one with `amlflow emulator start`.")
    return known


def _launch(place: Path, known: Settings) -> None:
    log = place / LOG_FILE
    log.touch(mode=0o600)
    before = log.stat().st_size
    command = [sys.executable, "-m", "amlflow.emulator", str(place)]
    with processes.uninterrupted():
        pid = processes.start_detached(command, cwd=place, env=os.environ, log=log)
        state = {"pid": pid, "started": processes.started(pid)}
        (place / STATE_FILE).write_text(json.dumps(state), encoding="utf-8")
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline:
        with contextlib.suppress(Unavailable):
            ask("GET", "/emulator/health")
            return
        if not _pid(place):
            break
        time.sleep(_POLL_S)
    stop()
    with log.open(encoding="utf-8", errors="replace") as source:
        source.seek(before)
        tail = [line.strip() for line in source if line.strip()][-_TAIL_LINES:]
    raise AmlflowError(
        f"The emulator did not come up on port {known.port}: {' '.join(tail) or 'it printed nothing'}",
        f"Its log: {log}.",
    )


def _pid(place: Path) -> int:
    """The process that runs, 0 for none: also for a number that another process was given since."""
    try:
        state = json.loads((place / STATE_FILE).read_text(encoding="utf-8"))
        begun = processes.started(state["pid"])
        return int(state["pid"]) if begun and abs(begun - state["started"]) < 0.1 else 0
    except (OSError, ValueError, KeyError, TypeError):
        return 0


def _free(wanted: int, insist: bool, report: Callable[[str], None]) -> int:
    """The wanted port if nobody has it, else (unless it was asked for) another."""
    for port in (wanted, 0) if wanted else (0,):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError as error:
                if insist:
                    raise AmlflowError(
                        f"Port {port} of {HOST} is taken: {error.strerror}.", "Give another with --port, or none."
                    ) from error
                report(f"Port {port} is taken; the emulator moves to another. Read `amlflow emulator env` again.")
                continue
            return int(probe.getsockname()[1])
    raise AmlflowError(f"No port of {HOST} is free.")
