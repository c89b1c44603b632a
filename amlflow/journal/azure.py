"""Artifacts of runs in an Azure ML workspace: the run history notes a file's path and gives an address to send it to."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Callable, Iterator, Mapping, Optional, Tuple, Type, TypeVar
from urllib.parse import quote, unquote, urlsplit

from .errors import Refused, Unreachable
from .rest import Behind, RestServer
from .retry import RETRYABLE_STATUS, RetryPolicy, Transient, parsed_retry_after, persist
from .sinks import Opener, SpoolFile

_ROOT = re.compile(r"/runs/(?P<run>[^/]+)/artifacts/?$")
_IN_RUN = re.compile(r"(?P<root>azureml://.*/runs/[^/]+/artifacts)(?:/(?P<path>.*))?")
# The run history, below the address of a workspace's data plane.
HISTORY = "/history/v1.0"
_BLOB = {"x-ms-blob-type": "BlockBlob", "x-ms-version": "2021-12-02"}
_CONNECT_S, _ANSWER_S = 10.0, 300.0
_CHUNK_BYTES = 1 << 20
_Answer = TypeVar("_Answer")


def opener(history: Behind, store: Behind) -> Mapping[str, Opener]:
    """By scheme, what opens the artifact roots of a workspace; `history` is its run history service (`/history/v1.0/…`), `store`
    its artifact service (`/artifact/v2.0/…`)."""
    return {"azureml": lambda root, behind: AzureMlSink(root, behind, history, store)}


def reader(real: str, behind: Behind) -> "Optional[Tuple[AzureMlSink, str]]":
    """What reads the artifacts of the run that an address of theirs leads to, and the path among them; None for any other
    address. `behind` is the workspace's MLflow API, or what passes its requests on."""
    match = _IN_RUN.fullmatch(real)
    if match is None or not isinstance(behind, RestServer):
        return None
    history = behind.at(behind.prefix.replace("/mlflow/v2.0", HISTORY, 1) if behind.prefix else HISTORY)
    return AzureMlSink(match["root"], behind, history, history), unquote(match["path"] or "")


