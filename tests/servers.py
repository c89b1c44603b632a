"""Real servers for tests: MLflow's tracking server, started once, and a proxy in front of it."""

from __future__ import annotations

import base64
import http.client
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest

_UNSET = ("MLFLOW_", "_MLFLOW_", "AMLFLOW_", "AZURE_", "AZUREML_")
_DEADLINE_S = 120


@pytest.fixture(scope="session")
def mlflow_server(tmp_path_factory: pytest.TempPathFactory, shared_cache: Path) -> Iterator[str]:
    """The address of an `mlflow server` with SQLite behind it, which serves artifacts. All tests share it: use names
    of your own. `AMLFLOW_TEST_SERVER` is the address of one that runs already, with another MLflow."""
    running = os.environ.get("AMLFLOW_TEST_SERVER")
    if running:
        yield running
        return
    root = tmp_path_factory.mktemp("mlflow-server")
    with tracking_server(root, shared_cache) as url:
        yield url


@contextmanager
def tracking_server(root: Path, cache: Path) -> Iterator[str]:
    """`mlflow server` until the block ends."""
    database = root / "mlflow.db"
    _migrated(database, cache)
    port = free_port()
    env = {key: value for key, value in os.environ.items() if not key.startswith(_UNSET)}
    env.update(MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false", MLFLOW_DISABLE_TELEMETRY="true")
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{database}", "--serve-artifacts"]
    command += ["--artifacts-destination", str(root / "artifacts")]
    with (root / "server.log").open("wb") as log:
        process = subprocess.Popen(command, env=env, cwd=root, stdout=log, stderr=log, start_new_session=True)
    try:
        url = f"http://127.0.0.1:{port}"
        wait_for(f"{url}/health", process, root / "server.log")
        yield url
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def http_server(answer: Callable[[BaseHTTPRequestHandler], None], tls: ssl.SSLContext | None = None) -> Iterator[str]:
    """A server of this process, each connection in a thread of its own, until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self) -> None:
            answer(self)

        do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = handle_any

        def log_message(self, format: str, *args: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            pass

    server = Server(("127.0.0.1", 0), Handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"{'https' if tls else 'http'}://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def proxy(
    upstream: str,
    *,
    user: str = "",
    password: str = "",
    token: str = "",
    missing: tuple[str, ...] = (),
    back: Path | None = None,
    seen: list[str] | None = None,
) -> Iterator[str]:
    """A reverse proxy that asks who you are, and does not know the paths that hold one of `missing`, as an older server
    does not. It answers nothing until the file `back` is there. `seen` is given the path of each request."""
    allowed = {
        f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}" if user else "",
        f"Bearer {token}" if token else "",
    }
    host = urlsplit(upstream).netloc

    def answer(request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers.get("Content-Length") or 0))
        if seen is not None:
            seen.append(request.path)
        if back is not None and not back.exists():
            request.connection.shutdown(socket.SHUT_RDWR)
            return
        if request.headers.get("Authorization", "") not in allowed - {""} and (user or token):
            send(request, 401, b"You are not authenticated.", "text/plain")
            return
        if any(part in request.path for part in missing):
            send(request, 404, b"<!doctype html><title>404 Not Found</title>", "text/html")
            return
        connection = http.client.HTTPConnection(host, timeout=60)
        kept = {name: value for name, value in request.headers.items() if name in ("Content-Type", "Accept-Encoding")}
        connection.request(request.command, request.path, body, kept)
        reply = connection.getresponse()
        send(request, reply.status, reply.read(), reply.headers.get("Content-Type", ""))
        connection.close()

    with http_server(answer) as url:
        yield url


def send(
    request: BaseHTTPRequestHandler, status: int, body: bytes, kind: str = "application/json", **more: str
) -> None:
    request.send_response(status)
    request.send_header("Content-Type", kind)
    request.send_header("Content-Length", str(len(body)))
    for name, value in more.items():
        request.send_header(name.replace("_", "-"), value)
    request.end_headers()
    request.wfile.write(body)


def _migrated(database: Path, cache: Path) -> None:
    """From amlflow's template: MLflow's own migrations take most of a server's start."""
    from amlflow.workspaces.local import database as templates

    before = os.environ.get("AMLFLOW_CACHE_DIR")
    os.environ["AMLFLOW_CACHE_DIR"] = str(cache)
    try:
        # The place of the first experiment's artifacts, as a server that serves them would have set it.
        templates.create(database, Path("mlflow-artifacts:"), lambda line: None)
    finally:
        if before is None:
            del os.environ["AMLFLOW_CACHE_DIR"]
        else:
            os.environ["AMLFLOW_CACHE_DIR"] = before


def wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _DEADLINE_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            time.sleep(0.1)
    raise AssertionError(f"mlflow server does not answer at {url}:\n{log.read_text()}")
