"""Sends the files of one run: several at once, each checked on its way, and only those that are not there yet.

`files` of the ledger is the cursor up to which every file is there. Files beyond it that arrived earlier than the ones before
them are noted in `uploaded.jsonl`, and so is what was at the place of a large file before it was begun: after a crash neither is
sent again.
"""

from __future__ import annotations

import contextlib
import json
import posixpath
import tempfile
import threading
from collections import deque
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Deque, Dict, List, Mapping, NamedTuple, Optional, Set, Tuple

from . import models, records, segments
from .aside import Aside
from .crew import Crew
from .errors import Refused
from .folder import GENERAL, RunFolder
from .held import read_run
from .identities import Identities
from .ledger import Ledger, has_passed
from .rest import Behind
from .sinks import DAMAGED, ArtifactSink, Opener, SpoolFile, open_sink
from .stuck import Stopped, Stuck, stuck_by

# From this size on, what is there already is looked up rather than sent again.
_LARGE_BYTES = 8 << 20
_MOST_VERSIONS = 100
# How many files are under way or done ahead of the first that is not.
_WINDOW = 64


class _Upload(NamedTuple):
    """A file under way: its place among the artifacts, and where its record ends."""

    place: Tuple[str, str]
    position: segments.Position
    done: "Future[None]"


