"""What a container group collects, on its way into a blob container of the workspace: the group's own disk goes with it.

The files of a `Collector` are appended to append blobs of the same names. A thread does it, so that a storage that is slow or
away costs no request anything: files wait on the disk then, within the collector's own bound. Each append names the position it
is meant for, so that one whose answer was lost is not done twice.

The token is that of the group's user-assigned identity, from the metadata service that Linux containers of Azure Container
Instances reach («Use managed identities with Azure Container Instances»); the calls are Put Blob and Append Block of the Blob
service's REST API.
"""

from __future__ import annotations

import contextlib
import json
import os
import ssl
import threading
import time
from email.utils import formatdate
from http.client import HTTPException
from pathlib import Path
from typing import Any, Mapping, NamedTuple, Optional
from urllib.error import HTTPError
from urllib.parse import quote, urlencode
from urllib.request import HTTPRedirectHandler, HTTPSHandler, OpenerDirector, ProxyHandler, Request, build_opener

from .collector import Complaints

# azure-identity reads the same variable for where the metadata service is, if not at its own address.
METADATA_VARIABLE = "AZURE_POD_IDENTITY_AUTHORITY_HOST"
_METADATA = "http://169.254.169.254"
_METADATA_API = "2018-02-01"
_STORAGE_API = "2021-12-02"
# An Append Block takes 4 MiB at most, in this version of the API.
_BLOCK_BYTES = 4 * 1024**2
_PAUSE_S = 5.0
_LONGEST_PAUSE_S = 60.0
_TIMEOUT_S = 10.0
_CLOSE_S = 15.0
# No line is written into the folder of an hour that is over for so long.
_SETTLED_S = 120.0
_TOKEN_SHARE = 0.8
_KEY_BYTES = 32
_KEY = ".salt"


class Destination(NamedTuple):
    """`container` is the address of a blob container, `prefix` what the names of blobs begin with; `client_id` the identity's,
    and `resource` what its token is for."""

    container: str
    prefix: str
    client_id: str
    resource: str = "https://storage.azure.com/"


class Refused(Exception):
    """The storage, or the metadata service, has said no, or nothing. `status` is 0 for no answer."""

    def __init__(self, status: int, why: str, wait_s: float = 0.0) -> None:
        super().__init__(why)
        self.status, self.wait_s = status, wait_s


class _Stay(HTTPRedirectHandler):
    """Follows no redirect: the token would go along to whatever host it names."""

    def redirect_request(self, *_: Any) -> None:
        return None


class Identity:
    """Tokens of the group's identity, kept while they are good."""

    def __init__(self, client_id: str, resource: str) -> None:
        query = {"api-version": _METADATA_API, "resource": resource, "client_id": client_id}
        host = (os.environ.get(METADATA_VARIABLE) or _METADATA).rstrip("/")
        self._address = f"{host}/metadata/identity/oauth2/token?{urlencode(query)}"
        # No proxy reaches an address that is this machine's own.
        self._opener = build_opener(ProxyHandler({}), HTTPSHandler(context=_trust()), _Stay)
        self._lock = threading.Lock()
        self._token, self._until = "", 0.0

    def token(self) -> str:
        with self._lock:
            if time.monotonic() >= self._until:
                status, content, _ = _sent(self._opener, Request(self._address, headers={"Metadata": "true"}))  # noqa: S310
                if status != 200:
                    raise Refused(status, f"the identity of the group gets no token ({status}): {_reason(content)}")
                found = json.loads(content)
                lifetime = float(found.get("expires_in") or float(found["expires_on"]) - time.time())
                self._token, self._until = str(found["access_token"]), time.monotonic() + lifetime * _TOKEN_SHARE
            return self._token

    def forget(self) -> None:
        self._until = 0.0


class Blobs:
    """The few calls of the Blob service that are needed. All raise `Refused`."""

    def __init__(self, destination: Destination) -> None:
        self._to = destination
        self._identity = Identity(destination.client_id, destination.resource)
        self._opener = build_opener(HTTPSHandler(context=_trust()), _Stay)

    def create(self, name: str) -> None:
        """An empty append blob; that it is there already is as good."""
        status, content = self._ask("PUT", name, {"x-ms-blob-type": "AppendBlob", "If-None-Match": "*"})
        if status not in (201, 409):
            raise _refused(status, content)

    def append(self, name: str, content: bytes, position: int) -> bool:
        """Whether it was done: False where the blob does not end at the position."""
        headers = {"x-ms-blob-condition-appendpos": str(position)}
        status, said = self._ask("PUT", f"{name}?comp=appendblock", headers, content)
        if status == 412:
            return False
        if status != 201:
            raise _refused(status, said)
        return True

    def size(self, name: str) -> int:
        status, content, headers = self._answer("HEAD", name, {}, None)
        if status != 200:
            raise _refused(status, content)
        return int(headers.get("content-length") or 0)

    def key(self) -> bytes:
        """The key of hashed columns: whoever comes first makes it, for all that come later."""
        for _ in range(2):
            status, content = self._ask("GET", _KEY, {})
            if status == 200 and len(content) == _KEY_BYTES:
                return content
            if status != 404:
                raise _refused(status, content)
            made = os.urandom(_KEY_BYTES)
            status, content = self._ask("PUT", _KEY, {"x-ms-blob-type": "BlockBlob", "If-None-Match": "*"}, made)
            if status not in (201, 409):
                raise _refused(status, content)
        raise Refused(404, "the key of hashed columns cannot be read back")

    def _ask(self, method: str, name: str, headers: Mapping[str, str], body: bytes = b"") -> tuple[int, bytes]:
        status, content, answered = self._answer(method, name, headers, body if method == "PUT" else None)
        if status == 401:
            self._identity.forget()
        if status in (429, 503):
            raise Refused(status, _reason(content) or str(status), _wait_s(answered))
        return status, content

    def _answer(
        self, method: str, name: str, headers: Mapping[str, str], body: Optional[bytes]
    ) -> tuple[int, bytes, Mapping[str, str]]:
        path, mark, query = name.partition("?")
        address = f"{self._to.container}/{quote(f'{self._to.prefix}/{path}')}{mark}{query}"
        own = {
            "Authorization": f"Bearer {self._identity.token()}",
            "x-ms-version": _STORAGE_API,
            "x-ms-date": formatdate(usegmt=True),
            **headers,
        }
        if body is not None:
            own["Content-Type"] = "application/octet-stream"
        return _sent(self._opener, Request(address, body, own, method=method))  # noqa: S310


