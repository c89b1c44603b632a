"""The emulator's resources: JSON documents by their ARM id, in one SQLite file."""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_SCHEMA = """
CREATE TABLE IF NOT EXISTS documents (
  id TEXT PRIMARY KEY, parent TEXT NOT NULL, name TEXT NOT NULL, body TEXT NOT NULL,
  created_by TEXT NOT NULL, created REAL NOT NULL, updated REAL NOT NULL);
CREATE INDEX IF NOT EXISTS documents_parent ON documents (parent, created);
"""


@dataclass(frozen=True, slots=True)
class Document:
    """`id` is the ARM id as it was first written; ids are told apart without regard to case. `created` and `updated` are epoch
    seconds."""

    id: str
    name: str
    body: dict[str, Any]
    created_by: str
    created: float
    updated: float


class Store:
    """One writer at a time; safe from every thread."""

    def __init__(self, file: Path) -> None:
        self._lock = threading.RLock()
        self._database = sqlite3.connect(file, check_same_thread=False, isolation_level=None)
        self._database.execute("PRAGMA journal_mode=WAL")
        self._database.execute("PRAGMA synchronous=NORMAL")
        self._database.executescript(_SCHEMA)
        file.chmod(0o600)

    def get(self, id: str) -> Document | None:
        with self._lock:
            row = self._database.execute(
                "SELECT body, created_by, created, updated FROM documents WHERE id = ?", (id.lower(),)
            ).fetchone()
        return _document(row) if row else None

    def children(self, parent: str) -> list[Document]:
        """What stands right below the collection's id, newest first."""
        with self._lock:
            rows = self._database.execute(
                "SELECT body, created_by, created, updated FROM documents WHERE parent = ? "
                "ORDER BY created DESC, rowid DESC",
                (parent.lower(),),
            ).fetchall()
        return [_document(row) for row in rows]

    def put(self, id: str, body: dict[str, Any], by: str = "") -> tuple[Document, bool]:
        """Write the document, new or in place of what is there. Also tells whether it is new."""
        now = time.time()
        parent, _, name = id.rpartition("/")
        with self._lock:
            before = self.get(id)
            shown = before.id if before else id
            created, author = (before.created, before.created_by) if before else (now, by)
            made = Document(shown, shown.rpartition("/")[2], body, author, created, now)
            self._database.execute(
                "INSERT INTO documents VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET "
                "body = excluded.body, updated = excluded.updated",
                (id.lower(), parent.lower(), name, _text(made), author, created, now),
            )
        return made, before is None

    def change(self, id: str, edit: Callable[[dict[str, Any]], None]) -> Document | None:
        """Edit the body in place, undisturbed by others; None where there is none."""
        with self._lock:
            before = self.get(id)
            if before is None:
                return None
            edit(before.body)
            return self.put(id, before.body)[0]

    def delete(self, id: str) -> bool:
        """Remove the document and all below it."""
        low = id.lower()
        with self._lock:
            self._database.execute("DELETE FROM documents WHERE substr(id, 1, ?) = ?", (len(low) + 1, f"{low}/"))
            return self._database.execute("DELETE FROM documents WHERE id = ?", (low,)).rowcount > 0

    @contextmanager
    def undisturbed(self) -> Iterator[None]:
        """A stretch in which no other thread changes anything."""
        with self._lock:
            yield

    def close(self) -> None:
        with self._lock:
            self._database.close()


def _text(document: Document) -> str:
    return json.dumps({"id": document.id, "body": document.body})


def _document(row: tuple[str, str, float, float]) -> Document:
    content = json.loads(row[0])
    return Document(content["id"], content["id"].rpartition("/")[2], content["body"], *row[1:])