class Uploads:
    """The files of one run; use it while `RunFolder.draining`."""

    def __init__(
        self,
        folder: RunFolder,
        behind: Behind,
        ledger: Ledger,
        aside: Aside,
        identities: Identities,
        *,
        openers: Mapping[str, Opener],
        crew: Crew,
        stop: threading.Event,
    ) -> None:
        self._folder, self._behind, self._ledger = folder, behind, ledger
        self._aside, self._identities = aside, identities
        self._openers, self._crew, self._stop = openers, crew, stop
        self._reader = segments.Reader(folder.path, ledger.files)
        self._note = folder.path / "uploaded.jsonl"
        self._arrived: Set[str] = set()
        self._begun: Dict[str, Optional[int]] = {}
        self._sinks: Dict[str, ArtifactSink] = {}
        self._lock = threading.Lock()
        self._ahead: Deque[_Upload] = deque()
        self._awaited: Optional[segments.Position] = None
        self._recall()

    def work(self) -> None:
        """Upload all that is there, once the run is made. Raises `Stuck`, `Unreachable` or `Stopped`."""
        while not self._is_made():
            self._pause()
        while True:
            before = dict(self._reader.cursor)
            found = self._reader.find(records.FILE_PREFIX)
            if not found and before == self._reader.cursor:
                break
            self._upload([position for position, _ in found], records.decode([payload for _, payload in found]))
            self._ledger.acknowledge_files(dict(self._reader.cursor))
        self._reader.cursor = segments.passed_torn(self._folder.path, self._reader.cursor)
        self._ledger.acknowledge_files(dict(self._reader.cursor))
        self._forget()

    def put_aside(self) -> None:
        """Upload what is kept because the workspace cannot hold it otherwise."""
        if self._folder.id != GENERAL and self._aside.waiting():
            self._aside.upload(self._put_one_aside)

    # ------------------------------------------------------------------ in their order

    def _upload(self, positions: List[segments.Position], files: List[List[Any]]) -> None:
        last = {_place(record): index for index, record in enumerate(files)}
        try:
            for index, (position, record) in enumerate(zip(positions, files)):  # noqa: B905
                if last[_place(record)] != index:
                    # The same path comes again: only its last content matters.
                    self._remove(record[2])
                elif record[2] not in self._arrived:
                    while any(ahead.place == _place(record) for ahead in self._ahead) or len(self._ahead) >= _WINDOW:
                        self._settle_one()
                    if self._goes_to_a_model(record):
                        self._await_log(position)
                    work = self._crew.submit(self._put, record)
                    self._ahead.append(_Upload(_place(record), position, work))
            while self._ahead:
                self._settle_one()
        except BaseException:
            # Nothing may be under way any more when the lock is let go.
            for ahead in self._ahead:
                ahead.done.exception()
            self._ahead.clear()
            raise

    def _settle_one(self) -> None:
        first = self._ahead.popleft()
        first.done.result()
        cursor = {**self._ledger.files, first.position.segment: first.position.offset}
        self._ledger.acknowledge_files(cursor)

    def _await_log(self, position: segments.Position) -> None:
        """Where the files of a model go besides is known when the log has come to their records. Nothing else may wait for that:
        not the threads of the crew, which other runs need, and not the log for files that are behind this one."""
        while self._ahead:
            self._settle_one()
        self._awaited = position
        while self.awaits_log():
            self._pause()

    def awaits_log(self) -> bool:
        """Whether nothing is uploaded until more of the log is sent."""
        return self._awaited is not None and not has_passed(self._ledger.log, _cursor(self._awaited))

    def have_passed(self, cursor: segments.Cursor) -> bool:
        """Whether all files recorded up to it are uploaded."""
        if has_passed(self._ledger.files, cursor):
            return True
        return self.awaits_log() and self._awaited is not None and not has_passed(cursor, _cursor(self._awaited))

    # ------------------------------------------------------------------ one file, in a thread of the crew

    def _put(self, record: List[Any]) -> None:
        if self._stop.is_set():
            raise Stopped
        path, spooled = record[1:3]
        try:
            if fault := _fault(path):
                raise Refused(0, "INVALID_PARAMETER_VALUE", fault)
            try:
                self._put_everywhere(record)
            except Refused as refused:
                if not refused.lacks_route:
                    raise
                self._check_others_are_taken(record)
                # A proxy may have answered so while it had no server behind it.
                self._put_everywhere(record)
        except Refused as refused:
            stuck = stuck_by(refused)
            if stuck:
                raise stuck from refused
            with self._lock:
                self._aside.refuse(record, _of_file(path, refused), refused.code)
            return
        self._has_arrived(spooled)
        self._remove(spooled)

    def _put_everywhere(self, record: List[Any]) -> None:
        _, path, spooled, size_bytes, crc32 = record[:5]
        file = SpoolFile(self._folder.spool / spooled, posixpath.basename(path), size_bytes, crc32)
        for root, below in self._destinations(record):
            self._put_to(self._sink(root), below, file, spooled)

    def _check_others_are_taken(self, record: List[Any]) -> None:
        """Servers have no route for some names, such as those of two lines, and seem to take no artifacts then. What tells of
        refusals has a plain name, and follows once this is one. Raises `Stuck` where that is not taken either."""
        with self._lock:
            name, text = self._aside.refusals()
        root = self._root() if self._folder.id != GENERAL else record[5]
        with tempfile.TemporaryDirectory(prefix=".told-", dir=self._folder.path) as temporary:
            note = Path(temporary) / posixpath.basename(name)
            note.write_text(text, encoding="utf-8")
            try:
                self._sink(root).put(name, SpoolFile(note, note.name, note.stat().st_size, None))
            except Refused as again:
                stuck = stuck_by(again)
                if stuck or again.lacks_route:
                    raise stuck or Stuck("unreachable", f"The workspace takes no artifacts: {again}") from again

    def _put_to(self, sink: ArtifactSink, path: str, file: SpoolFile, spooled: str) -> None:
        if not file.path.exists():
            # It is removed once it has arrived; a crash may have kept that from being noted.
            if sink.size(path) == file.size_bytes:
                return
            raise Refused(0, DAMAGED, f"The copy of {path} that waited to be sent is gone.")
        if file.size_bytes >= _LARGE_BYTES:
            there = sink.size(path)
            if spooled in self._begun and there == file.size_bytes and self._begun[spooled] != there:
                return
            self._has_begun(spooled, there)
        sink.put(path, file)

    def _destinations(self, record: List[Any]) -> List[Tuple[str, str]]:
        """(artifact root, path below it) of each place that gets the file."""
        path = record[1]
        if len(record) > 5 and record[5]:
            return [(record[5], path)]
        found = [(self._root(), path)]
        name, _, below = path.partition("/")
        root = models.roots(self._folder).get(name) if self._goes_to_a_model(record) else None
        return [*found, (root, below)] if root else found

    def _goes_to_a_model(self, record: List[Any]) -> bool:
        name, _, below = record[1].partition("/")
        targeted = len(record) > 5 and record[5]
        return bool(below and not targeted and name in self._model_names())

    def _model_names(self) -> Set[str]:
        infos = [model.get("info", {}) for model in self._folder.journal.models()]
        return {info.get("name", "") for info in infos if info.get("source_run_id") == self._folder.id}

    def _put_one_aside(self, path: str, file: Path) -> None:
        """A service that keeps the first file of a path gets a later version under a name with a number."""
        sink, content = self._sink(self._root()), SpoolFile(file, file.name, file.stat().st_size, None)
        for number in range(1, _MOST_VERSIONS + 1):
            try:
                sink.put(numbered(path, number), content)
                return
            except Refused as refused:
                if refused.code != "RESOURCE_ALREADY_EXISTS" or number == _MOST_VERSIONS:
                    raise

    # ------------------------------------------------------------------ places

    def _is_made(self) -> bool:
        return not (self._folder.base() or {}).get("offline")

    def _root(self) -> str:
        base = self._folder.base() or {}
        root: str = base.get("run", {}).get("info", {}).get("artifact_uri", "")
        if not root and self._folder.id != GENERAL:
            root = read_run(self._behind, self._identities.real(self._folder.id))["info"].get("artifact_uri", "")
        if not root:
            raise Refused(0, "INVALID_PARAMETER_VALUE", "It is not known where its artifacts go.")
        return root

    def _sink(self, root: str) -> ArtifactSink:
        with self._lock:
            if root not in self._sinks:
                self._sinks[root] = open_sink(root, self._behind, self._openers)
            return self._sinks[root]

    def _pause(self) -> None:
        if self._stop.wait(0.02):
            raise Stopped

    # ------------------------------------------------------------------ what is remembered over a crash

    def _recall(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            for line in self._note.read_text(encoding="utf-8").splitlines():
                with contextlib.suppress(ValueError):
                    spooled, *before = json.loads(line)
                    if before:
                        self._begun[spooled] = before[0]
                    else:
                        self._arrived.add(spooled)

    def _has_arrived(self, spooled: str) -> None:
        self._append([spooled])

    def _has_begun(self, spooled: str, size_before: Optional[int]) -> None:
        if spooled not in self._begun:
            self._begun[spooled] = size_before
            self._append([spooled, size_before])

    def _append(self, line: List[Any]) -> None:
        # On a full disk the worst is that a file is sent again; and that it is sent makes room.
        with self._lock, contextlib.suppress(OSError), open(self._note, "a", encoding="utf-8") as note:
            note.write(json.dumps(line) + "\n")

    def _forget(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._note.unlink()
        self._arrived.clear()
        self._begun.clear()

    def _remove(self, spooled: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            (self._folder.spool / spooled).unlink()


def numbered(path: str, number: int) -> str:
    """`a/b.json`, `a/b.2.json`, …"""
    stem, suffix = posixpath.splitext(path)
    return path if number == 1 else f"{stem}.{number}{suffix}"


def _cursor(position: segments.Position) -> segments.Cursor:
    return {position.segment: position.offset}


def _place(record: List[Any]) -> Tuple[str, str]:
    return (record[5] if len(record) > 5 else "", record[1])


def _of_file(path: str, refused: Refused) -> str:
    return f"The file {path!r}: {refused.message}"


def _fault(path: str) -> str:
    """Why no sink is given a path; empty where it leads to a file of the run everywhere."""
    if "\\" in path:
        return "A backslash separates folders on some servers; no name that has one is sent."
    if not path or "\0" in path or any(part in ("", ".", "..") for part in path.split("/")):
        return "It leads out of the run's artifacts."
    return ""