class Shipper:
    """Sends the files of `folder` from a thread of its own, and removes those that are sent and that nothing is added to."""

    def __init__(self, folder: Path, blobs: Blobs) -> None:
        self._folder, self._blobs = folder, blobs
        # How much of a file is sent, and where in the file its blob begins: not at 0 where somebody has deleted an earlier blob.
        self._sent: dict[str, tuple[int, int]] = {}
        self._complaints = Complaints()
        self._wake, self._ended = threading.Event(), False
        self._thread = threading.Thread(target=self._run, name="shipper", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Send what is there, as long as the storage answers."""
        self._ended = True
        self._wake.set()
        self._thread.join(_CLOSE_S)

    def _run(self) -> None:
        ended, pause, failures = False, _PAUSE_S, 0
        while not ended:
            self._wake.wait(pause)
            # Read before sending: what came until then is sent in this last turn.
            ended = self._ended
            try:
                self._send_all()
                pause, failures = _PAUSE_S, 0
            except Exception as error:
                failures += 1
                asked = error.wait_s if isinstance(error, Refused) else 0.0
                pause = min(_LONGEST_PAUSE_S, max(asked, _PAUSE_S * 2 ** min(failures - 1, 4)))
                self._complaints.say(f"What was collected waits to be sent: {error}")

    def _send_all(self) -> None:
        files = sorted(self._folder.rglob("*.jsonl"), key=lambda file: file.parts[-5:-1])
        for file in files:
            # The collector may have removed it to keep to its bound.
            with contextlib.suppress(FileNotFoundError):
                self._send(file)
        there = {self._name(file) for file in files}
        self._sent = {name: sent for name, sent in self._sent.items() if name in there}

    def _send(self, file: Path) -> None:
        name = self._name(file)
        with file.open("rb") as source:
            while True:
                sent, begins = self._sent.get(name, (0, 0))
                source.seek(sent)
                block = _lines(source.read(_BLOCK_BYTES))
                if not block:
                    break
                if name not in self._sent:
                    self._blobs.create(name)
                    self._sent[name] = 0, 0
                try:
                    if self._blobs.append(name, block, sent - begins):
                        self._sent[name] = sent + len(block), begins
                    else:
                        # An append that was done, and whose answer was lost.
                        self._sent[name] = begins + self._blobs.size(name), begins
                except Refused as refused:
                    if refused.status != 404:
                        raise
                    self._blobs.create(name)
                    self._sent[name] = sent, sent
        if _over(file) and self._sent.get(name, (0, 0))[0] >= file.stat().st_size:
            file.unlink()

    def _name(self, file: Path) -> str:
        return file.relative_to(self._folder).as_posix()


def _lines(block: bytes) -> bytes:
    """Whole lines, so that whoever reads the blob meanwhile finds no half; what has none and fills a block goes as it is."""
    end = block.rfind(b"\n") + 1
    return block[:end] if end or len(block) < _BLOCK_BYTES else block


def _over(file: Path) -> bool:
    now = time.gmtime(time.time() - _SETTLED_S)
    return "/".join(file.parts[-5:-1]) < time.strftime("%Y/%m/%d/%H", now)


def _trust() -> ssl.SSLContext:
    """The authorities that SSL_CERT_FILE names, else those of `certifi`: the base of an image need have none of its own."""
    if not os.environ.get("SSL_CERT_FILE"):
        with contextlib.suppress(ImportError):
            import certifi

            return ssl.create_default_context(cafile=certifi.where())
    return ssl.create_default_context()


def _sent(opener: OpenerDirector, request: Request) -> tuple[int, bytes, Mapping[str, str]]:
    try:
        with opener.open(request, timeout=_TIMEOUT_S) as answer:
            return answer.status, answer.read(), _lowered(answer.headers)
    except HTTPError as error:
        with error:
            return error.code, error.read(), _lowered(error.headers)
    except (OSError, HTTPException) as error:
        raise Refused(0, f"{request.host} does not answer: {error}") from error


def _lowered(headers: Any) -> Mapping[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def _refused(status: int, content: bytes) -> Refused:
    return Refused(status, f"the storage answers {status}: {_reason(content)}")


def _reason(content: bytes) -> str:
    return " ".join(content[:600].decode("utf-8", "replace").split())


def _wait_s(headers: Mapping[str, str]) -> float:
    with contextlib.suppress(ValueError):
        return float(headers.get("retry-after") or 0)
    return 0.0