class AzureMlSink:
    """The artifact root of one run; see `ArtifactSink`. The service keeps the first file that was sent to a path."""

    def __init__(
        self, root: str, behind: Behind, history: Behind, store: Behind, policy: Optional[RetryPolicy] = None
    ) -> None:
        match = _ROOT.search(root)
        if match is None:
            raise Refused(0, "INVALID_PARAMETER_VALUE", f"{root} is no artifact root of a run.")
        self.run_id, self._behind = unquote(match["run"]), behind
        self._history, self._store = history, store
        self._policy = policy or RetryPolicy()
        self._base = ""

    def put(self, path: str, file: SpoolFile) -> None:
        answer = self._history.request("POST", f"{self._artifacts()}/batch/metadata", {"paths": [{"path": path}]})
        errors = answer.get("errors") or {}
        if path in errors:
            # The answer to an earlier attempt may have been lost on its way, before the file was sent or after that.
            there = self.size(path)
            if there == file.size_bytes:
                return
            if there is not None:
                inner = errors[path].get("error") or {}
                raise Refused(409, "RESOURCE_ALREADY_EXISTS", str(inner.get("message") or f"{path} is taken."))
            place = writable(self._store, self.run_id, path)
        else:
            place = str(((answer.get("artifactContentInformation") or {}).get(path) or {}).get("contentUri") or "")
        if not place:
            raise Unreachable(f"The run history named no place for {path}")

        def send(remaining_s: float) -> None:
            with file.open() as content:
                # An empty file would be sent in chunks, which the storage refuses.
                self._checked(self._ask("PUT", place, _BLOB, content if file.size_bytes else b""))

        self._persist(send)

    def size(self, path: str) -> Optional[int]:
        place = next((address for name, address in self.addresses(path) if name == path), "")
        if not place:
            return None

        def ask(remaining_s: float) -> Optional[int]:
            found = self._ask("HEAD", place, {"x-ms-version": _BLOB["x-ms-version"]})
            if found.status_code == 404:
                return None
            return int(self._checked(found).headers.get("Content-Length") or 0)

        return self._persist(ask)

    def addresses(self, path: str) -> Iterator[Tuple[str, str]]:
        """The files at or below `path`, each with an address to fetch it from."""
        token = ""
        while True:
            query = {"path": path, **({"continuationToken": token} if token else {})}
            answer = self._history.request("GET", f"{self._artifacts()}/prefix/contentinfo", query)
            for item in answer.get("value") or []:
                name = str(item.get("path") or "")
                if name == path or name.startswith(f"{path}/"):
                    yield name, str(item.get("contentUri") or "")
            following = str(answer.get("continuationToken") or "")
            if not following or following == token:
                return
            token = following

    def fetch(self, address: str, file: Path) -> None:
        """Write what is at an address that `addresses` gave."""

        def receive(remaining_s: float) -> None:
            answer = self._checked(self._ask("GET", address, {"x-ms-version": _BLOB["x-ms-version"]}, stream=True))
            promised, size = str(answer.headers.get("Content-Length", "")), 0
            with answer, file.open("wb") as out:
                try:
                    for chunk in answer.iter_content(_CHUNK_BYTES):
                        out.write(chunk)
                        size += len(chunk)
                except _broken() as error:
                    raise Transient(f"broke off the transfer after {size} bytes") from error
            if promised.isdigit() and size < int(promised):
                raise Transient(f"broke off the transfer after {size} bytes")

        self._persist(receive)

    def _artifacts(self) -> str:
        if not self._base:
            answer = self._behind.request("GET", "/api/2.0/mlflow/runs/get", {"run_id": self.run_id})
            experiment = quote(str(answer["run"]["info"]["experiment_id"]), safe="")
            self._base = f"/experimentids/{experiment}/runs/{quote(self.run_id, safe='')}/artifacts"
        return self._base

    def _persist(self, attempt: Callable[[float], _Answer]) -> _Answer:
        try:
            return persist(self._policy, attempt)
        except Transient as failure:
            raise Unreachable(f"The storage {failure.reason}", failure.maybe_applied, failure.status) from failure

    @staticmethod
    def _ask(method: str, place: str, headers: Mapping[str, str], data: Any = None, stream: bool = False) -> Any:
        import requests

        try:
            return requests.request(
                method,
                place,
                headers=dict(headers),
                data=data,
                stream=stream,
                timeout=(_CONNECT_S, _ANSWER_S),
                allow_redirects=False,
            )
        except requests.exceptions.RequestException as error:
            # The address carries a right to write: it goes into no sentence.
            raise Transient(
                f"at {urlsplit(place).hostname} broke off ({type(error).__name__})", maybe_applied=True
            ) from None

    @staticmethod
    def _checked(answer: Any) -> Any:
        status = int(answer.status_code)
        if 200 <= status < 300:
            return answer
        if status in RETRYABLE_STATUS:
            raise Transient(
                f"answered {status}",
                maybe_applied=True,
                retry_after_s=parsed_retry_after(answer.headers.get("Retry-After")),
                status=status,
            )
        code = str(answer.headers.get("x-ms-error-code") or "")
        raise Refused(status, code or "INVALID_PARAMETER_VALUE", f"The storage refused the file ({status}).")


def writable(store: Behind, run_id: str, path: str) -> str:
    """An address to write an artifact of a run to that the artifact service has noted already; empty where it gives none."""
    route = f"/artifacts/ExperimentRun/{quote(f'dcid.{run_id}', safe='')}/write"
    return str(store.request("GET", route, {"path": path}).get("contentUri") or "")


def _broken() -> Tuple[Type[Exception], ...]:
    """What reading an answer raises when the connection breaks."""
    import requests
    from urllib3.exceptions import HTTPError

    return requests.exceptions.RequestException, HTTPError
