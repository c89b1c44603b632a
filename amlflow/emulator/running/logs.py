"""A job's log files, on their way into blobs while they grow."""

from __future__ import annotations

import threading
from pathlib import Path

from amlflow.emulator.blobs import Blobs

_PERIOD_S = 0.3
_BLOCK = 4 << 20


class LogShipper:
    """Appends what is new in the files below a folder to blobs of the same names, until it is left."""

    def __init__(self, blobs: Blobs, container: str, prefix: str, folder: Path) -> None:
        self._blobs, self._container, self._prefix, self._folder = blobs, container, prefix, folder
        self._sent: dict[Path, int] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._ship, name="logs", daemon=True)

    def __enter__(self) -> LogShipper:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _ship(self) -> None:
        while not self._over.wait(_PERIOD_S):
            self._once()
        self._once()

    def _once(self) -> None:
        for file in sorted(item for item in self._folder.rglob("*") if item.is_file()):
            name = f"{self._prefix}/{file.relative_to(self._folder).as_posix()}"
            if file not in self._sent:
                self._sent[file] = 0
                self._blobs.begin_log(self._container, name)
            with file.open("rb") as source:
                source.seek(self._sent[file])
                while chunk := source.read(_BLOCK):
                    self._blobs.append_log(self._container, name, chunk)
                    self._sent[file] += len(chunk)
