"""The local target: the scoring app in the background of this machine, on a port of the loopback address.

An endpoint is a folder: `spec.json` (what to serve), `state.json` (how it went), `keys.json` (0600), `endpoint.log`, `supervisor`
(pid and start of the process that keeps it up).
"""

from __future__ import annotations

import builtins
import contextlib
import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from amlflow import processes, serving
from amlflow.environments import build, spec
from amlflow.errors import AmlflowError, NotFound, NotSupported, Unavailable, UsageError
from amlflow.locks import locked
from amlflow.targets.base import CURRENT, DeployOptions, Endpoint, EndpointState, ModelToDeploy, Plan, PlanStep

HOST = "127.0.0.1"
LOG_FILE = "endpoint.log"
# What the scoring app needs beside the model's own requirements.
SERVER_REQUIREMENTS = ("uvicorn>=0.30", "httptools>=0.6", "uvloop>=0.19", "pyyaml>=6")
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,60}[a-z0-9])?")
_POLL_S = 0.05
_TAIL_LINES = 12
_DELETE_S = 40.0


class LocalTarget:
    """Endpoints below `root/endpoints`."""

    def __init__(self, root: Path) -> None:
        self._root = root / "endpoints"

    def plan(self, model: ModelToDeploy, options: DeployOptions) -> Plan:
        if not _NAME.fullmatch(options.name):
            raise UsageError(
                f"{options.name!r} cannot name an endpoint.",
                "A name has up to 62 lower-case letters, digits and '-', and starts and ends with a letter or digit.",
            )
        if options.env_manager not in ("uv", "local", "conda"):
            raise UsageError(f"There is no environment manager {options.env_manager!r}.", "It is uv, local or conda.")
        folder = self._root / options.name
        steps = [self._environment_step(model, options)]
        if self._alive(folder):
            now = self._read(folder / "spec.json")
            if options.port not in (None, now["port"]):
                raise AmlflowError(
                    f"Endpoint {options.name!r} runs on port {now['port']} and cannot move to {options.port}.",
                    f"Delete it first with `amlflow endpoint delete {options.name}`, or leave out --port.",
                )
            steps.append(PlanStep("keep", "address", f"http://{HOST}:{now['port']}"))
            steps.append(PlanStep("keep", "key", ""))
            steps.append(PlanStep("change", f"endpoint {options.name}", f"{now['label']} -> {model.label}"))
        else:
            port = str(options.port) if options.port else "a free one"
            steps.append(PlanStep("create", "key", ""))
            steps.append(PlanStep("create", f"endpoint {options.name}", f"{model.label} on {HOST}, port {port}"))
        if options.collect is not None:
            steps.append(PlanStep("create", "collection", f"{options.collect.rate:.0%} of the requests and answers"))
        return Plan("local", options.name, model, options, steps, fresh=not folder.is_dir())

    def apply(self, plan: Plan, report: Callable[[str], None]) -> Endpoint:
        options, folder = plan.options, self._root / plan.endpoint
        environment = build.ensure(self._requirements(plan.model, options), _manager(options), report)
        for place in (self._root.parent, self._root):
            place.mkdir(parents=True, exist_ok=True, mode=0o700)
        with locked(self._root / f".{plan.endpoint}.lock"):
            fresh = not self._alive(folder)
            if fresh:
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir(mode=0o700)
            try:
                with processes.uninterrupted():
                    act = self._start if fresh else self._reload
                    generation = act(folder, plan, environment)
                report(f"Waiting for {plan.model.label} to answer…")
                self._wait(folder, generation, options.timeout_s, plan)
            except BaseException:
                if fresh:
                    self._remove(folder)
                raise
        return self.status(plan.endpoint)

    def list(self) -> list[Endpoint]:
        if not self._root.is_dir():
            return []
        names = sorted(entry.name for entry in self._root.iterdir() if (entry / "spec.json").is_file())
        return [self.status(name) for name in names]

    def status(self, name: str) -> Endpoint:
        folder = self._folder(name)
        wanted, state = self._read(folder / "spec.json"), self._read(folder / "state.json")
        url = f"http://{HOST}:{wanted['port']}"
        return Endpoint(
            name,
            "local",
            _state(self._alive(folder), state),
            self._served(folder, state).get("label", wanted["label"]),
            self._served(folder, state).get("model_folder", wanted["model_folder"]),
            url,
            f"{url}/invocations",
            wanted["port"],
            state.get("pid", 0) if self._alive(folder) else 0,
            wanted["started_ms"],
            str(folder / LOG_FILE),
            {CURRENT: 100},
        )

    def invoke(self, name: str, body: bytes, content_type: str) -> Any:
        import http.client

        endpoint = self.status(name)
        if endpoint.state in ("stopped", "failed"):
            raise Unavailable(
                f"Endpoint {name!r} is {endpoint.state}.",
                f"Deploy it again: `amlflow deploy {endpoint.model} --name {name}`.",
            )
        connection = http.client.HTTPConnection(HOST, endpoint.port, timeout=300)
        headers = {"content-type": content_type, "authorization": f"Bearer {self.keys(name)[0]}"}
        try:
            connection.request("POST", "/invocations", body, headers)
            answer = connection.getresponse()
            content = answer.read()
        except OSError as error:
            raise Unavailable(
                f"Endpoint {name!r} did not answer at {endpoint.scoring_url}: {error}.",
                f"See `amlflow endpoint logs {name}`.",
            ) from error
        finally:
            connection.close()
        parsed = json.loads(content)
        if answer.status >= 500:
            raise AmlflowError(
                f"Endpoint {name!r} failed ({answer.status}): {parsed['error']['message']}",
                f"See `amlflow endpoint logs {name}`.",
            )
        if answer.status >= 400:
            raise AmlflowError(f"Endpoint {name!r} refused the request ({answer.status}): {parsed['error']['message']}")
        return parsed

    def logs(self, name: str, follow: bool = False, lines: int = 100, deployment: str = "") -> Iterator[str]:
        if deployment:
            raise NotSupported(f"The local endpoint {name!r} has one deployment alone.", "Leave out --deployment.")
        log = self._folder(name) / LOG_FILE
        with log.open(encoding="utf-8", errors="replace") as source:
            yield from source.readlines()[-lines:]
            while follow:
                line = source.readline()
                if line:
                    yield line
                elif not log.exists():
                    return
                else:
                    if log.stat().st_size < source.tell():
                        source.seek(0)
                    time.sleep(_POLL_S * 4)

    def keys(self, name: str, rotate: bool = False) -> Sequence[str]:
        file = self._folder(name) / "keys.json"
        if rotate:
            _write_private(file, {"primary": secrets.token_urlsafe(32)})
        return builtins.list(self._read(file).values())

    def set_traffic(self, name: str, traffic: Mapping[str, int]) -> Endpoint:
        raise NotSupported(
            "The local target serves one model an endpoint: it has no traffic to split.", "Use two endpoints."
        )

    def rollback(self, name: str) -> Endpoint:
        raise NotSupported(
            "The local target keeps no deployment before.",
            "Deploy the earlier version again: `amlflow deploy NAME:VERSION`.",
        )

    def collected(self, name: str, since_ms: int | None, until_ms: int | None) -> Path:
        """It outlives the endpoint."""
        if not _NAME.fullmatch(name):
            raise NotFound(f"There is no endpoint {name!r}.", "`amlflow endpoint list` shows them.")
        return self._root.parent / "collected" / name

    def delete(self, name: str) -> None:
        folder = self._folder(name)
        with locked(self._root / f".{name}.lock"):
            self._remove(folder)
        (self._root / f".{name}.lock").unlink(missing_ok=True)

    def _environment_step(self, model: ModelToDeploy, options: DeployOptions) -> PlanStep:
        if options.env_manager == "local":
            return PlanStep("keep", "environment", str(Path(sys.executable)))
        wanted = self._requirements(model, options)
        return PlanStep(
            "create", "environment", f"{len(wanted.requirements)} requirements of {wanted.source}, or cached"
        )

    def _requirements(self, model: ModelToDeploy, options: DeployOptions) -> spec.EnvironmentSpec:
        if options.env_manager == "local":
            return spec.EnvironmentSpec("")
        return spec.of_model(model.folder).adding(*SERVER_REQUIREMENTS)

    def _start(self, folder: Path, plan: Plan, environment: build.Environment) -> int:
        listening = _listen(plan.options.port)
        try:
            _write_private(folder / "keys.json", {"primary": secrets.token_urlsafe(32)})
            self._write_spec(folder, plan, environment, 1, listening.getsockname()[1])
            listening.set_inheritable(True)
            with (folder / LOG_FILE).open("ab") as log:
                # Isolated and without site-packages: the supervisor needs neither, and stays at a few megabytes.
                process = subprocess.Popen(
                    [
                        sys.executable,
                        *("-I", "-S", str(Path(serving.__file__).with_name("boot.py"))),
                        *("supervisor", str(folder), str(listening.fileno())),
                    ],
                    pass_fds=(listening.fileno(),),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                    cwd=folder,
                )
        finally:
            listening.close()
        (folder / "supervisor").write_text(f"{process.pid} {processes.started(process.pid)}", encoding="ascii")
        # It is meant to outlive us, of which Popen would warn.
        process.returncode = 0
        return 1

    def _reload(self, folder: Path, plan: Plan, environment: build.Environment) -> int:
        now = self._read(folder / "spec.json")
        generation = int(now["generation"]) + 1
        self._write_spec(folder, plan, environment, generation, now["port"], now["started_ms"])
        os.kill(self._supervisor(folder)[0], signal.SIGHUP)
        return generation

    def _write_spec(
        self,
        folder: Path,
        plan: Plan,
        environment: build.Environment,
        generation: int,
        port: int,
        started_ms: int | None = None,
    ) -> None:
        variables = {**({} if environment.prefix is None else environment.variables()), **plan.options.variables}
        content = {
            "generation": generation,
            "label": plan.model.label,
            "model_folder": str(plan.model.folder),
            "python": str(environment.python),
            "variables": variables,
            "key_file": str(folder / "keys.json"),
            "port": port,
            "started_ms": started_ms or time.time_ns() // 1_000_000,
            "collect": self._rules(plan),
        }
        temporary = folder / "spec.json.new"
        temporary.write_text(json.dumps(content), encoding="utf-8")
        temporary.replace(folder / "spec.json")

    def _rules(self, plan: Plan) -> dict[str, Any] | None:
        """As the scoring app's collector takes them."""
        collect = plan.options.collect
        if collect is None:
            return None
        return {
            "folder": str(self.collected(plan.endpoint, None, None)),
            "source": f"amlflow:{plan.endpoint}/{plan.model.label}",
            "rate": collect.rate,
            "dropped": [*collect.dropped],
            "hashed": [*collect.hashed],
        }

    def _wait(self, folder: Path, generation: int, timeout_s: float, plan: Plan) -> None:
        deadline = time.monotonic() + timeout_s
        while True:
            state = self._read(folder / "state.json")
            if state.get("generation") == generation:
                return
            alive = self._alive(folder)
            if state.get("failed") == generation or not alive:
                kept = "" if generation == 1 else " What ran before goes on."
                raise AmlflowError(
                    f"The model {plan.model.label} did not start: {state.get('error') or 'its process ended'}.{kept}",
                    f"The end of its log:\n{_tail(folder / LOG_FILE)}",
                )
            if time.monotonic() > deadline:
                raise AmlflowError(
                    f"The model {plan.model.label} did not answer within {timeout_s:.0f} s.",
                    f"Give it longer with --timeout. The end of its log:\n{_tail(folder / LOG_FILE)}",
                )
            time.sleep(_POLL_S)

    def _remove(self, folder: Path) -> None:
        pid, _ = self._supervisor(folder)
        if self._alive(folder):
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
        shutil.rmtree(folder, ignore_errors=True)

    def _served(self, folder: Path, state: Mapping[str, Any]) -> dict[str, Any]:
        return self._read(folder / f"spec-{state.get('generation', 0)}.json")

    def _folder(self, name: str) -> Path:
        folder = self._root / name
        if not _NAME.fullmatch(name) or not (folder / "spec.json").is_file():
            raise NotFound(f"There is no endpoint {name!r}.", "`amlflow endpoint list` shows them.")
        return folder

    def _supervisor(self, folder: Path) -> tuple[int, float]:
        try:
            pid, started = (folder / "supervisor").read_text(encoding="ascii").split()
            return int(pid), float(started)
        except (OSError, ValueError):
            return 0, 0.0

    def _alive(self, folder: Path) -> bool:
        pid, started = self._supervisor(folder)
        return bool(pid) and processes.started(pid) == started

    @staticmethod
    def _read(file: Path) -> dict[str, Any]:
        try:
            content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
            return content
        except (OSError, ValueError):
            return {}


def _state(alive: bool, state: Mapping[str, Any]) -> EndpointState:
    if not alive:
        return "stopped"
    if state.get("restarting"):
        return "restarting"
    return "running" if state.get("generation") else "starting"


def _manager(options: DeployOptions) -> build.Manager:
    return "local" if options.env_manager == "local" else "conda" if options.env_manager == "conda" else "uv"


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


def _tail(log: Path) -> str:
    try:
        return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-_TAIL_LINES:])
    except OSError:
        return "(no log)"


def _write_private(file: Path, content: Mapping[str, str]) -> None:
    temporary = file.with_name(f"{file.name}.new")
    temporary.unlink(missing_ok=True)
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as target:
        json.dump(content, target)
    temporary.replace(file)
