"""How far one run has been sent, as the two that send it (its log and its files) see it and the disk keeps it."""

from __future__ import annotations

import threading
from typing import Any, Dict, Optional

from .folder import RunFolder
from .segments import Cursor


class Ledger:
    """`log` and `files` are the acknowledged cursors; `sending` is set while it is open whether what lies between `log` and it
    has arrived."""

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        sent = folder.sent()
        self.log: Cursor = sent["log"]
        self.files: Cursor = sent["files"]
        self.sending: Optional[Cursor] = sent["sending"]

    def send(self, sending: Cursor) -> None:
        """Note what is about to be sent, before it is."""
        with self._lock:
            self.sending = sending
            self._write()

    def acknowledge(self, log: Cursor, whole: bool) -> None:
        """Remember what was acknowledged. The disk learns it with the next note: until then it only says too little."""
        with self._lock:
            self.log = log
            if whole:
                self.sending = None

    def acknowledge_files(self, files: Cursor) -> None:
        with self._lock:
            if files != self.files:
                self.files = files
                self._write()

    def write(self) -> None:
        with self._lock:
            self._write()

    def written_s(self) -> float:
        """When it was last noted, as an epoch; 0 for never."""
        try:
            return (self._folder.path / "sent.json").stat().st_mtime
        except OSError:
            return 0.0

    def _write(self) -> None:
        noted: Dict[str, Any] = {"log": self.log, "files": self.files, "sending": self.sending}
        self._folder.note_sent(noted)


def has_passed(cursor: Cursor, target: Cursor) -> bool:
    return all(cursor.get(number, 0) >= offset for number, offset in target.items())
