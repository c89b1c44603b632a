"""The entrance: one object that answers MLflow's REST API for a local workspace."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any
from urllib.parse import parse_qs, urlsplit

from amlflow.errors import AmlflowError
from amlflow.journal.errors import Refused, Unreachable
from amlflow.workspaces.local import database
from amlflow.workspaces.local.connections import Connections
from amlflow.workspaces.local.rest import fields, logging, rows
from amlflow.workspaces.local.rest.application import Application
from amlflow.workspaces.local.rest.call import MLFLOW_LIMITS, BatchLimits, Call, Route, Unusual
from amlflow.workspaces.local.rest.routes import ROUTES, Table
from amlflow.workspaces.local.workspace import LocalWorkspace

_JSON = {"content-type": "application/json"}
_TEXT = {"content-type": "text/html; charset=utf-8"}


@dataclass(frozen=True, slots=True)
class _Base:
    """What is known of the database once it is there. `direct` says that its schema is one that is read here."""

    connections: Connections
    direct: bool
    has_workspaces: bool


class LocalRest:
    """MLflow's REST API over a local workspace, in process and from any number of threads.

    `limits` are those of one `runs/log-batch`. `routes` are the ones answered from SQL, by method and path; a caller may
    take away, replace or add some: what is not among them is answered by MLflow's own application, whose import takes
    seconds. Nothing is made or opened before the first request.
    """

    def __init__(
        self, workspace: LocalWorkspace, *, limits: BatchLimits = MLFLOW_LIMITS, routes: Mapping[str, Route] = ROUTES
    ) -> None:
        self.workspace, self.limits = workspace, limits
        self._table, self._lock = Table(routes), threading.Lock()
        self._base: _Base | None = None
        self._application = Application(workspace.file, workspace.artifact_root)

    def request(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        timeout_s: float | None = None,
        retry: bool = True,
    ) -> dict[str, Any]:
        """The JSON answer; `body` is the JSON body, or the query of a GET. Raises `Refused` for what MLflow refuses, and
        `Unreachable` where the database cannot be used now (locked, full, not to be written to)."""
        path, _, query = path.partition("?")
        given = {**(_queried(query) if query else {}), **(body or {})}
        try:
            answer = self._direct(method.upper(), path, given)
        except Unusual as error:
            answer = self._application.request(method.upper(), path, given, error.reason)
        return self._application.request(method.upper(), path, given) if answer is None else answer

    def raw(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        """Any HTTP request (`target` is path and query): status, headers and body of the answer. Refusals are answers."""
        url = urlsplit(target)
        try:
            if method == "GET" and url.path in ("/health", "/version"):
                return 200, _TEXT, (b"OK" if url.path == "/health" else version("mlflow").encode())
            found = self._table.find(method, url.path)
            given = _body(method, url.query, headers, body) if found else None
            if given is not None:
                try:
                    answer = self._direct(method, url.path, given)
                except Unusual:
                    answer = None
                if answer is not None:
                    return 200, _JSON, json.dumps(answer).encode()
            return self._application.raw(method, target, headers, body)
        except Refused as error:
            return error.status, _JSON, refusal(error.code, error.message)
        except Unreachable as error:
            return 503, _JSON, refusal("TEMPORARILY_UNAVAILABLE", error.reason)

    def log_points(self, run_id: str, points: Iterable[tuple[str, float, int, int]]) -> None:
        """Metric points (key, value, step, timestamp in ms) of a run, however many, in one transaction; points that are
        there already are not doubled. Raises `Refused` and `Unreachable`, as `request`."""
        try:
            base = self._opened()
            if base.direct:
                with base.connections.writing() as db:
                    rows.active_run(db, run_id)
                    logging.log_points(db, run_id, points)
                return
        except AmlflowError as error:
            raise Unreachable(error.paragraph()) from error
        except Unusual as error:
            raise fields.invalid(error.reason) from error
        metrics = [{"key": key, "value": value, "step": step, "timestamp": ms} for key, value, step, ms in points]
        for start in range(0, len(metrics), 1000):
            part = {"run_id": run_id, "metrics": metrics[start : start + 1000]}
            self._application.request("POST", "/api/2.0/mlflow/runs/log-batch", part)

    def close(self) -> None:
        """Close what was opened. It may be used again after."""
        with self._lock:
            base, self._base = self._base, None
        if base is not None:
            base.connections.close()

    def _direct(self, method: str, path: str, body: Mapping[str, Any]) -> dict[str, Any] | None:
        """The answer from SQL; None for what is not answered so. Raises `Refused`, `Unreachable` and `Unusual`."""
        found = self._table.find(method, path)
        try:
            base = self._opened()
            if found is None or not base.direct:
                return None
            route, place = found
            call = Call(body, place, str(self.workspace.artifact_root), self.limits, base.has_workspaces)
            with base.connections.reading() if route.needs == "read" else base.connections.writing() as db:
                if route.notifies and db.execute("SELECT 1 FROM webhooks LIMIT 1").fetchone():
                    return None
                return route.handler(db, call)
        except AmlflowError as error:
            raise Unreachable(error.paragraph()) from error

    def _opened(self) -> _Base:
        base = self._base
        if base is not None:
            return base
        with self._lock:
            if self._base is None:
                self.workspace.create()
                file = self.workspace.file
                with database.reading(file) as db:
                    columns = {row[1] for row in db.execute("PRAGMA table_info(experiments)")}
                direct = database.schema(file) in database.KNOWN_SCHEMAS
                self._base = _Base(Connections(file), direct, "workspace" in columns)
            return self._base


def refusal(code: str, message: str) -> bytes:
    """The body of an answer that refuses."""
    return json.dumps({"error_code": code, "message": message}).encode()


def _queried(query: str) -> dict[str, Any]:
    found = parse_qs(query, keep_blank_values=True)
    return {name: values[0] if len(values) == 1 else values for name, values in found.items()}


def _body(method: str, query: str, headers: Mapping[str, str], body: bytes) -> Mapping[str, Any] | None:
    """The request's fields; None where they cannot be read here."""
    if method == "GET":
        return _queried(query) if not body or query else _parsed(body)
    kind = next((value for name, value in headers.items() if name.lower() == "content-type"), "application/json")
    return _parsed(body) if kind.split(";")[0].strip().lower() == "application/json" else None


def _parsed(body: bytes) -> Mapping[str, Any] | None:
    try:
        found = json.loads(body or b"{}")
        # Clients of long ago encode twice.
        found = json.loads(found) if isinstance(found, str) else found
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
