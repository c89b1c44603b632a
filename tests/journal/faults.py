"""A loopback proxy in front of a real server that fails on purpose, by a seed."""

from __future__ import annotations

import http.client
import random
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from urllib.parse import urlsplit

from servers import http_server, send

KINDS = (
    "429",
    "429 with Retry-After",
    "500",
    "503",
    "reset before",
    "reset after",
    "hang before",
    "hang after",
    "slow",
    "truncated",
    "expired token",
)
_HANG_S = 30.0


@dataclass
class Faults:
    """What the proxy does now; it may be changed while it runs. `rate` is the part of the requests that fail; `kinds` are
    drawn from. `missing` are parts of paths that the server is to know nothing of; `delay_s` is added to each answer."""

    rate: float = 0.0
    seed: int = 1
    kinds: Sequence[str] = KINDS
    missing: Sequence[str] = ()
    forbidden: Sequence[str] = ()
    delay_s: float = 0.0
    # Called with the method, the path and the body of each request that the server answered, before the answer goes out.
    seen: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._random, self._lock = random.Random(self.seed), threading.Lock()
        self.ended = threading.Event()

    def draw(self) -> str:
        with self._lock:
            kind = self._random.choice(self.kinds) if self.kinds and self._random.random() < self.rate else ""
            self.seen[kind or "passed"] += 1
            return kind


@contextmanager
def faulty(upstream: str, faults: Faults) -> Iterator[str]:
    """The address of the proxy, until the block ends."""
    host = urlsplit(upstream).netloc
    kept = threading.local()

    def forwarded(request: BaseHTTPRequestHandler, body: bytes) -> tuple[int, bytes, str]:
        headers = {name: value for name, value in request.headers.items() if name in ("Content-Type", "Range")}
        for last in (False, True):
            connection = getattr(kept, "connection", None) or http.client.HTTPConnection(host, timeout=60)
            kept.connection = connection
            try:
                connection.request(request.command, request.path, body, headers)
                reply = connection.getresponse()
                return reply.status, reply.read(), reply.headers.get("Content-Type", "")
            except (http.client.BadStatusLine, ConnectionError):
                # The server closes a connection that was idle for long; nothing was sent then.
                connection.close()
                kept.connection = None
                if last:
                    raise
        raise AssertionError

    def answer(request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers.get("Content-Length") or 0))
        if any(part in request.path for part in faults.missing):
            send(request, 404, b"", "text/plain")
            return
        if any(part in request.path for part in faults.forbidden):
            send(request, 403, b"", "text/plain")
            return
        kind = faults.draw()
        if kind == "429":
            send(request, 429, b"")
        elif kind == "429 with Retry-After":
            send(request, 429, b"", Retry_After="0.05")
        elif kind == "expired token":
            send(request, 401, b"The token has expired.", "text/plain")
        elif kind == "503":
            send(request, 503, b"")
        elif kind == "reset before":
            reset(request)
        elif kind == "hang before":
            faults.ended.wait(_HANG_S)
            reset(request)
        else:
            if kind == "slow":
                time.sleep(0.2)
            status, content, media = forwarded(request, body)
            time.sleep(faults.delay_s)
            if kind == "500":
                send(request, 500, b"")
            elif kind == "reset after":
                reset(request)
            elif kind == "hang after":
                faults.ended.wait(_HANG_S)
                reset(request)
            elif kind == "truncated":
                truncated(request, content)
            else:
                send(request, status, content, media)

    with http_server(answer) as url:
        try:
            yield url
        finally:
            faults.ended.set()


def reset(request: BaseHTTPRequestHandler) -> None:
    """Break the connection, as a crashed server's system does."""
    request.close_connection = True
    request.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    request.connection.close()


def truncated(request: BaseHTTPRequestHandler, content: bytes) -> None:
    """Half of an answer."""
    request.send_response(200)
    request.send_header("Content-Type", "application/json")
    request.send_header("Content-Length", str(len(content) + 10))
    request.end_headers()
    request.wfile.write(content[: len(content) // 2])
    request.wfile.flush()
    reset(request)
