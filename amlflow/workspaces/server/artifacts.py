"""Artifacts that a tracking server keeps: through its own proxy, some files at a time. What it keeps elsewhere goes
through MLflow's repositories; what it keeps in folders is reached where the server is on this machine."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from amlflow import paths
from amlflow.errors import AmlflowError, NotFound, UsageError
from amlflow.journal.errors import Refused, Unreachable
from amlflow.journal.rest import RestServer
from amlflow.workspaces.base import Artifact
from amlflow.workspaces.local import artifacts as local
from amlflow.workspaces.server.client import NOT_THERE, Client, unavailable

_PROXY = "/api/2.0/mlflow-artifacts/artifacts"
_HERE = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class Proxied:
    """A folder below the server's artifact root."""

    path: str


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder of this machine."""

    path: Path


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """What MLflow's repositories know how to reach."""

    uri: str


class Artifacts:
    def __init__(self, client: Client, server: RestServer) -> None:
        self._client, self._server = client, server

    def entries(self, run_id: str, path: str) -> list[Artifact]:
        """The entries of one folder of a run, by name; empty for a file and for what is not there."""
        asked = _plain(path)
        body = {"run_id": run_id, **({"path": asked} if asked else {})}
        found: list[Artifact] = []
        token = ""
        while True:
            answer = self._client.call("GET", "artifacts/list", {**body, **({"page_token": token} if token else {})})
            for item in answer.get("files") or []:
                # Whole paths from the run's root; some stores answer with the file itself when a file is asked for.
                entry = _entry(item, str(item.get("path", "")))
                if entry.path != asked:
                    _check_below(entry.path, asked)
                    found.append(entry)
            following = str(answer.get("next_page_token") or "")
            if not following or following == token:
                return sorted(found, key=lambda item: item.path)
            token = following

    def keep(self, root_uri: str, file: Path, folder: str) -> None:
        """Keep a file, or a folder with all it holds, below `folder` of the root."""
        below = _plain(folder)
        place = self.place(root_uri)
        if isinstance(place, Folder):
            local.keep(place.path, file, folder)
        elif isinstance(place, Elsewhere):
            local.upload(_joined(place.uri, below), file)
        else:
            base = _joined(place.path, below)
            files = [(one, _joined(base, name)) for one, name in files_at(file)]
            self._client.each(lambda pair: self._upload(*pair), files)

    def copy_out(self, root_uri: str, path: str, destination: Path) -> Path:
        """Copy what stands at `path` below the root into the destination, under its own path; everything for an empty
        path. Raises `NotFound`."""
        asked = _plain(path)
        place = self.place(root_uri)
        if isinstance(place, Folder):
            return local.copy_out(place.path, path, destination)
        if isinstance(place, Elsewhere):
            # MLflow puts a file under its name alone.
            return local.download(_joined(place.uri, asked), (destination / asked).parent if asked else destination)
        if asked:
            parent, _, name = asked.rpartition("/")
            siblings = {item.path: item for item in self._listed(_joined(place.path, parent))}
            if name not in siblings:
                raise NotFound(f"The run has no artifact {path!r}.", name=name, known=siblings)
            if not siblings[name].is_dir:
                return self._download(_joined(place.path, asked), destination, asked)
        found = self.walk(place, asked)
        self._client.each(lambda file: self._download(_joined(place.path, file.path), destination, file.path), found)
        target = destination / asked if asked else destination
        target.mkdir(parents=True, exist_ok=True)
        return target

    def copy_files(self, root_uri: str, paths: Sequence[str], destination: Path) -> None:
        """Copy what is known to be files, without a look at what stands there. Raises `NotFound`."""
        place = self.place(root_uri)
        if isinstance(place, Proxied):
            asked = [_plain(path) for path in paths]
            self._client.each(lambda path: self._download(_joined(place.path, path), destination, path), asked)
        else:
            self._client.each(lambda path: self.copy_out(root_uri, path, destination), paths)

    def fetch(self, location: str) -> Path:
        """The folder that holds what is stored at a location: the folder itself where it is one of this machine, else a
        copy that is kept, and made again when the files there are others."""
        place = self.place(location)
        if isinstance(place, Folder):
            if not place.path.is_dir():
                raise NotFound(f"The model's folder {place.path} is gone.", "Register the model again.")
            return place.path
        name = hashlib.sha256(f"{self._server.url} {location}".encode()).hexdigest()[:32]
        kept = paths.cache() / "models" / name
        if isinstance(place, Elsewhere):
            return local.download(place.uri, kept)
        files = list(self.walk(place, ""))
        if not files:
            raise NotFound(f"{self._client.shown} holds no files at {location}.", "Log the model again.")
        if _is_copy(kept, files):
            return kept
        kept.parent.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=kept.parent))
        try:
            self._client.each(lambda file: self._download(_joined(place.path, file.path), fresh, file.path), files)
            _replace_folder(fresh, kept, lambda: _is_copy(kept, files))
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
        return kept

    def walk(self, place: Proxied, below: str) -> Iterator[Artifact]:
        """Every file at a place, by its path from there; a level of folders at a time."""
        folders = [below]
        while folders:
            levels = self._client.each(lambda folder: self._listed(_joined(place.path, folder)), folders)
            deeper = []
            for folder, entries in zip(folders, levels, strict=True):
                for entry in entries:
                    path = _joined(folder, entry.path)
                    if entry.is_dir:
                        deeper.append(path)
                    else:
                        yield Artifact(path, False, entry.size_bytes)
            folders = deeper

    def place(self, uri: str) -> Proxied | Folder | Elsewhere:
        """What a URI that the server names means from here. Raises `AmlflowError` for a folder of another machine."""
        folder = local.local_folder(uri)
        if folder is not None:
            if urlsplit(self._server.url).hostname in _HERE:
                return Folder(folder)
            raise AmlflowError(
                f"{self._client.shown} keeps these artifacts in a folder of its own machine ({folder}), which cannot be "
                "reached from here.",
                "Start the server with --serve-artifacts and an --artifacts-destination; it holds for new experiments.",
            )
        parts, own = urlsplit(uri), urlsplit(self._server.url)
        if parts.scheme == "mlflow-artifacts":
            if not parts.netloc or parts.netloc == own.netloc:
                return Proxied(_plain(parts.path))
            return Elsewhere(f"{own.scheme}://{parts.netloc}{_PROXY}{parts.path}")
        base = f"{self._server.url}{_PROXY}/"
        return Proxied(_plain(uri.removeprefix(base))) if uri.startswith(base) else Elsewhere(uri)

    def _listed(self, path: str) -> list[Artifact]:
        """The entries of a folder of the proxy, by their names."""
        try:
            answer = self._client.ask("GET", _PROXY, {"path": path})
        except Refused as error:
            if error.code == NOT_THERE:
                return []
            raise self._client.refused(error) from error
        found = []
        for item in answer.get("files") or []:
            name = str(item.get("path", "")).rstrip("/")
            if not name or "/" in name or "\\" in name or name in (".", ".."):
                raise _leads_out(name)
            found.append(_entry(item, name))
        # A store that has no folders answers with the file itself when a file is asked for.
        if len(found) == 1 and not found[0].is_dir and path.rpartition("/")[2] == found[0].path:
            return found if self._listed_as_folder(path) else []
        return sorted(found, key=lambda item: item.path)

    def _listed_as_folder(self, path: str) -> bool:
        parent, _, name = path.rpartition("/")
        answer = self._client.call("GET", _PROXY, {"path": parent})
        return any(item.get("path") == name and item.get("is_dir") for item in answer.get("files") or [])

    def _upload(self, file: Path, path: str) -> None:
        try:
            self._server.upload(f"{_PROXY}/{path}", file)
        except Refused as error:
            raise self._client.refused(error) from error
        except Unreachable as error:
            raise unavailable(error) from error
        except OSError as error:
            raise AmlflowError(f"{file} cannot be read: {error.strerror or error}.") from error

    def _download(self, path: str, destination: Path, below: str) -> Path:
        target = local.contained(destination, below)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            self._server.download(f"{_PROXY}/{path}", target)
        except Refused as error:
            raise self._client.refused(error) from error
        except Unreachable as error:
            raise unavailable(error) from error
        except OSError as error:
            raise AmlflowError(
                f"{target} cannot be written: {error.strerror or error}.",
                "Check that its folder may be written to and the disk has space.",
            ) from error
        return target


