"""This machine as the one compute of a local workspace, and its artifact folder as the one datastore."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from amlflow.errors import AmlflowError, NotFound, NotSupported
from amlflow.workspaces.abilities import Compute, ComputeSpec, Datastore, Progress, StoredFile

COMPUTE_NAME = "local"
DATASTORE_NAME = "artifacts"
_COMPUTE_ADVICE = "Name an Azure ML workspace with -w."


class LocalComputes:
    def list(self) -> list[Compute]:
        return [self.get(COMPUTE_NAME)]

    def get(self, name: str) -> Compute:
        if name != COMPUTE_NAME:
            raise NotFound(
                f"There is no compute {name!r}: a local workspace has this machine alone.",
                _COMPUTE_ADVICE,
                name=name,
                known=[COMPUTE_NAME],
            )
        import psutil

        memory_gb = psutil.virtual_memory().total / 1e9
        size = f"{os.cpu_count() or 1} cores, {memory_gb:.0f} GB"
        return Compute(COMPUTE_NAME, "machine", "Running", size, location=platform.node())

    def create(self, spec: ComputeSpec, report: Callable[[str], None]) -> Compute:
        raise self._fixed("gets no other compute")

    def attach(self, name: str, cluster: str, namespace: str, report: Callable[[str], None]) -> Compute:
        raise self._fixed("gets no other compute")

    def start(self, name: str, report: Callable[[str], None]) -> Compute:
        return self.get(name)

    def stop(self, name: str, report: Callable[[str], None]) -> Compute:
        raise self._fixed("does not stop the machine that it is on")

    def delete(self, name: str, report: Callable[[str], None]) -> None:
        raise self._fixed("keeps the machine that it is on")

    @staticmethod
    def _fixed(what: str) -> NotSupported:
        return NotSupported(f"A local workspace {what}.", _COMPUTE_ADVICE)


class LocalDatastores:
    """`root` is the folder of the workspace's artifacts."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def list(self) -> list[Datastore]:
        return [self.get(DATASTORE_NAME)]

    def get(self, name: str) -> Datastore:
        if name not in ("", DATASTORE_NAME):
            raise NotFound(
                f"There is no datastore {name!r}: a local workspace has {DATASTORE_NAME!r} alone.",
                name=name,
                known=[DATASTORE_NAME],
            )
        return Datastore(DATASTORE_NAME, "folder", True, str(self._root), f"{self._root.as_uri()}/")

    def files(self, name: str, path: str, recursive: bool = False) -> Iterator[StoredFile]:
        self.get(name)
        place = self._place(path)
        if place.is_file():
            yield self._stored(place)
            return
        if not place.is_dir():
            if path.strip("/"):
                raise self._nothing(path)
            return
        found = place.rglob("*") if recursive else place.iterdir()
        for item in sorted(found):
            if not recursive or item.is_file():
                yield self._stored(item)

    def upload(self, name: str, source: Path, path: str, progress: Progress) -> int:
        self.get(name)
        if not source.exists():
            raise NotFound(
                f"There is no file or folder {str(source)!r}.", "A relative path begins in the current folder."
            )
        target = self._place(path)
        if source.is_file() and (path.endswith("/") or not path or target.is_dir()):
            target = target / source.name
        return _copied(source, target, progress)

    def download(self, name: str, path: str, destination: Path, progress: Progress) -> int:
        self.get(name)
        place = self._place(path)
        if not place.exists() or (place.is_dir() and not any(place.rglob("*"))):
            raise self._nothing(path)
        return _copied(place, destination / place.name if place.is_file() else destination, progress)

    def _place(self, path: str) -> Path:
        place = self._root.joinpath(*path.strip("/").split("/"))
        if not place.resolve().is_relative_to(self._root.resolve()):
            raise AmlflowError(f"The path {path!r} leads out of the datastore.", "Give one below it.")
        return place

    def _stored(self, item: Path) -> StoredFile:
        relative = item.relative_to(self._root).as_posix()
        if item.is_dir():
            return StoredFile(relative, True)
        facts = item.stat()
        return StoredFile(relative, False, facts.st_size, facts.st_mtime_ns // 1_000_000)

    @staticmethod
    def _nothing(path: str) -> NotFound:
        return NotFound(
            f"There is nothing at {path!r} in datastore {DATASTORE_NAME!r}.",
            "`amlflow datastore ls` shows what there is.",
        )


def _copied(source: Path, target: Path, progress: Progress) -> int:
    """Copy a file or folder; a file of the same size and time is there already. Returns the number that were copied."""
    pairs = [(source, target)]
    if source.is_dir():
        pairs = [(item, target / item.relative_to(source)) for item in sorted(source.rglob("*")) if item.is_file()]
    total, done, count = sum(item.stat().st_size for item, _ in pairs), 0, 0
    for item, place in pairs:
        facts = item.stat()
        there = place.stat() if place.is_file() else None
        if there is None or (there.st_size, there.st_mtime_ns) != (facts.st_size, facts.st_mtime_ns):
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(item, place)
            count += 1
        done += facts.st_size
        progress(done, total)
    return count
