"""The servers of online deployments: each a process with the model, in the environment that the model asks for."""

from __future__ import annotations

import contextlib
import hashlib
import re
import shutil
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from amlflow.emulator.places import Places
from amlflow.emulator.running.data import BadAddress, Data
from amlflow.emulator.store import Document
from amlflow.emulator.web import iso_now, service_error
from amlflow.errors import AmlflowError, NotFound
from amlflow.targets.base import DeployOptions, ModelToDeploy
from amlflow.targets.local import LocalTarget

_MODEL = re.compile(
    r"(?:azureml:)?(?:/?.*/models/(?P<name>[^/]+)/versions/(?P<version>[^/]+)|(?P<short>[^:/]+):(?P<number>\d+))"
)
_START_S = 120.0
_DRAIN_S = 30.0
_LOG_LIMIT_BYTES = 4 << 20
_GUIDE = "Please see troubleshooting guide, available here: https://aka.ms/oe-tsg"


class Failed(Exception):
    """A deployment that did not come up, as the service says it."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code, self.message = code, message

    def record(self) -> dict[str, Any]:
        return {"code": self.code, "message": self.message, "details": []}


class Servers:
    """One process a deployment, whatever its instance count is. `close` ends all of them; their records stay."""

    def __init__(self, place: Path, places: Places, data: Data) -> None:
        self._root, self._places, self._data = place / "deployments", places, data
        self._target = LocalTarget(self._root)
        self._lock = threading.Lock()
        self._addresses: dict[str, tuple[int, str]] = {}
        self._asking: Counter[str] = Counter()
        self._idle = threading.Condition(self._lock)
        self.closed = False

    def check_model(self, workspace: Document, model: str) -> None:
        """Raises the service's refusal for a model that is not there, or none of MLflow's."""
        self._version(workspace, model)

    def start(self, deployment: Document) -> None:
        """Bring up the deployment, or replace what it ran; returns once it answers. Raises `Failed`."""
        properties, name = deployment.body["properties"], _key(deployment.id)
        workspace = self._workspace(deployment)
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._note(name, "storage", f"Fetching the model {properties['model']}")
        try:
            folder = self.model_folder(workspace, properties["model"])
        except (BadAddress, AmlflowError, OSError) as error:
            self._note(name, "storage", f"ERROR: {error}")
            text = f"The model cannot be downloaded: {error} {_GUIDE}#error-resourcenotready"
            raise Failed("ResourceNotReady", text) from error
        self._note(name, "storage", "The model is in place")
        variables = {str(key): str(value) for key, value in (properties.get("environmentVariables") or {}).items()}
        options = DeployOptions(name, timeout_s=_START_S, variables=variables)
        model = ModelToDeploy(folder, deployment.id.rpartition("/")[2])
        building = True

        def report(line: str) -> None:
            nonlocal building
            building = not line.startswith("Waiting for ")
            self._note(name, "server", line)

        try:
            self._target.apply(self._target.plan(model, options), report)
        except AmlflowError as error:
            self._note(name, "server", f"ERROR: {error.paragraph()}")
            raise _failure(error, building) from error
        with self._lock:
            if not self.closed:
                self._addresses[name] = self._target.status(name).port, self._target.keys(name)[0]
                return
        self.stop(deployment.id)

    def running(self, id: str) -> bool:
        """Whether the deployment's process is there, by an emulator before this one perhaps."""
        name = _key(id)
        with contextlib.suppress(NotFound):
            if self._target.status(name).state == "running":
                with self._lock:
                    self._addresses[name] = self._target.status(name).port, self._target.keys(name)[0]
                return True
        return False

    @contextlib.contextmanager
    def asking(self, id: str) -> Iterator[tuple[int, str] | None]:
        """The port and the key of the deployment's process, which is not stopped meanwhile; None while there is none."""
        name = _key(id)
        with self._lock:
            self._asking[name] += 1
            address = self._addresses.get(name)
        try:
            yield address
        finally:
            with self._idle:
                self._asking[name] -= 1
                self._idle.notify_all()

    def answers(self, id: str) -> bool:
        with self._lock:
            return _key(id) in self._addresses

    def note_request(self, id: str, status: int, elapsed_s: float) -> None:
        """A line in the deployment's log, as its server in the service writes one."""
        name = _key(id)
        with contextlib.suppress(OSError):
            if self._log_file(name, "server").stat().st_size < _LOG_LIMIT_BYTES:
                self._note(name, "server", f'"POST /score HTTP/1.1" {status} {elapsed_s * 1000:.1f} ms')

    def log(self, id: str, lines: int, storage: bool) -> str:
        """The end of the log of the deployment's server, or of what fetched its model."""
        name = _key(id)
        found = self._noted(name, "storage" if storage else "server")
        if not storage:
            with contextlib.suppress(NotFound, OSError):
                found += [line.rstrip("\n") for line in self._target.logs(name, lines=lines)]
        return "\n".join(found[-lines:])

    def stop(self, id: str) -> None:
        """End the deployment's process and forget it. One that is not there is no failure."""
        name = _key(id)
        with self._idle:
            self._addresses.pop(name, None)
            self._idle.wait_for(lambda: not self._asking[name], _DRAIN_S)
        with contextlib.suppress(NotFound):
            self._target.delete(name)
        for kind in ("storage", "server"):
            self._log_file(name, kind).unlink(missing_ok=True)

    def close(self) -> None:
        with self._lock:
            self.closed = True
            self._addresses.clear()
        for endpoint in self._target.list():
            with contextlib.suppress(NotFound):
                self._target.delete(endpoint.name)

    def _workspace(self, deployment: Document) -> Document:
        found = self._data.workspace(deployment.id.rsplit("/", 4)[0])
        if found is None:
            raise Failed("ResourceNotFound", "The deployment's workspace is gone.")
        return found

    def _version(self, workspace: Document, model: str) -> Any:
        match = _MODEL.fullmatch(model)
        try:
            if match is None:
                raise NotFound(f"'{model}' names no model.")
            name, number = match["name"] or match["short"], match["version"] or match["number"]
            return self._places.of(workspace).get_model_version(name, number)
        except NotFound as error:
            text = f"The model '{model}' of the deployment was not found in the workspace."
            raise service_error(404, text, inner=("NotFoundError", "ModelNotFound")) from error

    def model_source(self, workspace: Document, model: str) -> str:
        """Where the version's files lie. Raises the service's refusal."""
        return str(self._version(workspace, model).source)

    def model_folder(self, workspace: Document, model: str) -> Path:
        """The folder with the version's MLmodel file, fetched once: a version never changes. Raises the service's refusal, and
        `BadAddress` for files that are not there or not MLflow's."""
        version = self._version(workspace, model)
        key = hashlib.sha256(f"{workspace.id.lower()} {version.name}:{version.version} {version.created_ms}".encode())
        kept = self._root / "models" / key.hexdigest()[:24]
        if not kept.is_dir():
            kept.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            fresh = Path(tempfile.mkdtemp(dir=kept.parent))
            try:
                self._data.fetch(workspace, version.source, fresh, is_file=False)
                with contextlib.suppress(FileExistsError, OSError):
                    fresh.rename(kept)
            finally:
                shutil.rmtree(fresh, ignore_errors=True)
        found = next((file.parent for file in (kept / "MLmodel", *kept.glob("*/MLmodel")) if file.is_file()), None)
        if found is None:
            raise BadAddress(
                f"The model {version.name}:{version.version} has no MLmodel file, so it is none of MLflow's."
            )
        return found

    def _log_file(self, name: str, kind: str) -> Path:
        return self._root / f"{name}.{kind}.log"

    def _note(self, name: str, kind: str, line: str) -> None:
        with self._log_file(name, kind).open("a", encoding="utf-8") as sink:
            sink.write(f"{iso_now()} {line}\n")

    def _noted(self, name: str, kind: str) -> list[str]:
        try:
            return self._log_file(name, kind).read_text(encoding="utf-8").splitlines()
        except OSError:
            return []


def _key(id: str) -> str:
    """A deployment's id as the local target takes names."""
    return f"d-{hashlib.sha256(id.lower().encode()).hexdigest()[:24]}"


def _failure(error: AmlflowError, building: bool) -> Failed:
    if building:
        text = f"Image build failure. {error.message} {_GUIDE}#error-imagebuildfailure"
        return Failed("ImageBuildFailure", text)
    text = (
        "User container has crashed or terminated: Liveness probe failed: HTTP probe failed with statuscode: 502. "
        f"{_GUIDE}#error-resourcenotready"
    )
    return Failed("ResourceNotReady", text)
