"""Requests to a service that speaks MLflow's REST API: one pool of kept connections, one retry policy, and every
failure as `Refused` or `Unreachable`."""

from __future__ import annotations

import io
import json
import math
import mimetypes
import os
import threading
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable, Protocol, TypeVar
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from .answers import checked, parsed, transient
from .connections import new_session
from .credentials import Credentials, authorization
from .errors import Refused, Unreachable
from .retry import RetryPolicy, Transient, persist

# Subscripts of collections.abc fail at run time before Python 3.9.
Headers = Callable[[], "Mapping[str, str]"]
_Answer = TypeVar("_Answer")

_CONNECT_S = 5.0
_CHUNK_BYTES = 1 << 20


class Behind(Protocol):
    """What answers MLflow's REST calls behind a journal or a workspace."""

    def request(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        timeout_s: float | None = None,
        retry: bool = True,
    ) -> dict[str, Any]:
        """See `RestServer.request`."""
        ...


class RestServer:
    """An MLflow tracking server, or a service with its API under another prefix. Safe to use from many threads, and
    after a fork.

    `base_url` may hold `user:password@`, which is used and never shown. `headers` is called for each request, and once
    more after a 401, so that a token can be refreshed; without it MLflow's own variables and credentials file say who
    asks. `prefix` is put before each path.
    """

    def __init__(
        self,
        base_url: str,
        headers: Headers | None = None,
        prefix: str = "",
        *,
        policy: RetryPolicy | None = None,
        timeout_s: float = 60.0,
        credentials: Credentials | None = None,
    ) -> None:
        self.url, self.user, self.password = split_login(base_url)
        self._headers, self.prefix = headers, prefix.rstrip("/")
        self._policy, self._timeout_s = policy or RetryPolicy(), timeout_s
        self._login = credentials or Credentials.found(self.user, self.password)
        self._lock = threading.Lock()
        self._kept: tuple[int, Any] | None = None

    def request(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        timeout_s: float | None = None,
        retry: bool = True,
    ) -> dict[str, Any]:
        """The service's JSON answer; `body` is the JSON body, or the query of a GET.

        `timeout_s` is the time for all attempts together. With `retry` the request is one that may be sent twice. Without
        it, it is sent again only where it surely was not carried out (no connection, 429). Raises `Refused`, or
        `Unreachable` with `maybe_applied`.
        """
        options: dict[str, Any] = {}
        if method.upper() == "GET":
            options["params"] = {key: _query(value) for key, value in (body or {}).items() if value is not None}
        else:
            options["data"] = _json(body or {})
        kind = {} if method.upper() == "GET" else {"Content-Type": "application/json"}

        def attempt(remaining_s: float) -> dict[str, Any]:
            answer = self._send(method, self.prefix + path, remaining_s, timeout_s, kind, **options)
            return parsed(answer, self.url)

        return self._persist(attempt, retry or method.upper() in ("GET", "HEAD"), timeout_s)

    def at(self, prefix: str) -> RestServer:
        """The same server and login, with another prefix before each path."""
        return RestServer(
            self.url, self._headers, prefix, policy=self._policy, timeout_s=self._timeout_s, credentials=self._login
        )

    def text(self, path: str) -> str:
        """The text at a path of the server, such as `/version`; the prefix does not come before it."""

        def attempt(remaining_s: float) -> str:
            answer = self._send("GET", path, remaining_s, None, {})
            checked(answer, self.url)
            return str(answer.text)

        return self._persist(attempt, True)

    def download(self, path: str, file: Path, resume: bool = True) -> int:
        """Stream a GET into `file`, which appears when it is whole; returns its size in bytes. `path` is not yet
        quoted. An interrupted transfer goes on where it stopped when the service takes ranges and names the version."""
        part = file.with_name(f".{file.name[:100]}.{uuid.uuid4().hex[:12]}.part")
        version = ""

        def attempt(remaining_s: float) -> int:
            nonlocal version
            held = part.stat().st_size if resume and version and part.exists() else 0
            wanted = {"Accept-Encoding": "identity"}
            if held:
                wanted.update({"Range": f"bytes={held}-", "If-Range": version})
            with self._send("GET", self.prefix + quote(path), remaining_s, None, wanted, stream=True) as answer:
                if answer.status_code == 416:
                    version = ""
                    raise Transient("the server has another version of the file than before")
                checked(answer, self.url)
                start = _range_start(answer) if answer.status_code == 206 else 0
                if start not in (0, held):
                    version = ""
                    raise Transient("the server answered with another range of bytes than was asked for")
                version = _strong_version(answer)
                return _received(answer, part, start)

        try:
            size = self._persist(attempt, True)
            part.replace(file)
            return size
        finally:
            with suppress(OSError):
                part.unlink()

    def upload(self, path: str, file: Path) -> None:
        """PUT a file as it is; `path` is not yet quoted. It is sent again after a failure: the last one stands."""
        kind = {"Content-Type": mimetypes.guess_type(file.name)[0] or "application/octet-stream"}

        def attempt(remaining_s: float) -> None:
            with file.open("rb") as content:
                # requests would send an empty file in chunks, which WSGI servers refuse.
                data: Any = content if file.stat().st_size else b""
                checked(self._send("PUT", self.prefix + quote(path), remaining_s, None, kind, data=data), self.url)

        self._persist(attempt, True)

    @property
    def credentials(self) -> Credentials:
        """Who asks, for another client of the same server."""
        return self._login

    def close(self) -> None:
        """Close the kept connections; another request opens new ones."""
        with self._lock:
            kept, self._kept = self._kept, None
        if kept and kept[0] == os.getpid():
            kept[1].close()

    def _persist(
        self, attempt: Callable[[float], _Answer], repeatable: bool, timeout_s: float | None = None
    ) -> _Answer:
        policy = self._policy
        if timeout_s is not None and timeout_s < policy.deadline_s:
            policy = replace(policy, deadline_s=timeout_s)
        try:
            return persist(policy, attempt, repeatable)
        except Transient as failure:
            raise Unreachable(
                f"{self.url} {failure.reason}", maybe_applied=failure.maybe_applied, status=failure.status
            ) from failure.__cause__

    def _send(
        self,
        method: str,
        path: str,
        remaining_s: float,
        timeout_s: float | None,
        named: Mapping[str, str],
        **options: Any,
    ) -> Any:
        answer = self._send_once(method, path, remaining_s, timeout_s, named, **options)
        if answer.status_code == 401 and self._headers is not None:
            answer.close()
            if isinstance(options.get("data"), io.IOBase):
                options["data"].seek(0)
            answer = self._send_once(method, path, remaining_s, timeout_s, named, **options)
        return answer

    def _send_once(
        self,
        method: str,
        path: str,
        remaining_s: float,
        timeout_s: float | None,
        named: Mapping[str, str],
        **options: Any,
    ) -> Any:
        import requests

        given = dict(self._headers()) if self._headers is not None else {}
        try:
            return self._session().request(
                method,
                self.url + path,
                headers={**named, **given},
                auth=authorization(self._login, given),
                verify=self._login.verify,
                cert=self._login.client_cert,
                timeout=(min(_CONNECT_S, max(1.0, remaining_s)), timeout_s or self._timeout_s),
                # A redirected POST would become a GET, and a sign-in page would become an artifact.
                allow_redirects=False,
                **options,
            )
        except (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema, UnicodeError) as error:
            raise Refused(0, "INVALID_URL", f"{self.url} is not an address of a server.") from error
        except requests.exceptions.RequestException as error:
            raise transient(error) from error
        except OSError as error:
            # requests raises this for a CA file that does not exist, with the path at fault in the sentence.
            raise Refused(0, "INVALID_CREDENTIALS", f"{error}.") from error

    def _session(self) -> Any:
        """The session of this process: a child that was forked must not share the parent's sockets."""
        kept = self._kept
        if kept is not None and kept[0] == os.getpid():
            return kept[1]
        with self._lock:
            if self._kept is None or self._kept[0] != os.getpid():
                self._kept = (os.getpid(), new_session())
            return self._kept[1]


