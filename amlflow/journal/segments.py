"""The append-only files of one run's journal: any number of processes and threads write, one drainer reads and removes.

Appending to one file needs no lock: the system gives each `write` to a file that was opened for appending its own place. Whoever
writes holds a shared lock on the segment that it has open; a segment that can be locked alone has no writer any more.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
import weakref
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, Iterator, List, NamedTuple, Optional, Tuple

from . import records

try:
    import fcntl
except ImportError:  # Windows: segments are written as well, and not removed.
    fcntl = None  # type: ignore[assignment]

SEGMENT_BYTES = 64 << 20
_READ_BYTES = 4 << 20
_SUFFIX = ".log"
DURABILITIES = ("process", "second", "write")


class Position(NamedTuple):
    """A place in a journal: the number of a segment, and the offset in it in bytes."""

    segment: int
    offset: int


# How far each segment has been dealt with: number -> offset in bytes. Several are open at once while writers move on.
Cursor = Dict[int, int]


class Writer:
    """Appends records, each by one `write`, which is on its way when the call returns: a killed process loses nothing.

    `durability` says when the disk must have it: `process` leaves that to the system, `second` syncs once a second, `write`
    syncs every record. Raises `OSError` where the disk is full or gone; that record then counts as not written."""

    def __init__(
        self,
        folder: Path,
        durability: str = "process",
        limit_bytes: int = SEGMENT_BYTES,
        make: Optional[Callable[[], None]] = None,
    ) -> None:
        self._folder, self._durability, self._limit = folder, durability, limit_bytes
        self._make = make or (lambda: folder.mkdir(parents=True, exist_ok=True))
        self._fd = -1
        self._room = 0
        self._synced = 0.0
        self._lock = threading.Lock()
        _WRITERS.add(self)

    def append(self, record: List[Any]) -> None:
        self.write(records.encode(record))

    def extend(self, many: Iterable[List[Any]]) -> None:
        """Several records by one `write`."""
        self.write(b"".join([records.encode(record) for record in many]))

    def write(self, data: bytes) -> None:
        if not data:
            return
        with self._lock:
            if self._room < len(data):
                self._turn()
            written = os.write(self._fd, data)
            self._room -= len(data)
            if written != len(data):
                # The system takes part of a write only where the disk is full; the torn record is skipped by readers.
                written += os.write(self._fd, data[written:])
                if written != len(data):
                    raise OSError(28, "No space left on device", str(self._folder))
            if self._durability != "process":
                self._sync()

    def flush(self) -> None:
        """Make the disk have all that was written."""
        with self._lock:
            if self._fd >= 0:
                os.fsync(self._fd)

    def close(self) -> None:
        with self._lock:
            if self._fd >= 0:
                os.close(self._fd)
            self._fd, self._room = -1, 0

    def _sync(self) -> None:
        now = time.monotonic()
        if self._durability == "write" or now - self._synced >= 1.0:
            os.fsync(self._fd)
            self._synced = now

    def _turn(self) -> None:
        """Open the newest segment, or make the next one where that is full. A number is never given twice: the newest segment is
        never removed but with its folder."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        while True:
            present = numbers(self._folder)
            number = present[-1] if present else 0
            fd, size = self._open(number, 0) if present else (-1, self._limit)
            if fd >= 0 and size >= self._limit:
                os.close(fd)
                fd = -1
            if fd < 0 and size >= self._limit:
                fd, size = self._open(number + 1, os.O_CREAT | os.O_EXCL)
            if fd >= 0:
                break
        # Others may write to it too, so its size is looked at again after every quarter of what it may hold.
        self._fd, self._room = fd, max(self._limit // 4, 1)

    def _open(self, number: int, flags: int) -> Tuple[int, int]:
        """A descriptor that keeps the segment from removal, and the size; (-1, 0) where somebody else was faster."""
        path = segment(self._folder, number)
        flags |= os.O_WRONLY | os.O_APPEND | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
        try:
            fd = os.open(path, flags, 0o600)
        except FileExistsError:
            return -1, 0
        except FileNotFoundError:
            self._make()
            return -1, 0
        if fcntl is not None:
            fcntl.flock(fd, fcntl.LOCK_SH)
        try:
            if os.path.samestat(os.fstat(fd), os.stat(path)):
                return fd, os.fstat(fd).st_size
        except FileNotFoundError:
            pass
        os.close(fd)
        return -1, 0

    def _forked(self) -> None:
        """In the child of a fork: a lock that was held elsewhere, and the parent's descriptor, are not its own."""
        self._lock = threading.Lock()
        if self._fd >= 0:
            os.close(self._fd)
        self._fd, self._room = -1, 0


_WRITERS: "weakref.WeakSet[Writer]" = weakref.WeakSet()


def _after_fork() -> None:
    for writer in list(_WRITERS):
        writer._forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def segment(folder: Path, number: int) -> Path:
    return folder / f"{number:08d}{_SUFFIX}"


def numbers(folder: Path) -> List[int]:
    """The segments that are there, lowest first."""
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return []
    return sorted(int(name[: -len(_SUFFIX)]) for name in names if name.endswith(_SUFFIX) and name[:8].isdigit())


class Reader:
    """Reads on from a cursor. `torn` counts the lines whose checksum did not fit."""

    def __init__(self, folder: Path, cursor: Optional[Cursor] = None) -> None:
        self._folder, self.cursor, self.torn = folder, dict(cursor or {}), 0

    def read(self, most_bytes: int = _READ_BYTES) -> List[Tuple[Position, bytes]]:
        """Records that were written since, each with the position after it; empty where there is nothing new. What one process
        wrote comes in the order of its writing."""
        return [
            (Position(number, end), payload)
            for number, ends, payloads in self.read_columns(most_bytes)
            for end, payload in zip(ends, payloads)  # noqa: B905  not in Python 3.8
        ]

    def read_columns(self, most_bytes: int = _READ_BYTES) -> List[Tuple[int, List[int], List[bytes]]]:
        """As `read`, by segment: its number, the offsets after its records, and their JSON. It makes few objects."""
        found: List[Tuple[int, List[int], List[bytes]]] = []
        for number, size in sorted(sizes(self._folder).items()):
            offset = self.cursor.get(number, 0)
            if size <= offset:
                continue
            try:
                data = self._read_one(number, offset, size, most_bytes)
            except FileNotFoundError:
                continue
            ends, payloads, whole, torn = records.split(data, offset)
            self.torn += torn
            if ends:
                found.append((number, ends, payloads))
            self.cursor[number] = whole
            most_bytes -= len(data)
            if most_bytes <= 0 or offset + len(data) < size:
                break
        return found

    def find(self, prefix: bytes, most_bytes: int = _READ_BYTES) -> List[Tuple[Position, bytes]]:
        """As `read`, only those whose JSON begins with `prefix`, and without looking at the others. The cursor moves over all;
        it is at its end when nothing is found and it did not move."""
        found: List[Tuple[Position, bytes]] = []
        for number, size in sorted(sizes(self._folder).items()):
            offset = self.cursor.get(number, 0)
            if size <= offset:
                continue
            try:
                data = self._read_one(number, offset, size, most_bytes)
            except FileNotFoundError:
                continue
            whole = data.rfind(b"\n") + 1
            if data.find(b" " + prefix, 0, whole) >= 0:
                ends, payloads, _, _ = records.split(data, offset)
                found += [
                    (Position(number, end), payload)
                    for end, payload in zip(ends, payloads)  # noqa: B905  not in Python 3.8
                    if payload.startswith(prefix)
                ]
            self.cursor[number] = offset + whole
            most_bytes -= len(data)
            if most_bytes <= 0 or offset + len(data) < size:
                break
        return found

    def _read_one(self, number: int, offset: int, size: int, most_bytes: int) -> bytes:
        with open(segment(self._folder, number), "rb") as source:
            source.seek(offset)
            data = source.read(min(size - offset, most_bytes))
            # A record longer than what is read at once is read whole.
            while data.rfind(b"\n", 1) < 0 and offset + len(data) < size:
                data += source.read(min(size - offset - len(data), most_bytes))
        return data


def sizes(folder: Path) -> Cursor:
    """The size of each segment in bytes, the newest looked at first: a process that went on to a newer segment has written to
    the older ones before, so what is within these sizes is in order."""
    found: Cursor = {}
    for number in reversed(numbers(folder)):
        with contextlib.suppress(FileNotFoundError):
            found[number] = segment(folder, number).stat().st_size
    return found


def pending_bytes(folder: Path, cursor: Cursor) -> int:
    """How much stands behind the cursor."""
    return sum(max(0, size - cursor.get(number, 0)) for number, size in sizes(folder).items())


def remove_read(folder: Path, cursor: Cursor) -> None:
    """Remove the segments that the cursor has passed and that have no writer; never the newest, and never one that holds a record
    which the cursor has not passed."""
    for number in numbers(folder)[:-1]:
        path = segment(folder, number)
        fd = _alone(path)
        if fd >= 0:
            if os.fstat(fd).st_size <= cursor.get(number, 0):
                path.unlink()
            os.close(fd)


def passed_torn(folder: Path, cursor: Cursor) -> Cursor:
    """The cursor moved behind what a killed writer left half written at a segment's end, where nobody writes to it any more."""
    passed = dict(cursor)
    for number, size in sizes(folder).items():
        if size > cursor.get(number, 0):
            path = segment(folder, number)
            fd = _alone(path)
            if fd >= 0:
                with open(path, "rb") as source:
                    source.seek(cursor.get(number, 0))
                    rest = source.read(_READ_BYTES)
                if b"\n" not in rest[1:] and os.fstat(fd).st_size == cursor.get(number, 0) + len(rest):
                    passed[number] = cursor.get(number, 0) + len(rest)
                os.close(fd)
    return passed


@contextlib.contextmanager
def unwritten(folder: Path, cursor: Cursor) -> Iterator[bool]:
    """Whether nobody writes to any segment and the cursor has passed them all; it stays so until the block is left."""
    held = []
    try:
        for number in numbers(folder):
            fd = _alone(segment(folder, number))
            if fd < 0:
                yield False
                return
            held.append(fd)
            if os.fstat(fd).st_size > cursor.get(number, 0):
                yield False
                return
        yield fcntl is not None
    finally:
        for fd in held:
            os.close(fd)


def _alone(path: Path) -> int:
    """A descriptor with the segment locked against writers; -1 where it has one."""
    if fcntl is None:
        return -1
    try:
        fd = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return -1
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(fd)
        return -1
    return fd
