"""MLflow's own server application, called in process: for the routes, the requests and the schemas that are not answered
from SQL. It is imported at its first use, which takes seconds."""

from __future__ import annotations

import contextlib
import json
import logging
import threading
import warnings
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlencode, urlsplit

from amlflow.journal.errors import Refused
from amlflow.workspaces.local import database

if TYPE_CHECKING:
    import asyncio

# MLflow's handlers keep their stores in variables of their module: one workspace at a time.
_TURN = threading.Lock()
_loop: asyncio.AbstractEventLoop | None = None
_app: Any = None


class Application:
    """MLflow's application over one database. Safe in many threads, which wait for each other."""

    def __init__(self, file: Path, artifact_root: Path) -> None:
        self._file, self._uri, self._artifact_root = file, f"sqlite:///{file}", str(artifact_root)
        self._stores: tuple[Any, Any] | None = None

    def request(self, method: str, path: str, body: Mapping[str, Any], reason: str = "") -> dict[str, Any]:
        """The JSON answer. Raises `Refused`; where MLflow cannot open the database, with the reason why it was asked."""
        target, payload = path, b""
        if method == "GET":
            given = {name: _query(value) for name, value in body.items() if value is not None}
            target = f"{path}?{urlencode(given, doseq=True)}" if given else path
        else:
            payload = json.dumps(_finite(dict(body))).encode()
        try:
            status, _, content = self.raw(method, target, {"content-type": "application/json"}, payload)
        except Refused as error:
            raise Refused(error.status, error.code, f"{reason} {error.message}".strip()) from error
        try:
            found = json.loads(content) if content else {}
        except ValueError:
            found = None
        if status >= 400:
            known = found if isinstance(found, dict) and "error_code" in found else {}
            code = "ENDPOINT_NOT_FOUND" if status == 404 else "INTERNAL_ERROR" if status >= 500 else "BAD_REQUEST"
            text = str(known.get("message") or content[:500].decode(errors="replace"))
            raise Refused(status, str(known.get("error_code", code)), text)
        return found if isinstance(found, dict) else {}

    def raw(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of the answer. Raises `Refused` where MLflow cannot open the database."""
        import asyncio

        with _TURN:
            loop, app = _loaded()
            with self._in_place():
                answer = asyncio.run_coroutine_threadsafe(_exchange(app, method, target, headers, body), loop)
                return answer.result()

    @contextlib.contextmanager
    def _in_place(self) -> Iterator[None]:
        """The stores of this database where MLflow's handlers look for them, and its address where its registry does."""
        from mlflow.server import handlers
        from mlflow.tracking._tracking_service import utils

        tracking, registry = self._opened()
        before = utils._tracking_uri
        handlers._tracking_store, handlers._model_registry_store, handlers._job_store = tracking, registry, None
        utils._tracking_uri = self._uri
        try:
            yield
        finally:
            utils._tracking_uri = before

    def _opened(self) -> tuple[Any, Any]:
        if self._stores is None:
            from mlflow.store.db.utils import _get_latest_schema_revision
            from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore as Registry
            from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore as Tracking

            # MLflow would migrate it as soon as it opens it, and lock out the programs with the MLflow that made it.
            if database.schema(self._file) != _get_latest_schema_revision():
                raise Refused(
                    501,
                    "NOT_IMPLEMENTED",
                    f"The workspace's database was made by another MLflow than the {version('mlflow')} installed: upgrade it "
                    f"with `mlflow db upgrade {self._uri}` (make a copy first).",
                )
            self._stores = Tracking(self._uri, self._artifact_root), Registry(self._uri)
        return self._stores


def _loaded() -> tuple[asyncio.AbstractEventLoop, Any]:
    """The event loop, in a thread of its own, and MLflow's application."""
    import asyncio

    global _app, _loop
    if _app is None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from mlflow.server import fastapi_app

        # Its notes are for the terminal of a server; what it refuses is in its answers.
        for name in ("mlflow.server", "mlflow.store", "alembic"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
        _app = fastapi_app.app
    if _loop is None:
        _loop = asyncio.new_event_loop()
        threading.Thread(target=_loop.run_forever, name="mlflow-application", daemon=True).start()
    return _loop, _app


async def _exchange(
    app: Any, method: str, target: str, headers: Mapping[str, str], body: bytes
) -> tuple[int, dict[str, str], bytes]:
    import asyncio

    url = urlsplit(target)
    kept = {
        name.lower(): value
        for name, value in headers.items()
        if name.lower() not in ("host", "origin", "authorization")
    }
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": unquote(url.path),
        "raw_path": url.path.encode(),
        "query_string": url.query.encode(),
        "root_path": "",
        # MLflow answers those who call it by a name of this machine.
        "headers": [
            (name.encode("latin-1"), value.encode("latin-1"))
            for name, value in {**kept, "host": "localhost", "content-length": str(len(body))}.items()
        ],
        "client": ("127.0.0.1", 0),
        "server": ("localhost", 80),
        "state": {},
    }
    sent, answered = False, asyncio.Event()
    status, given, parts = 500, dict[str, str](), list[bytes]()

    async def receive() -> dict[str, Any]:
        nonlocal sent
        if sent:
            await answered.wait()
            return {"type": "http.disconnect"}
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        nonlocal status
        if message["type"] == "http.response.start":
            status = message["status"]
            given.update({name.decode("latin-1"): value.decode("latin-1") for name, value in message["headers"]})
        elif message["type"] == "http.response.body":
            parts.append(message.get("body", b""))
            if not message.get("more_body"):
                answered.set()

    await app(scope, receive, send)
    answered.set()
    return status, given, b"".join(parts)


def _finite(value: Any) -> Any:
    """JSON has no NaN and no infinity; MLflow reads them as text."""
    if isinstance(value, float) and value - value != 0:
        return "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, (list, tuple)) else value


def _query(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    return [_query(item) for item in value] if isinstance(value, (list, tuple)) else value
