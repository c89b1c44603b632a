"""Databricks' Files API as its REST reference has it: volumes and the files of Unity Catalog's models, sent whole or in parts to
signed addresses."""

from __future__ import annotations

import hashlib
import json
import secrets
import shutil
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote

from servers import send

_FILES, _FOLDERS = "/api/2.0/fs/files", "/api/2.0/fs/directories"
# What one request may hold (5 GiB), and what S3 asks of every part but the last.
_MOST_BYTES, _LEAST_PART_BYTES = 5 << 30, 5 << 20
_PAGE = 2


@dataclass
class Session:
    """A file that is sent in parts."""

    path: str
    parts: dict[int, bytes] = field(default_factory=dict)


class Refusal(Exception):
    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code


@dataclass
class Files:
    """`roots` are the volumes and versions of models that there are: nothing is kept outside of them. `sent` names each file as
    it is written, with the number of its parts, 0 for one that came whole."""

    folder: Path
    url: str = ""
    roots: set[str] = field(default_factory=lambda: {"/Volumes/main/default/stage"})
    sent: list[tuple[str, int]] = field(default_factory=list)
    sessions: dict[str, Session] = field(default_factory=dict)
    signed: dict[str, tuple[str, str, int]] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, request: BaseHTTPRequestHandler, path: str, query: str, body: bytes) -> bool:
        """Whether it was for these files."""
        given = dict(parse_qsl(query))
        try:
            if path.startswith(f"{_FILES}/"):
                self._file(request, unquote(path.removeprefix(_FILES)), given, body)
            elif path.startswith(f"{_FOLDERS}/"):
                self._folder(request, "/" + unquote(path.removeprefix(_FOLDERS)).strip("/"), given)
            elif path.startswith("/api/2.0/fs/create-"):
                wanted = {**given, **(json.loads(body) if body else {})}
                self._sign(request, path.rsplit("/", 1)[1], wanted)
            else:
                return False
        except Refusal as refusal:
            content = b"" if request.command == "HEAD" else _error(refusal)
            send(request, refusal.status, content)
        return True

    def answer_signed(self, request: BaseHTTPRequestHandler, key: str, body: bytes) -> bool:
        """At an address that is good for one file, and for whoever knows it."""
        with self.lock:
            found = self.signed.get(key)
        if found is None:
            return False
        path, session, part = found
        if request.headers.get("Authorization"):
            send(request, 400, b"<Error>InvalidRequest: only one auth mechanism allowed</Error>", "application/xml")
        elif request.command == "PUT" and session:
            with self.lock:
                self.sessions[session].parts[part] = body
            send(request, 200, b"", ETag=_etag(body))
        elif request.command == "PUT":
            self._write(path, body, 0)
            send(request, 200, b"", ETag=_etag(body))
        else:
            send(request, 200, self.place(path).read_bytes(), "application/octet-stream")
        return True

    def place(self, path: str) -> Path:
        """Where this machine has it. Raises `Refusal` for what lies in nothing that there is."""
        if ".." in path.split("/") or not any(path == root or path.startswith(f"{root}/") for root in self.roots):
            raise Refusal(404, "NOT_FOUND", f"The volume or model of {path} does not exist.")
        return self.folder / path.lstrip("/")

    def _file(self, request: BaseHTTPRequestHandler, path: str, given: dict[str, str], body: bytes) -> None:
        place = self.place(path)
        if request.command == "PUT":
            if len(body) > _MOST_BYTES:
                raise Refusal(413, "REQUEST_TOO_LARGE", "A file has up to 5 GiB.")
            if place.exists() and given.get("overwrite", "true") != "true":
                raise Refusal(409, "ALREADY_EXISTS", f"{path} exists.")
            self._write(path, body, 0)
            send(request, 204, b"")
        elif request.command == "POST":
            self._in_parts(request, path, given, body)
        elif not place.is_file():
            raise Refusal(404, "NOT_FOUND", f"The file {path} does not exist.")
        elif request.command == "DELETE":
            place.unlink()
            send(request, 204, b"")
        else:
            content = place.read_bytes()
            send(request, 200, b"" if request.command == "HEAD" else content, "application/octet-stream")

    def _in_parts(self, request: BaseHTTPRequestHandler, path: str, given: dict[str, str], body: bytes) -> None:
        action = given.get("action")
        if action == "initiate-upload":
            token = secrets.token_hex(8)
            with self.lock:
                self.sessions[token] = Session(path)
            send(request, 200, json.dumps({"multipart_upload": {"session_token": token}}).encode())
            return
        session = self.sessions.get(given.get("session_token", ""))
        if action != "complete-upload" or given.get("upload_type") != "multipart" or session is None:
            raise Refusal(400, "INVALID_PARAMETER_VALUE", f"{action} of an upload that there is not.")
        named = json.loads(body)["parts"]
        numbers = [part["part_number"] for part in named]
        if session.path != path or numbers != sorted(numbers) or numbers != sorted(session.parts):
            raise Refusal(400, "INVALID_PARAMETER_VALUE", "The parts are not those that were sent, in their order.")
        if any(part["etag"] != _etag(session.parts[part["part_number"]]) for part in named):
            raise Refusal(400, "INVALID_PARAMETER_VALUE", "InvalidPart: an ETag is not that of the part.")
        if any(len(session.parts[number]) < _LEAST_PART_BYTES for number in numbers[:-1]):
            raise Refusal(400, "INVALID_PARAMETER_VALUE", "EntityTooSmall: a part has less than 5 MiB.")
        self._write(path, b"".join(session.parts[number] for number in numbers), len(numbers))
        send(request, 200, b"{}")

    def _folder(self, request: BaseHTTPRequestHandler, path: str, given: dict[str, str]) -> None:
        place = self.place(path)
        if request.command == "PUT":
            place.mkdir(parents=True, exist_ok=True)
            send(request, 204, b"")
            return
        if not place.is_dir():
            raise Refusal(404, "NOT_FOUND", f"The directory {path} does not exist.")
        if request.command == "DELETE":
            if any(place.iterdir()):
                raise Refusal(400, "DIRECTORY_NOT_EMPTY", f"{path} is not empty.")
            place.rmdir()
            send(request, 204, b"")
        elif request.command == "HEAD":
            send(request, 200, b"")
        else:
            entries = sorted(place.iterdir())
            first = int(given.get("page_token") or 0)
            shown: dict[str, Any] = {"contents": [_entry(path, item) for item in entries[first : first + _PAGE]]}
            if first + _PAGE < len(entries):
                shown["next_page_token"] = str(first + _PAGE)
            send(request, 200, json.dumps(shown).encode())

    def _sign(self, request: BaseHTTPRequestHandler, route: str, given: dict[str, Any]) -> None:
        path = str(given["path"])
        place = self.place(path)
        if route == "create-upload-part-urls":
            if given["session_token"] not in self.sessions or given["start_part_number"] < 1 or given["count"] < 1:
                raise Refusal(400, "INVALID_PARAMETER_VALUE", "There is no such upload, or no such part.")
            numbers = range(given["start_part_number"], given["start_part_number"] + given["count"])
            urls = [{"part_number": number, **self._signed(path, given["session_token"], number)} for number in numbers]
            content: dict[str, Any] = {"upload_part_urls": urls}
        elif route == "create-upload-url":
            content = self._signed(path)
        elif route == "create-download-url":
            if not place.is_file():
                raise Refusal(404, "NOT_FOUND", f"The file {path} does not exist.")
            content = self._signed(path)
        else:
            raise Refusal(404, "ENDPOINT_NOT_FOUND", route)
        send(request, 200, json.dumps(content).encode())

    def _signed(self, path: str, session: str = "", part: int = 0) -> dict[str, Any]:
        key = secrets.token_hex(8)
        with self.lock:
            self.signed[key] = (path, session, part)
        return {"url": f"{self.url}/signed/{key}", "headers": []}

    def _write(self, path: str, content: bytes, parts: int) -> None:
        place = self.place(path)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
        with self.lock:
            self.sent.append((path, parts))

    def remove(self, root: str) -> None:
        self.roots.discard(root)
        shutil.rmtree(self.folder / root.lstrip("/"), ignore_errors=True)


def _entry(folder: str, item: Path) -> dict[str, Any]:
    known = {"path": f"{folder}/{item.name}", "name": item.name, "is_directory": item.is_dir()}
    return known if item.is_dir() else {**known, "file_size": item.stat().st_size}


def _etag(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


def _error(refusal: Refusal) -> bytes:
    return json.dumps({"error_code": refusal.code, "message": str(refusal)}).encode()
