"""Which files of a run or a logged model its copy lacks: by their sizes, and where these are equal by what they hold.

What was sent is noted with its digest, so that nothing large is fetched to be compared. A file that is on this machine is read
again once it was written since; of one that is not, only a small one is fetched.
"""

from __future__ import annotations

import hashlib
import tempfile
import time
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass
from pathlib import Path

from amlflow.services.copying.ends import Ledger, Sent, Stamp

# Of what is not on this machine: the size of a file in bytes, and how many files, that are fetched to be compared.
_SMALL_BYTES, _MOST_FETCHED = 1 << 20, 100
# A file that was written this recently may be written again with the same times.
_FRESH_NS = 2_000_000_000
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Side:
    """The files at one end, by path. `root` is their folder where it is one of this machine; `fetch(path, folder)` brings one
    into a folder and returns it."""

    sizes: Mapping[str, int | None]
    root: Path | None
    fetch: Callable[[str, Path], Path]

    def here(self, path: str) -> Path | None:
        """A file that can be read without a transfer."""
        file = self.root / path if self.root is not None else None
        return file if file is not None and file.is_file() else None

    def stamp(self, path: str) -> Stamp | None:
        """When a file of this machine was written, in nanoseconds; None where that says nothing of what it holds."""
        file = self.here(path)
        if file is None:
            return None
        found = file.stat()
        times = (found.st_mtime_ns, found.st_ctime_ns)
        return times if time.time_ns() - max(times) > _FRESH_NS else None


class Comparison:
    """The files of one source and its copy. `refused` are path and size of what the target did not take."""

    def __init__(
        self, source: Side, target: Side, refused: Set[tuple[str, int | None]], ledger: Ledger, copy_id: str
    ) -> None:
        self._source, self._target, self._refused = source, target, refused
        self._ledger, self._copy_id = ledger, copy_id
        self._sent = ledger.sent(copy_id)
        self._stamps = {path: source.stamp(path) for path in source.sizes}
        self._fetched = 0

    def lacking(self) -> list[str]:
        """The paths of what the copy does not hold."""
        found = [path for path in self._source.sizes if not self._is_held(path)]
        self._ledger.note_sent(self._copy_id, self._sent)
        return found

    def note(self, files: Mapping[str, Path]) -> None:
        """What was handed over for the target, each with a file of the same content."""
        for path, file in files.items():
            self._sent[path] = Sent(_digest(file), self._stamps.get(path), self._target.stamp(path))
        self._ledger.note_sent(self._copy_id, self._sent)

    def _is_held(self, path: str) -> bool:
        size = self._source.sizes[path]
        is_there = path in self._target.sizes and self._target.sizes[path] == size
        if not is_there and (path, size) not in self._refused and not self._may_be_renamed(path):
            return False
        sent = self._sent.get(path)
        stamps = self._stamps[path], self._target.stamp(path)
        there = self._held(path, sent, stamps[1])
        mine = self._content(self._source, path, sent.digest if sent and _is_same(sent.here, stamps[0]) else "")
        if not mine or not there:
            # Too large to be fetched for a comparison.
            return True
        if mine == there:
            self._sent[path] = Sent(mine, *stamps)
        return mine == there

    def _may_be_renamed(self, path: str) -> bool:
        """Whether a server may have what was sent under another name: they decode percent signs, and drop or escape others."""
        is_told = path in self._sent and path not in self._target.sizes and self._target.root is None
        return is_told and (any(sign in path for sign in "%?;") or not path.isprintable())

    def _held(self, path: str, sent: Sent | None, stamp: Stamp | None) -> str:
        """The digest of what the copy holds: what was sent there, unless somebody wrote it since, as a folder tells."""
        is_known = sent is not None and (self._target.here(path) is None or _is_same(sent.there, stamp))
        known = sent.digest if sent is not None and is_known else ""
        return self._content(self._target, path, known) if known or path in self._target.sizes else ""

    def _content(self, side: Side, path: str, known: str) -> str:
        """The digest of a file, empty where it would have to be fetched and is not small."""
        if known:
            return known
        file = side.here(path)
        if file is not None:
            return _digest(file)
        size = side.sizes[path]
        if size is None or size > _SMALL_BYTES or self._fetched >= _MOST_FETCHED:
            return ""
        self._fetched += 1
        with tempfile.TemporaryDirectory(prefix="amlflow-") as temporary:
            return _digest(side.fetch(path, Path(temporary)))


def _is_same(noted: Stamp | None, found: Stamp | None) -> bool:
    return noted is not None and noted == found


def _digest(file: Path) -> str:
    found = hashlib.sha256()
    with file.open("rb") as content:
        while chunk := content.read(_CHUNK_BYTES):
            found.update(chunk)
    return found.hexdigest()
