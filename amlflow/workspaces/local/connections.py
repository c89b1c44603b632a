"""Kept connections to the SQLite file, for those who ask many times from many threads."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

from amlflow.workspaces.local import database

_KEPT = 8


class Connections:
    """A stock of open connections, each used by one thread at a time. Safe in many threads, and after a fork (a child
    opens its own)."""

    def __init__(self, file: Path) -> None:
        self._file, self._idle, self._lock, self._pid = file, list[sqlite3.Connection](), threading.Lock(), os.getpid()

    @contextlib.contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """One state of the database for all that is read. Raises `AmlflowError`."""
        with self._transaction("BEGIN", "read") as connection:
            yield connection

    @contextlib.contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """One transaction: committed at the end, rolled back on any exception; writers wait for each other. Raises
        `AmlflowError`."""
        with self._transaction("BEGIN IMMEDIATE", "written") as connection:
            yield connection

    def close(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    @contextlib.contextmanager
    def _transaction(self, begin: str, done: str) -> Iterator[sqlite3.Connection]:
        with database.explained(self._file, done):
            connection = self._take()
            try:
                connection.execute(begin)
                try:
                    yield connection
                except BaseException:
                    with contextlib.suppress(sqlite3.Error):
                        connection.execute("ROLLBACK")
                    raise
                connection.execute("COMMIT")
            except BaseException:
                # Whatever state it is in, nobody is to meet it.
                if connection.in_transaction:
                    connection.close()
                    raise
                self._give(connection)
                raise
            self._give(connection)

    def _take(self) -> sqlite3.Connection:
        with self._lock:
            if self._pid != os.getpid():
                # SQLite forbids a connection in a forked child, and also its closing there.
                _abandoned.extend(self._idle)
                self._idle, self._pid = [], os.getpid()
            if self._idle:
                return self._idle.pop()
        return database.connected(self._file)

    def _give(self, connection: sqlite3.Connection) -> None:
        with self._lock:
            if len(self._idle) < _KEPT:
                self._idle.append(connection)
                return
        connection.close()


_abandoned: list[sqlite3.Connection] = []
