"""The scoring app: plain ASGI, so that nothing but the model takes time.

POST /invocations, /score   predictions, with the key
GET  /ping, /health         200 while the process can answer; the key too, unless the spec opens it to probes
GET  /                      the model and its signature, with the key
"""

from __future__ import annotations

import asyncio
import hmac
import json
import os
import sys
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Awaitable, Callable, Optional

from .loader import Model, describe
from .payload import Refused, parse

DEFAULT_LIMIT_BYTES = 100 * 1024 * 1024
KEY_VARIABLE = "AMLFLOW_ENDPOINT_KEY"
# «yes» in it opens an endpoint without a key to everybody.
OPEN_VARIABLE = "AMLFLOW_ENDPOINT_OPEN"
# Holds, as JSON, the `rules` of the collector and the `destination` in a storage of what it collects; empty for none.
COLLECT_VARIABLE = "AMLFLOW_ENDPOINT_COLLECT"
# Below this a prediction runs where the request was read; above, in a thread, so that /ping is answered meanwhile.
INLINE_S = 0.005

_JSON = (b"content-type", b"application/json")
Send = Callable[[dict[str, Any]], Awaitable[None]]
Receive = Callable[[], Awaitable[dict[str, Any]]]


class Keys:
    """The keys that open the endpoint: from a file that is read again when it changes, else from the environment."""

    def __init__(self, file: Optional[Path]) -> None:
        self._file, self._stamp, self._keys = file, -1, [os.environ.get(KEY_VARIABLE, "").encode()]
        self._open = file is None and not any(self._keys) and os.environ.get(OPEN_VARIABLE) == "yes"

    def allow(self, headers: list[tuple[bytes, bytes]]) -> bool:
        if self._open:
            return True
        given = b""
        for name, value in headers:
            if name == b"authorization" and value[:7].lower() == b"bearer ":
                given = value[7:].strip()
            elif name == b"api-key":
                given = value.strip()
        # Every key is compared, each in constant time: how long it takes tells nothing.
        matches = [hmac.compare_digest(given, key) for key in self._current() if key]
        return bool(given) and any(matches)

    def _current(self) -> list[bytes]:
        if self._file is not None:
            stamp = self._file.stat().st_mtime_ns
            if stamp != self._stamp:
                self._keys = [key.encode() for key in json.loads(self._file.read_text(encoding="utf-8")).values()]
                self._stamp = stamp
        return self._keys


class App:
    """One model behind HTTP."""

    def __init__(
        self,
        model: Model,
        label: str,
        keys: Keys,
        limit_bytes: int = DEFAULT_LIMIT_BYTES,
        open_health: bool = False,
        collector: Any = None,
    ) -> None:
        self._model, self._label, self._keys, self._limit = model, label, keys, limit_bytes
        self._open_health, self._collector = open_health, collector
        # One thread: models are rarely safe to ask from two at once.
        self._thread = ThreadPoolExecutor(max_workers=1)
        self._usual_s = INLINE_S * 2
        # Once set, every answer asks its client to come back on another connection.
        self.draining = False

    def warm(self) -> None:
        """Ask the model for its own example, so that one that cannot answer never takes a request."""
        payload = self._model.example()
        for _ in range(3 if payload is not None else 0):
            self._timed(payload)

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        extra: list[tuple[bytes, bytes]] = []
        try:
            status, body = await self._answer(scope, receive, extra)
        except Refused as error:
            status, body = error.status, _error(error.code, error.message)
        except ConnectionResetError:
            return
        except Exception as error:
            traceback.print_exc(file=sys.stderr)
            reason = " ".join(str(error).split())[:300]
            status = 500
            body = _error("ModelError", f"The model failed: {type(error).__name__}{': ' + reason if reason else ''}.")
        await send(
            {
                "type": "http.response.start",
                "status": status,
                "headers": [
                    _JSON,
                    (b"content-length", str(len(body)).encode()),
                    *([(b"connection", b"close")] if self.draining else []),
                    *extra,
                ],
            }
        )
        await send({"type": "http.response.body", "body": body})

    async def _answer(
        self, scope: dict[str, Any], receive: Receive, extra: list[tuple[bytes, bytes]]
    ) -> tuple[int, bytes]:
        path, method = scope["path"], scope["method"]
        health = path in ("/ping", "/health")
        if not (health and self._open_health) and not self._keys.allow(scope["headers"]):
            raise Refused("The request has no valid key: send it as 'Authorization: Bearer KEY'.", 401, "Unauthorized")
        if health:
            return 200, b'{"status": "healthy"}\n'
        if path in ("/invocations", "/score"):
            if method != "POST":
                raise Refused(f"{path} takes POST, not {method}.", 405, "MethodNotAllowed")
            return 200, await self._score(scope, receive, extra)
        if path == "/":
            return 200, json.dumps({**describe(self._model, self._label), "how": self._model.how}).encode()
        raise Refused(f"There is nothing at {path!r}; predictions are at /invocations.", 404, "NotFound")

    async def _score(self, scope: dict[str, Any], receive: Receive, extra: list[tuple[bytes, bytes]]) -> bytes:
        kind, length = "", 0
        for name, value in scope["headers"]:
            if name == b"content-type":
                kind = value.decode("latin-1")
            elif name == b"content-length":
                length = int(value)
        self._check_size(length)
        body = await self._read(receive)
        payload = parse(body, kind)
        if self._usual_s < INLINE_S:
            predictions = self._timed(payload)
        else:
            predictions = await asyncio.get_running_loop().run_in_executor(self._thread, self._timed, payload)
        if self._collector is not None:
            identifier = self._collector.take(scope["headers"], payload, predictions, len(body))
            if identifier:
                extra.append((b"x-request-id", identifier.encode()))
        return json.dumps({"predictions": predictions}, ensure_ascii=False).encode()

    async def _read(self, receive: Receive) -> bytes:
        message = await receive()
        if not message.get("more_body"):
            body: bytes = message.get("body", b"")
            self._check_size(len(body))
            return body
        parts, size = [], 0
        while True:
            if message["type"] == "http.disconnect":
                raise ConnectionResetError
            part = message.get("body", b"")
            size += len(part)
            self._check_size(size)
            parts.append(part)
            if not message.get("more_body"):
                return b"".join(parts)
            message = await receive()

    def _check_size(self, size: int) -> None:
        if size > self._limit:
            raise Refused(f"The body is larger than the {self._limit} bytes that are taken.", 413, "PayloadTooLarge")

    def _timed(self, payload: Any) -> Any:
        start = time.perf_counter()
        result = self._model.predict(payload)
        # A moving average: one slow request among many does not move the rest into the thread.
        self._usual_s += 0.2 * (time.perf_counter() - start - self._usual_s)
        return result


def _error(code: str, message: str) -> bytes:
    return json.dumps({"error": {"code": code, "message": message}}, ensure_ascii=False).encode()
