"""What goes along with a run on a cluster: its files in the workspace, and where they are too large for that, in a volume.

A file of the workspace has up to 10 MB when it is imported
(https://docs.databricks.com/api/workspace/workspace/import); more goes there in parts. A file of a volume has 5 GB, and more in
parts that the SDK makes (https://docs.databricks.com/api/workspace/files/upload).
"""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import BinaryIO

from amlflow.errors import AmlflowError, UsageError
from amlflow.workspaces.databricks.access import Access
from amlflow.workspaces.databricks.sdk import Sdk

FOLDER = ".amlflow"
SCRIPT = "run.py"
# A little less than what is taken, whichever way it is counted.
PART_BYTES = 9_000_000
_ARCHIVE = "project.zip"
_VOLUME = re.compile(r"(?:dbfs:)?(?P<path>/Volumes(?:/[^/]+){3,})/?")
# By how many digits the parts are sorted: 9 TB.
_DIGITS = 6


class Parcels:
    """`key` is the tracked run's id: each run has a folder of its own."""

    def __init__(self, access: Access) -> None:
        self._sdk = Sdk(access)

    def send(self, key: str, archive: BinaryIO, volume: str, report: Callable[[str], None]) -> str:
        """The folder in which a program of the cluster finds the archive, in one file or in parts whose names sort. `volume` is a
        folder below /Volumes; empty for the workspace's own files."""
        archive.seek(0)
        if volume:
            folder = f"{volume}/{FOLDER}/{key}"
            with self._sdk.explained(f"the folder {folder}"):
                self._sdk.ask(lambda: self._sdk.client.files.create_directory(folder))
                self._sdk.client.files.upload(f"{folder}/{_part(0)}", archive, overwrite=True)
            return folder
        number = sent = 0
        while content := archive.read(PART_BYTES):
            self.put(key, _part(number), content)
            number, sent = number + 1, sent + len(content)
            report(f"Sent {sent / 1e6:.0f} MB")
        return f"/Workspace{self._place(key)}"

    def put(self, key: str, name: str, content: bytes) -> str:
        """The path of a new file of the workspace."""
        from databricks.sdk.service.workspace import ImportFormat

        place = self._place(key)
        path = f"{place}/{name}"

        def upload() -> None:
            self._sdk.client.workspace.upload(path, io.BytesIO(content), format=ImportFormat.AUTO, overwrite=True)

        with self._sdk.explained(f"the file {path}"):
            self._sdk.ask(lambda: self._sdk.client.workspace.mkdirs(place))
            self._sdk.ask(upload)
        return path

    def remove(self, script: str, arguments: Sequence[str]) -> None:
        """What was sent for a run, by the path of its script and what its program was given; nothing outside of the folders that
        are the run's own, whoever has begun it. They may be gone, and who looks at somebody else's run may not remove them."""
        key, client = run_of(script), self._sdk.client
        if not key or _climbs(script):
            return
        with contextlib.suppress(AmlflowError), self._sdk.explained(script):
            client.workspace.delete(script.rpartition("/")[0], recursive=True)
        for folder in arguments:
            if not (_VOLUME.fullmatch(folder) and folder.endswith(f"/{FOLDER}/{key}")) or _climbs(folder):
                continue
            with contextlib.suppress(AmlflowError), self._sdk.explained(folder):
                for entry in client.files.list_directory_contents(folder):
                    client.files.delete(str(entry.path))
                client.files.delete_directory(folder)

    def forget(self, key: str, volume: str) -> None:
        """Of a run that was not begun."""
        self.remove(f"{self._place(key)}/{SCRIPT}", [f"{volume}/{FOLDER}/{key}"] if volume else [])

    def _place(self, key: str) -> str:
        return f"/Users/{self._user}/{FOLDER}/{key}"

    @cached_property
    def _user(self) -> str:
        with self._sdk.explained("the name of this account"):
            return str(self._sdk.ask(lambda: self._sdk.client.current_user.me()).user_name)


def run_of(script: str) -> str:
    """The key of the run whose script has this path; empty for a script of somebody else."""
    match = re.search(rf"/{re.escape(FOLDER)}/([0-9a-f]{{32}})/{re.escape(SCRIPT)}$", script)
    return match[1] if match else ""


def volume(asked: str) -> str:
    """The folder of a volume that was asked for. Raises `UsageError` for what is none."""
    if not asked:
        return ""
    match = _VOLUME.fullmatch(asked)
    if match is None or _climbs(asked):
        raise UsageError(
            f"{asked!r} is no folder of a volume.",
            "Write --upload-to /Volumes/CATALOG/SCHEMA/VOLUME, or a folder below it.",
        )
    return match["path"]


def _climbs(path: str) -> bool:
    return any(part in (".", "..") for part in path.split("/"))


def _part(number: int) -> str:
    return f"{_ARCHIVE}.{number:0{_DIGITS}d}"
