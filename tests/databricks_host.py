"""A Databricks workspace on this machine: what Databricks puts around MLflow's API, in front of a real `mlflow server`.

Bearer tokens; experiments named by paths; artifacts at `dbfs:/databricks/mlflow-tracking/…`, sent to and fetched from signed
addresses; no route of the open-source server besides. Jobs 2.2, which really run their task as a process, and files of volumes.
"""

from __future__ import annotations

import http.client
import json
import re
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit

import pytest
from databricks_catalog import Catalog
from databricks_files import Files
from databricks_jobs import Jobs
from servers import http_server, send

TOKEN = "dapi-of-this-test"
USER = "ada@example.com"
_API = "/api/2.0/mlflow"
_CREDENTIALS = re.compile(
    rf"{_API}/(?:artifacts/credentials-for-(?:read|write)|logged-models/(?P<model>[^/]+)/artifacts/credentials-for-(?:up|down)load)"
)


@dataclass
class Fault:
    """What the next `times` requests for a path get instead of an answer."""

    path: str
    status: int
    times: int = 1
    code: str = "TEMPORARILY_UNAVAILABLE"
    headers: dict[str, str] = field(default_factory=dict)


class Host:
    """`paths` are those of all requests that it has answered, as (method, path)."""

    def __init__(self, upstream: str, folder: Path) -> None:
        self.url, self.paths = "", list[tuple[str, str]]()
        self.files = Files(folder)
        self.catalog = Catalog(self.files)
        self.jobs = Jobs(folder)
        self.faults: list[Fault] = []
        self._upstream = urlsplit(upstream).netloc
        self._signed: dict[str, str] = {}
        self._lock = threading.Lock()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers.get("Content-Length") or 0))
        path, _, query = request.path.partition("?")
        self.paths.append((request.command, path))
        if path.startswith("/signed/"):
            place = self._signed.get(path.removeprefix("/signed/"))
            if self.files.answer_signed(request, path.removeprefix("/signed/"), body):
                return
            if place is None or request.headers.get("Authorization"):
                send(request, 403, b"<Error>SignatureDoesNotMatch</Error>", "application/xml")
            else:
                self._pass(request, f"/api/2.0/mlflow-artifacts/artifacts/{quote(place)}", body, rewrite=False)
            return
        if path == "/.well-known/databricks-config":
            send(request, 200, json.dumps({"workspace_id": "7", "oidc_endpoint": f"{self.url}/oidc"}).encode())
            return
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            _refuse(
                request, 401, "UNAUTHENTICATED", "Credential was not sent or was of an unsupported type for this API."
            )
            return
        if fault := self._fault(path):
            content = json.dumps({"error_code": fault.code, "message": f"{path} is not served now."}).encode()
            send(request, fault.status, content, **fault.headers)
        elif self.files.answer(request, path, query, body) or self.catalog.answer(request, path, query, body):
            return
        elif path == "/api/2.0/preview/scim/v2/Me":
            send(request, 200, json.dumps({"userName": USER, "id": "7"}).encode())
        elif found := self.jobs.answer(request, path, query, body):
            send(request, found[0], json.dumps(found[1]).encode())
        elif match := _CREDENTIALS.fullmatch(path):
            self._credentials(request, match["model"] or "", json.loads(body))
        elif path.startswith(f"{_API}/"):
            self._mlflow(request, path, query, body)
        else:
            _refuse(request, 404, "ENDPOINT_NOT_FOUND", f"No API found for '{request.command} {path}'")

    def _fault(self, path: str) -> Fault | None:
        with self._lock:
            found = next((fault for fault in self.faults if fault.times and fault.path == path), None)
            if found is not None:
                found.times -= 1
        return found

    def _mlflow(self, request: BaseHTTPRequestHandler, path: str, query: str, body: bytes) -> None:
        given = dict(parse_qsl(query)) if request.command == "GET" else json.loads(body or b"{}")
        route = path.removeprefix(f"{_API}/")
        name = given.get("experiment_name") if route == "experiments/get-by-name" else given.get("name")
        if route in ("experiments/get-by-name", "experiments/create") and not str(name).startswith("/"):
            _refuse(
                request,
                400,
                "INVALID_PARAMETER_VALUE",
                f"Got an invalid experiment name '{name}'. An experiment name must be an absolute path within the Databricks "
                "workspace, e.g. '/Users/<some-username>/my-experiment'.",
            )
            return
        target = f"{path}?{query}" if query else path
        self._pass(request, target, _inward(body.decode()).encode())

    def _credentials(self, request: BaseHTTPRequestHandler, model: str, given: dict[str, Any]) -> None:
        if model:
            found = self._asked("GET", f"{_API}/logged-models/{model}")["model"]["info"]
            wanted = given["paths"]
        else:
            found = self._asked("GET", f"{_API}/runs/get?run_id={given['run_id']}")["run"]["info"]
            wanted = given["path"]
        root = found["artifact_uri"].removeprefix("mlflow-artifacts:/").strip("/")
        infos = []
        for path in wanted:
            key = secrets.token_hex(8)
            with self._lock:
                self._signed[key] = f"{root}/{path}"
            infos.append({"path": path, "signed_uri": f"{self.url}/signed/{key}", "type": "AWS_PRESIGNED_URL"})
        if model:
            content: dict[str, Any] = {"credentials": [{"credential_info": info} for info in infos]}
        else:
            content = {"credential_infos": [{"run_id": given["run_id"], **info} for info in infos]}
        send(request, 200, json.dumps(content).encode())

    def _asked(self, method: str, target: str) -> dict[str, Any]:
        connection = http.client.HTTPConnection(self._upstream, timeout=60)
        connection.request(method, target)
        found: dict[str, Any] = json.loads(connection.getresponse().read())
        connection.close()
        return found

    def _pass(self, request: BaseHTTPRequestHandler, target: str, body: bytes, rewrite: bool = True) -> None:
        connection = http.client.HTTPConnection(self._upstream, timeout=60)
        kept = {name: value for name, value in request.headers.items() if name == "Content-Type"}
        connection.request(request.command, target, body, kept)
        reply = connection.getresponse()
        content = reply.read()
        kind = reply.headers.get("Content-Type", "")
        if rewrite and "json" in kind:
            content = _outward(content.decode()).encode()
        send(request, reply.status, content, kind, **{"x-databricks-org-id": "7"})
        connection.close()