def split_login(base_url: str) -> tuple[str, str, str]:
    """An address without its user and password, and these two unquoted."""
    try:
        parts = urlsplit(base_url)
    except ValueError:
        raise Refused(0, "INVALID_URL", "The address of the server cannot be read.") from None
    if "@" not in parts.netloc:
        return base_url.rstrip("/"), "", ""
    login, _, host = parts.netloc.rpartition("@")
    user, _, password = login.partition(":")
    bare = urlunsplit((parts.scheme, host, parts.path, "", ""))
    return bare.rstrip("/"), unquote(user), unquote(password)


def _received(answer: Any, part: Path, start: int) -> int:
    """Write what arrives after byte `start`; the size then."""
    import requests
    from urllib3.exceptions import HTTPError

    promised = str(answer.headers.get("Content-Length", ""))
    size = start
    with part.open("r+b" if start else "wb") as out:
        out.seek(start)
        out.truncate()
        try:
            for chunk in answer.iter_content(_CHUNK_BYTES):
                out.write(chunk)
                size += len(chunk)
        except (requests.exceptions.RequestException, HTTPError) as error:
            raise Transient(f"broke off the transfer after {size} bytes") from error
    if promised.isdigit() and not answer.headers.get("Content-Encoding") and size - start < int(promised):
        raise Transient(f"broke off the transfer after {size} bytes")
    return size


def _range_start(answer: Any) -> int:
    """The first byte of `Content-Range: bytes 5-9/10`; -1 for what is none."""
    value = str(answer.headers.get("Content-Range", ""))
    first = value.replace("bytes", "", 1).strip().partition("-")[0]
    return int(first) if first.isdigit() else -1


def _strong_version(answer: Any) -> str:
    """What identifies these very bytes for If-Range; a weak ETag does not."""
    tag = str(answer.headers.get("ETag", ""))
    return "" if tag.startswith("W/") else tag or str(answer.headers.get("Last-Modified", ""))


def _json(body: Mapping[str, Any]) -> bytes:
    try:
        return json.dumps(body, allow_nan=False, separators=(",", ":")).encode()
    except ValueError:
        return json.dumps(_finite(body), separators=(",", ":")).encode()


def _finite(value: Any) -> Any:
    """With the strings that MLflow reads in the place of numbers which JSON does not have."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return value


def _query(value: Any) -> Any:
    return str(value).lower() if isinstance(value, bool) else value
