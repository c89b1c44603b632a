"""One blob container: listing, and transfers in parallel that go on where an earlier attempt stopped."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, urlsplit, urlunsplit

from amlflow.errors import AmlflowError, NotFound
from amlflow.journal.retry import Transient, persist
from amlflow.workspaces.abilities import Progress
from amlflow.workspaces.azure import arm
from amlflow.workspaces.azure.http import Http, Unanswered

_VERSION = "2021-12-02"
_THREADS = 16
_WHOLE_BYTES = 8 << 20
_BLOCK_BYTES = 8 << 20
_CHUNK_BYTES = 1 << 20
_Job = TypeVar("_Job")


@dataclass(frozen=True, slots=True)
class Blob:
    """`md5` is base64, empty where the service keeps none. A folder is a prefix that ends in '/'."""

    name: str
    size_bytes: int
    md5: str = ""
    etag: str = ""
    modified_ms: int | None = None
    is_folder: bool = False


class Container:
    """A container at `url`, which may carry its right as a query (SAS); without one, tokens of the signed-in account."""

    def __init__(self, http: Http, url: str) -> None:
        parts = urlsplit(url)
        self._http = http
        self._base = urlunsplit((parts.scheme, parts.netloc, parts.path.rstrip("/"), "", ""))
        self._query = parts.query
        self._scope = None if parts.query else http.credential.cloud.storage_scope

    def list(self, prefix: str, recursive: bool = True) -> Iterator[Blob]:
        """The blobs whose names begin with the prefix; not `recursive`, what lies deeper as one folder each."""
        marker = ""
        while True:
            query = {"restype": "container", "comp": "list", "prefix": prefix, "marker": marker}
            if not recursive:
                query["delimiter"] = "/"
            answer = self._checked(self._send("GET", "", {k: v for k, v in query.items() if v}), self._base)
            found, marker = _listing(answer.content)
            yield from found
            if not marker:
                return

    def facts(self, name: str) -> Blob:
        """The blob's size and version, without its bytes. Raises `NotFound`."""
        headers = self._checked(self._send("HEAD", name), name or self._base.rsplit("/", 1)[-1]).headers
        size = int(headers.get("Content-Length") or 0)
        return Blob(name, size, headers.get("Content-MD5") or "", headers.get("ETag") or "")

    def upload(self, files: Sequence[tuple[str, Path]], progress: Progress, fresh: bool = False) -> int:
        """Send files to the names given; a blob that holds the same bytes already is left alone, unless the container is known
        to be `fresh`. Returns the number of files sent."""
        total = sum(path.stat().st_size for _, path in files)
        counter = _Counter(total, progress)
        known: dict[str, Blob] = {}
        if not fresh and files:
            shared = os.path.commonprefix([name for name, _ in files])  # noqa: RUF071  names, not paths of this machine
            known = {blob.name: blob for blob in self.list(shared)}
        return sum(_parallel(lambda job: self._upload_one(job[0], job[1], known.get(job[0]), counter), files))

    def download(self, blobs: Sequence[tuple[Blob, Path]], progress: Progress) -> int:
        """Fetch blobs into the files given. Returns the number fetched; a file that is there already counts."""
        counter = _Counter(sum(blob.size_bytes for blob, _ in blobs), progress)
        return sum(_parallel(lambda job: self._download_one(job[0], job[1], counter), blobs))

    def _upload_one(self, name: str, path: Path, known: Blob | None, counter: _Counter) -> bool:
        size = path.stat().st_size
        digest = hashlib.md5(usedforsecurity=False)
        with path.open("rb") as source:
            while chunk := source.read(_CHUNK_BYTES):
                digest.update(chunk)
        md5 = base64.b64encode(digest.digest()).decode()
        if known and known.size_bytes == size and known.md5 == md5:
            counter.add(size)
            return False
        if size <= _WHOLE_BYTES:
            headers = {"x-ms-blob-type": "BlockBlob", "Content-MD5": md5, "x-ms-blob-content-md5": md5}
            self._checked(self._send("PUT", name, headers=headers, data=path.read_bytes()), name)
            counter.add(size)
        else:
            self._upload_blocks(name, path, size, md5, counter)
        return True

    def _upload_blocks(self, name: str, path: Path, size: int, md5: str, counter: _Counter) -> None:
        """In blocks whose ids say what they hold: those that an earlier attempt has sent are not sent again."""
        answer = self._send("GET", name, {"comp": "blocklist", "blocklisttype": "uncommitted"})
        there = set() if answer.status_code == 404 else _block_ids(self._checked(answer, name).content)
        ids: list[str] = []
        with path.open("rb") as source:
            for index in range(0, (size + _BLOCK_BYTES - 1) // _BLOCK_BYTES):
                content = source.read(_BLOCK_BYTES)
                mark = f"{index:06d}-{hashlib.sha256(content).hexdigest()[:25]}"
                ids.append(base64.b64encode(mark.encode()).decode())
                if ids[-1] not in there:
                    self._checked(self._send("PUT", name, {"comp": "block", "blockid": ids[-1]}, data=content), name)
                counter.add(len(content))
        body = "".join(f"<Latest>{identifier}</Latest>" for identifier in ids)
        self._checked(
            self._send(
                "PUT",
                name,
                {"comp": "blocklist"},
                headers={"x-ms-blob-content-md5": md5},
                data=f'<?xml version="1.0" encoding="utf-8"?><BlockList>{body}</BlockList>'.encode(),
            ),
            name,
        )

    def _download_one(self, blob: Blob, target: Path, counter: _Counter) -> bool:
        if target.is_file() and target.stat().st_size == blob.size_bytes and blob.md5 and _md5(target) == blob.md5:
            counter.add(blob.size_bytes)
            return True
        target.parent.mkdir(parents=True, exist_ok=True)
        version = hashlib.sha256(f"{blob.name}\0{blob.etag}".encode()).hexdigest()[:16]
        part = target.with_name(f".{target.name[:200]}.{version}.part")
        if part.exists() and part.stat().st_size > blob.size_bytes:
            part.unlink()
        counter.add(part.stat().st_size if part.exists() else 0)

        def attempt(_remaining_s: float) -> None:
            self._fetch_rest(blob, part, counter)

        try:
            persist(self._http.policy, attempt)
        except Transient as failure:
            raise Unanswered(urlsplit(self._base).netloc, failure) from failure.__cause__
        part.replace(target)
        return True

    def _fetch_rest(self, blob: Blob, part: Path, counter: _Counter) -> None:
        import requests
        from urllib3.exceptions import HTTPError

        held = part.stat().st_size if part.exists() else 0
        if held == blob.size_bytes:
            part.touch()
            return
        headers = {"If-Match": blob.etag} if blob.etag else {}
        if held:
            headers["Range"] = f"bytes={held}-"
        with self._send("GET", blob.name, headers=headers, stream=True) as answer:
            if answer.status_code == 412:
                with suppress(OSError):
                    part.unlink()
                raise AmlflowError(f"{blob.name!r} has been changed while it was downloaded.", "Download it again.")
            self._checked(answer, blob.name)
            with part.open("ab" if answer.status_code == 206 else "wb") as out:
                try:
                    for chunk in answer.iter_content(_CHUNK_BYTES):
                        out.write(chunk)
                        counter.add(len(chunk))
                except (requests.exceptions.RequestException, HTTPError) as error:
                    raise Transient(f"broke off the transfer of {blob.name}") from error
        if part.stat().st_size < blob.size_bytes:
            raise Transient(f"broke off the transfer of {blob.name}")

    def _send(
        self,
        method: str,
        name: str,
        query: Mapping[str, str] | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        data: Any = None,
        stream: bool = False,
    ) -> Any:
        url = f"{self._base}/{quote(name)}" if name else self._base
        return self._http.send(
            method,
            f"{url}?{self._query}" if self._query else url,
            scope=self._scope,
            params=query,
            headers={"x-ms-version": _VERSION, **(headers or {})},
            data=data,
            stream=stream,
        )

    def _checked(self, answer: Any, name: str) -> Any:
        if 200 <= answer.status_code < 300:
            return answer
        credential = self._http.credential
        raise arm.refusal(answer, f"blob {name!r}", credential.clock_ahead_s, credential.winner)


def contained(root: Path, relative: str) -> Path:
    """The file below `root` that a service's name leads to. Raises `AmlflowError` for one that leads out."""
    target = root.joinpath(*relative.split("/"))
    if (
        not relative
        or "\0" in relative
        or relative.startswith("/")
        or not target.resolve().is_relative_to(root.resolve())
    ):
        raise AmlflowError(f"The name {relative!r} leads out of the folder {root}; it is not downloaded.")
    return target


def put_file(http: Http, url: str, file: Path) -> None:
    """Send a file to a blob, by a URL that carries its own right."""
    Container(http, url).upload([("", file)], lambda _done, _total: None, fresh=True)


def get_file(http: Http, url: str, target: Path) -> int:
    """Fetch a blob into a file, by a URL that carries its own right; its size in bytes. An attempt that broke off goes on where
    it stopped."""
    container = Container(http, url)
    blob = container.facts("")
    container.download([(blob, target)], lambda _done, _total: None)
    return blob.size_bytes


def read_url(http: Http, url: str, start: int = 0) -> bytes:
    """The bytes of a blob from `start` on, by a URL that carries its own right; empty where there are none yet. Raises for a
    right that has ended."""
    headers = {"x-ms-version": _VERSION, **({"Range": f"bytes={start}-"} if start else {})}
    answer = http.send("GET", url, scope=None, headers=headers)
    if answer.status_code in (404, 416):
        return b""
    if not 200 <= answer.status_code < 300:
        raise arm.refusal(answer, f"log {urlsplit(url).path.rsplit('/', 1)[-1]!r}")
    content: bytes = answer.content
    return content if answer.status_code == 206 or not start else content[start:]


def nothing_at(what: str, path: str) -> NotFound:
    return NotFound(f"There is nothing at {path!r} in {what}.", "`amlflow datastore ls` shows what there is.")


class _Counter:
    """Bytes done, from many threads."""

    def __init__(self, total: int, progress: Progress) -> None:
        import threading

        self._total, self._progress, self._done = total, progress, 0
        self._lock = threading.Lock()

    def add(self, count: int) -> None:
        with self._lock:
            self._done += count
            self._progress(self._done, self._total)


def _parallel(work: Callable[[_Job], bool], jobs: Sequence[_Job]) -> list[bool]:
    with ThreadPoolExecutor(max_workers=min(_THREADS, max(1, len(jobs)))) as pool:
        futures = [pool.submit(work, job) for job in jobs]
        try:
            return [future.result() for future in futures]
        except BaseException:
            for future in futures:
                future.cancel()
            raise


def _listing(content: bytes) -> tuple[list[Blob], str]:
    from xml.etree import ElementTree

    # The parser of the standard library expands no external entity, and the service writes no DTD.
    root = ElementTree.fromstring(content.lstrip(b"\xef\xbb\xbf"))  # noqa: S314
    found = []
    for item in root.iterfind("./Blobs/*"):
        name = item.findtext("Name") or ""
        if item.tag == "BlobPrefix":
            found.append(Blob(name, 0, is_folder=True))
            continue
        facts = item.find("Properties")
        if facts is None or item.findtext("./Metadata/hdi_isfolder") == "true":
            continue
        modified = facts.findtext("Last-Modified")
        found.append(
            Blob(
                name,
                int(facts.findtext("Content-Length") or 0),
                facts.findtext("Content-MD5") or "",
                facts.findtext("Etag") or "",
                int(parsedate_to_datetime(modified).timestamp() * 1000) if modified else None,
            )
        )
    return found, root.findtext("NextMarker") or ""


def _block_ids(content: bytes) -> set[str]:
    from xml.etree import ElementTree

    root = ElementTree.fromstring(content.lstrip(b"\xef\xbb\xbf"))  # noqa: S314
    return {name.text or "" for name in root.iterfind(".//Name")}


def _md5(path: Path) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as source:
        while chunk := source.read(_CHUNK_BYTES):
            digest.update(chunk)
    return base64.b64encode(digest.digest()).decode()