def _outward(text: str) -> str:
    text = re.sub(r"mlflow-artifacts:/(\d+)/models/", r"dbfs:/databricks/mlflow-tracking/\1/logged_models/", text)
    return text.replace("mlflow-artifacts:/", "dbfs:/databricks/mlflow-tracking/")


def _inward(text: str) -> str:
    text = re.sub(r"dbfs:/databricks/mlflow-tracking/(\d+)/logged_models/", r"mlflow-artifacts:/\1/models/", text)
    return text.replace("dbfs:/databricks/mlflow-tracking/", "mlflow-artifacts:/")


def _refuse(request: BaseHTTPRequestHandler, status: int, code: str, message: str) -> None:
    send(request, status, json.dumps({"error_code": code, "message": message}).encode())


@contextmanager
def running(upstream: str, folder: Path) -> Iterator[Host]:
    host = Host(upstream, folder)
    with http_server(host.answer) as url:
        host.url = host.files.url = url
        host.jobs.variables = {"DATABRICKS_HOST": url, "DATABRICKS_TOKEN": TOKEN}
        try:
            yield host
        finally:
            host.jobs.stop()


@pytest.fixture
def databricks(
    mlflow_server: str, tmp_path: Path, clean_env: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Host]:
    """The environment of a test signed in to it, as the profile `work` too."""
    with running(mlflow_server, tmp_path / "databricks") as host:
        (Path(clean_env["HOME"]) / ".databrickscfg").write_text(f"[work]\nhost = {host.url}\ntoken = {TOKEN}\n")
        for name, value in (("DATABRICKS_HOST", host.url), ("DATABRICKS_TOKEN", TOKEN)):
            clean_env[name] = value
            monkeypatch.setenv(name, value)
        yield host
