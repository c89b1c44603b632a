"""Which files of a run or a logged model its copy lacks: by their sizes, and where these are equal by what they hold.

What was sent is noted with its digest, so that nothing large is fetched to be compared. A file that is on this machine is read
again once it was written since; of one that is not, only a small one is fetched.
"""

from __future__ import annotations

import hashlib
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

from amlflow.services.copying.ends import Ledger, Sent, Stamp

# Of what is not on this machine: the size of a file in bytes, and how many files of each side, that are fetched to be compared.
_SMALL_BYTES, _MOST_FETCHED = 1 << 20, 100
# A file that was written this recently may be written again with the same times.
_FRESH_NS = 2_000_000_000
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Side:
    """The files at one end, by path. `root` is their folder where it is one of this machine; `fetch(paths, folder)` brings
    some to this machine, and returns where each is."""

    sizes: Mapping[str, int | None]
    root: Path | None
    fetch: Callable[[Sequence[str], Path], Mapping[str, Path]]

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

    def lacking(self) -> list[str]:
        """The paths of what the copy does not hold."""
        likely = [path for path in self._source.sizes if self._may_be_held(path)]
        stamps = {path: self._target.stamp(path) for path in likely}
        sent = {path: self._sent_there(path, stamps[path]) for path in likely}
        there = _digests(
            self._target, {path: known for path, known in sent.items() if known or path in self._target.sizes}
        )
        mine = _digests(self._source, {path: self._sent_from_here(path) for path in there})
        # What is in neither is too large to be fetched for a comparison.
        changed = {path for path, digest in mine.items() if digest != there[path]}
        for path in mine.keys() - changed:
            self._sent[path] = Sent(mine[path], self._stamps[path], stamps[path])
        self._ledger.note_sent(self._copy_id, self._sent)
        held = set(likely) - changed
        return [path for path in self._source.sizes if path not in held]

    def note(self, files: Mapping[str, Path]) -> None:
        """What was handed over for the target, each with a file of the same content."""
        for path, file in files.items():
            self._sent[path] = Sent(_digest(file), self._stamps.get(path), self._target.stamp(path))
        self._ledger.note_sent(self._copy_id, self._sent)

    def _may_be_held(self, path: str) -> bool:
        size = self._source.sizes[path]
        is_there = path in self._target.sizes and self._target.sizes[path] == size
        return is_there or (path, size) in self._refused or self._may_be_renamed(path)

    def _may_be_renamed(self, path: str) -> bool:
        """Whether a server may have what was sent under another name: they decode percent signs, and drop or escape others."""
        is_told = path in self._sent and path not in self._target.sizes and self._target.root is None
        return is_told and (any(sign in path for sign in "%?;") or not path.isprintable())

    def _sent_there(self, path: str, stamp: Stamp | None) -> str:
        """The digest of what was sent to the copy, empty where somebody may have written it since, as a folder tells."""
        sent = self._sent.get(path)
        is_known = sent is not None and (self._target.here(path) is None or _is_same(sent.there, stamp))
        return sent.digest if sent is not None and is_known else ""

    def _sent_from_here(self, path: str) -> str:
        """The digest of what was sent of the source, empty where it may have been written since."""
        sent = self._sent.get(path)
        return sent.digest if sent is not None and _is_same(sent.here, self._stamps[path]) else ""


def _digests(side: Side, known: Mapping[str, str]) -> dict[str, str]:
    """The digest of each file, as it is known where that is not empty; without those that would have to be fetched and are not
    small, or too many. All that are fetched are so at once."""
    found: dict[str, str] = {}
    away: list[str] = []
    for path, digest in known.items():
        file, size = side.here(path), side.sizes.get(path)
        if digest:
            found[path] = digest
        elif file is not None:
            found[path] = _digest(file)
        elif size is not None and size <= _SMALL_BYTES:
            away.append(path)
    if away:
        with tempfile.TemporaryDirectory(prefix="amlflow-") as temporary:
            fetched = side.fetch(away[:_MOST_FETCHED], Path(temporary))
            found |= {path: _digest(file) for path, file in fetched.items()}
    return found


def _is_same(noted: Stamp | None, found: Stamp | None) -> bool:
    return noted is not None and noted == found


def _digest(file: Path) -> str:
    found = hashlib.sha256()
    with file.open("rb") as content:
        while chunk := content.read(_CHUNK_BYTES):
            found.update(chunk)
    return found.hexdigest()