def _plain(path: str) -> str:
    """A path below a root, without slashes at its ends. Raises `UsageError` for one that leads out."""
    parts = PurePosixPath(path.replace("\\", "/").strip("/"))
    if ".." in parts.parts:
        raise UsageError(f"The artifact path {path!r} leads out of the run's artifacts.", "Give a path below them.")
    return "" if str(parts) == "." else str(parts)


def _check_below(path: str, folder: str) -> None:
    parts = PurePosixPath(path)
    if parts.is_absolute() or ".." in parts.parts or "\\" in path or (folder and not path.startswith(f"{folder}/")):
        raise _leads_out(path)


def _leads_out(path: str) -> AmlflowError:
    return AmlflowError(f"The server names an artifact {path!r}, which leads out of the folder that was asked for.")


def _entry(item: dict[str, object], path: str) -> Artifact:
    is_dir = bool(item.get("is_dir"))
    # MLflow leaves a size of 0 out of its answers.
    return Artifact(path, is_dir, None if is_dir else int(str(item.get("file_size") or 0)))


def files_at(file: Path) -> list[tuple[Path, str]]:
    """A file, or every file of a folder, with the path that it is kept under."""
    if not file.is_dir():
        return [(file, file.name)]
    found = []
    name = file.resolve().name if file.name in ("", "..") else file.name
    for folder, _, names in os.walk(file):
        for one in sorted(names):
            path = Path(folder) / one
            found.append((path, f"{name}/{path.relative_to(file).as_posix()}"))
    return found


def _joined(root: str, path: str) -> str:
    return f"{root}/{path}".strip("/") if path else root


def _is_copy(folder: Path, files: list[Artifact]) -> bool:
    """Whether the folder holds these files, of these sizes, and no others."""
    held = {path.relative_to(folder).as_posix(): path.stat().st_size for path in folder.rglob("*") if path.is_file()}
    return held == {file.path: file.size_bytes for file in files}


def _replace_folder(fresh: Path, kept: Path, is_there: Callable[[], bool]) -> None:
    """Put a whole folder in the place of an older one. Another process may do the same at the same moment."""
    if kept.exists():
        old = Path(tempfile.mkdtemp(prefix=".old-", dir=kept.parent))
        with contextlib.suppress(FileNotFoundError):
            kept.rename(old / "folder")
        shutil.rmtree(old, ignore_errors=True)
    fresh.chmod(0o755)
    try:
        fresh.rename(kept)
    except OSError:
        if not is_there():
            raise
