"""MLflow's REST API of a local workspace over HTTP on this machine, for child processes that know an address and a token."""

from __future__ import annotations

import hmac
import json
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import Any, Protocol

_MOST_BYTES = 64 << 20
_IDLE_S = 600.0


class Answers(Protocol):
    """What a bridge serves: `LocalRest`, or something in front of it."""

    def raw(
        self, method: str, target: str, headers: dict[str, str], body: bytes, /
    ) -> tuple[int, dict[str, str], bytes]: ...


class Bridge:
    """A server on 127.0.0.1 at a free port. It answers only who sends `token` as a bearer token, and calls it by a name
    of this machine, so that no web page can reach it."""

    def __init__(self, rest: Answers, token: str) -> None:
        self._rest, self._token = rest, token
        self._server: _Server | None = None

    def start(self) -> str:
        """Serve in the background; the address to call."""
        if self._server is None:
            self._server = _Server(self._rest, self._token)
            threading.Thread(target=self._server.serve_forever, args=(0.1,), name="bridge", daemon=True).start()
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def stop(self) -> None:
        """Answer no more: the port is closed, and connections that are open are cut once their answer is sent."""
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()
            server.server_close()
            server.cut()

    def __enter__(self) -> Bridge:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    # Those who are in the middle of an answer end by themselves; the program need not wait for them.
    block_on_close = False
    request_queue_size = 128

    def __init__(self, rest: Answers, token: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.rest, self.expected = rest, f"Bearer {token}".encode()
        self.names = {f"{name}:{self.server_address[1]}" for name in ("127.0.0.1", "localhost")}
        self.stopped = False
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()

    def server_bind(self) -> None:
        # Without the look-up of this machine's name that http.server makes, which may take seconds.
        TCPServer.server_bind(self)
        self.server_name, self.server_port = "127.0.0.1", self.server_address[1]

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no news."""

    def cut(self) -> None:
        """Wake those who wait for another request of their client; who answers one ends after it."""
        self.stopped = True
        with self._lock:
            still = list(self._open)
        for request in still:
            try:
                request.shutdown(socket.SHUT_RD)
            except OSError:
                continue


class _Unreadable(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    timeout = _IDLE_S
    # One answer is one packet, and goes at once.
    wbufsize = -1
    disable_nagle_algorithm = True
    server_version = "amlflow"
    sys_version = ""

    def do_GET(self) -> None:
        self._answer()

    do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = do_OPTIONS = do_GET

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet: stdout and stderr are the program's."""

    def _answer(self) -> None:
        if self.server.stopped:
            # It came between the end and the cut.
            self.close_connection = True
            return
        try:
            body = self._read()
        except _Unreadable as error:
            self.close_connection = True
            self._refuse(error.status, "INVALID_PARAMETER_VALUE", error.message)
            return
        if self.headers.get("Host", "").lower() not in self.server.names:
            self._refuse(403, "PERMISSION_DENIED", "This server is called 127.0.0.1.")
            return
        if not hmac.compare_digest(self.headers.get("Authorization", "").encode(), self.server.expected):
            self._refuse(401, "UNAUTHENTICATED", "The bearer token is missing or wrong.")
            return
        headers = {name: value for name, value in self.headers.items() if name.lower() != "authorization"}
        try:
            status, given, content = self.server.rest.raw(self.command, self.path, headers, body)
        except Exception as error:
            # Whatever it is, the client is to hear of it in MLflow's form, and the connection goes on.
            self._refuse(500, "INTERNAL_ERROR", f"{type(error).__name__}: {error}")
            return
        self._send(status, given, content)

    def _read(self) -> bytes:
        """The request's body. Raises `_Unreadable`, after which nothing more can be read."""
        if "chunked" in self.headers.get("Transfer-Encoding", "").lower():
            return self._read_chunks()
        try:
            length = int(self.headers.get("Content-Length", "0"))
        except ValueError:
            length = -1
        if length < 0:
            raise _Unreadable(400, "The length of the request is not a number.")
        if length > _MOST_BYTES:
            raise _Unreadable(413, f"A request has at most {_MOST_BYTES} bytes.")
        body = self.rfile.read(length)
        if len(body) < length:
            raise _Unreadable(400, "The request ended too early.")
        return body

    def _read_chunks(self) -> bytes:
        parts, total = list[bytes](), 0
        while True:
            try:
                size = int(self.rfile.readline(64).split(b";")[0], 16)
            except ValueError:
                raise _Unreadable(400, "The request's chunks cannot be read.") from None
            total += size
            if size < 0 or total > _MOST_BYTES:
                raise _Unreadable(413, f"A request has at most {_MOST_BYTES} bytes.")
            parts.append(self.rfile.read(size))
            end = self.rfile.readline(8192)
            if size == 0:
                while end not in (b"\r\n", b"\n", b""):
                    end = self.rfile.readline(8192)
                return b"".join(parts)

    def _refuse(self, status: int, code: str, message: str) -> None:
        content = json.dumps({"error_code": code, "message": message}).encode()
        self._send(status, {"content-type": "application/json"}, content)

    def _send(self, status: int, headers: dict[str, str], content: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            if name.lower() not in ("content-length", "connection", "date", "server", "transfer-encoding"):
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)
        self.wfile.flush()
