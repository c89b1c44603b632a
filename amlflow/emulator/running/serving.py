"""The servers of online deployments: each a process with the model, in the environment that the model asks for, or with a scoring
script in an environment of its own."""

from __future__ import annotations

import contextlib
import hashlib
import re
import shutil
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from amlflow.emulator.places import Places
from amlflow.emulator.running.collection import Collection, collections, settings_of
from amlflow.emulator.running.data import BadAddress, Data
from amlflow.emulator.running.doors import Door
from amlflow.emulator.running.environment import BuildFailed, prepare
from amlflow.emulator.running.inference import InferenceServers, NotStarted, Script
from amlflow.emulator.settings import HOST
from amlflow.emulator.store import Document
from amlflow.emulator.web import iso_now, service_error
from amlflow.environments import spec
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
_CRASHED = (
    "User container has crashed or terminated: Liveness probe failed: HTTP probe failed with statuscode: 502. "
    f"{_GUIDE}#error-resourcenotready"
)


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
        self._scripts = InferenceServers(self._root)
        self.collection = Collection(data)
        self._lock = threading.Lock()
        self._doors: dict[str, Door] = {}
        self._asking: Counter[str] = Counter()
        self._idle = threading.Condition(self._lock)
        self.closed = False

    def check_model(self, workspace: Document, model: str) -> None:
        """Raises the service's refusal for a model that is not there, or none of MLflow's."""
        self._version(workspace, model)

    def check_script(self, workspace: Document, properties: Mapping[str, Any]) -> None:
        """Raises the service's refusal for a scoring script or an environment that is not there."""
        script, environment = properties.get("codeConfiguration"), properties.get("environmentId")
        if bool(script) != bool(environment):
            text = "A scoring script and an environment go together: the deployment has one of them alone."
            raise service_error(400, text, inner=("BadArgument", "UnsupportedDeployment"))
        for id in (str(environment or ""), str((script or {}).get("codeId") or "")):
            if id and self._data.asset(workspace, id) is None:
                raise service_error(404, f"The asset '{id}' was not found.", inner=("NotFoundError", "AssetNotFound"))

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
        scripted = bool(properties.get("codeConfiguration"))
        try:
            door = self._scripted(deployment, folder) if scripted else self._plain(deployment, folder)
            # Its endpoint may have been deleted while it came up.
            if self._data.resource(deployment.id) is not None:
                with self._lock:
                    if not self.closed:
                        self._doors[name] = door
                        return
            self.stop(deployment.id)
        except Failed:
            if self._data.resource(deployment.id) is None:
                self.stop(deployment.id)
            raise

    def _plain(self, deployment: Document, folder: Path) -> Door:
        """The model, served as the service serves MLflow models on its own: what its scorer imports must be there."""
        name = _key(deployment.id)
        self._check_scorer(name, folder)
        options = DeployOptions(name, timeout_s=_START_S, variables=_variables(deployment))
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
        # What it ran before may have been of the other kind.
        self._scripts.stop(name)
        return Door(self._target.status(name).port, self._target.keys(name)[0])

    def _scripted(self, deployment: Document, folder: Path) -> Door:
        properties, name = deployment.body["properties"], _key(deployment.id)
        workspace, configured = self._workspace(deployment), properties["codeConfiguration"]
        code, environment = (
            self._data.asset(workspace, id) for id in (configured.get("codeId") or "", properties["environmentId"])
        )
        if code is None or environment is None:
            raise Failed("ResourceNotFound", "The deployment's scoring script or environment is gone.")
        log = self._log_file(name, "server")
        try:
            activation = prepare(environment, log, self._root / "environments")
        except BuildFailed as error:
            raise Failed(
                "ImageBuildFailure", f"Image build failure. {error} {_GUIDE}#error-imagebuildfailure"
            ) from error
        place = self._kept(f"{code.id.lower()} {code.body['codeUri']}", "code", workspace, code.body["codeUri"])
        # As in the service, the model lies below the folder that the script is told of.
        mount = self._root / "mounts" / name
        mount.mkdir(mode=0o700, parents=True, exist_ok=True)
        (mount / "model").unlink(missing_ok=True)
        (mount / "model").symlink_to(folder)
        script = Script(place, str(configured["scoringScript"]), mount, {**activation, **self._seen(deployment)})
        try:
            door = self._scripts.start(name, script, log, _START_S)
        except NotStarted as error:
            self._note(name, "server", f"ERROR: {error}")
            raise Failed("ResourceNotReady", _CRASHED) from error
        with contextlib.suppress(NotFound):
            self._target.delete(name)
        return door

    def _seen(self, deployment: Document) -> dict[str, str]:
        """The variables of the deployment's process, those for the data collector among them."""
        found = _variables(deployment)
        if collections(deployment):
            file = self._root / f"{_key(deployment.id)}.collector.json"
            file.write_text(settings_of(deployment), encoding="utf-8")
            port = str(self.collection.listen(deployment))
            file.with_suffix(".port").write_text(port, encoding="ascii")
            found |= {"AZUREML_MDC_CONFIG_PATH": str(file), "AZUREML_MDC_HOST": HOST, "AZUREML_MDC_PORT": port}
        return found

    def _check_scorer(self, name: str, folder: Path) -> None:
        """The service's scorer of MLflow models imports azureml-ai-monitoring, which it expects of the model's environment."""
        try:
            wanted = spec.of_model(folder).requirements
        except AmlflowError as error:
            self._note(name, "server", f"ERROR: {error.paragraph()}")
            raise _failure(error, True) from error
        if not any(re.match(r"azureml[-_.]ai[-_.]monitoring\b", line, re.IGNORECASE) for line in wanted):
            self._note(name, "server", "  from azureml.ai.monitoring import Collector")
            self._note(name, "server", "ModuleNotFoundError: No module named 'azureml.ai'")
            self._note(name, "server", "Worker failed to boot.")
            raise Failed("ResourceNotReady", _CRASHED)

    def running(self, deployment: Document) -> bool:
        """Whether the deployment's process is there, by an emulator before this one perhaps."""
        name = _key(deployment.id)
        door = self._scripts.running(name)
        if door is None:
            with contextlib.suppress(NotFound):
                if self._target.status(name).state == "running":
                    door = Door(self._target.status(name).port, self._target.keys(name)[0])
        if door is None:
            return False
        port = self._root / f"{name}.collector.port"
        if door.scripted and collections(deployment) and port.is_file():
            try:
                self.collection.listen(deployment, int(port.read_text(encoding="ascii")))
            except OSError:
                # Somebody else has the port by now: the process is made anew, with another.
                return False
        with self._lock:
            self._doors[name] = door
        return True

    @contextlib.contextmanager
    def asking(self, id: str) -> Iterator[Door | None]:
        """Where the deployment's process takes requests, which is not stopped meanwhile; None while there is none."""
        name = _key(id)
        with self._lock:
            self._asking[name] += 1
            door = self._doors.get(name)
        try:
            yield door
        finally:
            with self._idle:
                self._asking[name] -= 1
                self._idle.notify_all()

    def answers(self, id: str) -> bool:
        with self._lock:
            return _key(id) in self._doors

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
            self._doors.pop(name, None)
            self._idle.wait_for(lambda: not self._asking[name], _DRAIN_S)
        with contextlib.suppress(NotFound):
            self._target.delete(name)
        self._scripts.stop(name)
        self.collection.silence(id)
        for suffix in ("storage.log", "server.log", "collector.json", "collector.port"):
            (self._root / f"{name}.{suffix}").unlink(missing_ok=True)
        shutil.rmtree(self._root / "mounts" / name, ignore_errors=True)

    def close(self) -> None:
        with self._lock:
            self.closed = True
            self._doors.clear()
        for endpoint in self._target.list():
            with contextlib.suppress(NotFound):
                self._target.delete(endpoint.name)
        self._scripts.close()
        self.collection.close()

    def _workspace(self, deployment: Document) -> Document:
        found = self._data.resource(deployment.id.rsplit("/", 4)[0])
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
        key = f"{workspace.id.lower()} {version.name}:{version.version} {version.created_ms}"
        kept = self._kept(key, "models", workspace, version.source)
        found = next((file.parent for file in (kept / "MLmodel", *kept.glob("*/MLmodel")) if file.is_file()), None)
        if found is None:
            raise BadAddress(
                f"The model {version.name}:{version.version} has no MLmodel file, so it is none of MLflow's."
            )
        return found

    def _kept(self, key: str, kind: str, workspace: Document, uri: str) -> Path:
        """The folder with what is at the address; fetched once for a key."""
        kept = self._root / kind / hashlib.sha256(key.encode()).hexdigest()[:24]
        if not kept.is_dir():
            kept.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            fresh = Path(tempfile.mkdtemp(dir=kept.parent))
            try:
                self._data.fetch(workspace, uri, fresh, is_file=False)
                with contextlib.suppress(FileExistsError, OSError):
                    fresh.rename(kept)
            finally:
                shutil.rmtree(fresh, ignore_errors=True)
        return kept

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
    return Failed("ResourceNotReady", _CRASHED)


def _variables(deployment: Document) -> dict[str, str]:
    given = deployment.body["properties"].get("environmentVariables") or {}
    return {str(key): str(value) for key, value in given.items()}
