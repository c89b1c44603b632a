"""Where journals live: one folder for a workspace, in it one folder a run, and what is remembered of both.

workspace.json            which workspace this journal goes to: {"workspace": what `-w` takes}
ids/LOCAL_ID              the id that the workspace gave to what was made while it could not be reached
models/MODEL_ID.json      logged models of MLflow 3 that the workspace itself cannot hold
experiments.json          the experiments that were seen: {name: {"experiment_id", "artifact_location"}}
runs/RUN_ID/
  run.json                the run as it was when its journal was begun
  NUMBER.log              segments
  spool/                  files that wait to be uploaded
  drain.lock              held by whoever sends; there is never more than one
  sent.json               how far has been sent
  problem.json            why it goes no further, while it does not
  refused.jsonl           what the workspace refused for good
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional

from . import segments
from .segments import Cursor

try:
    import fcntl
except ImportError:
    fcntl = None  # type: ignore[assignment]

# The journal of what belongs to no run, such as traces and tags of experiments.
GENERAL = "_general"
# What is noted of the sending is filled up to a multiple of this, so that one note fits into the place of another.
_NOTE_BYTES = 512
# The run that a program stands in, for everything that it starts.
RUN_VARIABLE = "AMLFLOW_RUN"


class Journal:
    """The journal of one workspace on this machine."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def begin(self, workspace: str) -> None:
        """Make the folder, and note what the workspace is called; only its owner may look into it."""
        self._make()
        file = self.root / "workspace.json"
        if not file.exists():
            write_json(file, {"workspace": workspace})

    def workspace(self) -> str:
        return str((read_json(self.root / "workspace.json") or {}).get("workspace", ""))

    def run(self, run_id: str) -> RunFolder:
        return RunFolder(self, run_id)

    def under(self, run_id: str) -> List[str]:
        """The runs whose journals were begun by a program that stands in this one, and those in them."""
        found = [run_id]
        runs = [(run.id, (run.base() or {}).get("under", "")) for run in self.runs()]
        for above in found:
            found += [run for run, under in runs if under == above and run not in found]
        return found[1:]

    def runs(self) -> List[RunFolder]:
        """The runs that have a journal, oldest first."""
        folder = self.root / "runs"
        # Names with a dot before them are of journals that are being removed.
        names = [entry.name for entry in folder.iterdir() if entry.name[0] != "."] if folder.is_dir() else []
        found = [RunFolder(self, name) for name in names]
        return sorted(found, key=lambda run: ((run.base() or {}).get("begun_ms", 0), run.id))

    def real_id(self, local_id: str) -> str:
        """The workspace's own id for one that was given here; itself where there is none."""
        try:
            return (self.root / "ids" / _checked(local_id)).read_text(encoding="ascii").strip() or local_id
        except (OSError, ValueError):
            return local_id

    def map_id(self, local_id: str, real_id: str) -> None:
        folder = self.root / "ids"
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_text(folder / _checked(local_id), real_id)

    def mapped_ids(self) -> Dict[str, str]:
        """Every id that was given here and has become another."""
        folder = self.root / "ids"
        return {file.name: self.real_id(file.name) for file in folder.iterdir()} if folder.is_dir() else {}

    def model(self, model_id: str) -> Optional[Dict[str, Any]]:
        """A logged model that is kept here, as MLflow's REST API shows it."""
        with contextlib.suppress(ValueError):
            return read_json(self.root / "models" / f"{_checked(model_id)}.json")
        return None

    def models(self) -> List[Dict[str, Any]]:
        folder = self.root / "models"
        found = [read_json(file) for file in sorted(folder.glob("*.json"))] if folder.is_dir() else []
        return [model for model in found if model]

    def keep_model(self, model: Dict[str, Any]) -> None:
        folder = self.root / "models"
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_json(folder / f"{_checked(model['info']['model_id'])}.json", model)

    def experiments(self) -> Dict[str, Dict[str, str]]:
        return read_json(self.root / "experiments.json") or {}

    def note_experiment(self, name: str, experiment_id: str, artifact_location: str) -> None:
        known = self.experiments()
        entry = {"experiment_id": experiment_id, "artifact_location": artifact_location}
        if known.get(name) != entry:
            self._make()
            write_json(self.root / "experiments.json", {**known, name: entry})

    def _make(self) -> None:
        # `mode` is for the last folder alone, and the one above it is its owner's too.
        for folder in (self.root.parent, self.root):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)


class RunFolder:
    """The journal of one run."""

    def __init__(self, journal: Journal, run_id: str) -> None:
        self.journal, self.id = journal, _checked(run_id)
        self.path = journal.root / "runs" / self.id

    @property
    def spool(self) -> Path:
        return self.path / "spool"

    def exists(self) -> bool:
        return (self.path / "run.json").exists()

    def begin(self, base: Dict[str, Any]) -> None:
        """Make the folder, if it is not there, with what is known of the run:

        `run`: the run as MLflow's REST API shows it ({"info", "data", …}), its artifact_uri the workspace's own;
        `fresh`: whether it had nothing logged then; `offline`: whether it was made here, unknown to the workspace;
        Which run the writing program stands in is noted too."""
        if self.exists():
            return
        self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        with _exclusive(self.path / "begin.lock"):
            if not self.exists():
                under = os.environ.get(RUN_VARIABLE, "")
                begun = {"begun_ms": time.time_ns() // 1_000_000, "under": under if under != self.id else ""}
                write_json(self.path / "run.json", {**begun, **base})

    def base(self) -> Optional[Dict[str, Any]]:
        return read_json(self.path / "run.json")

    def writer(self, durability: str = "process") -> segments.Writer:
        """Appends to this journal. Should the folder be gone meanwhile, because all of it had been sent, it is begun again."""
        base = self.base() or {}

        def make() -> None:
            self.begin({**base, "fresh": False, "offline": False} if base else {})

        return segments.Writer(self.path, durability, make=make)

    def sent(self) -> Dict[str, Any]:
        """How far has been sent: {"log": cursor, "files": cursor, "sending": cursor or None}; `sending` is set while it is not
        known whether the workspace has taken what lies between `log` and it."""
        found = read_json(self.path / "sent.json") or {}
        return {
            "log": _cursor(found.get("log")),
            "files": _cursor(found.get("files")),
            "sending": _cursor(found["sending"]) if found.get("sending") is not None else None,
        }

    def note_sent(self, sent: Dict[str, Any]) -> None:
        """Whole or not at all. On a full disk in the place of what was noted before: only sending makes room again."""
        file, text = self.path / "sent.json", json.dumps(sent)
        text = text.ljust(-(-len(text) // _NOTE_BYTES) * _NOTE_BYTES)
        try:
            write_text(file, text)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT) or not file.exists() or file.stat().st_size < len(text):
                raise
            with open(file, "r+b", buffering=0) as note:
                note.write(text.encode("ascii").ljust(file.stat().st_size))

    def pending_bytes(self) -> int:
        """What stands in the journal and has not been sent, files in the spool included."""
        sent = self.sent()
        waiting = segments.pending_bytes(self.path, sent["log"])
        return waiting if waiting else segments.pending_bytes(self.path, sent["files"])

    def problem(self) -> Optional[Dict[str, Any]]:
        """{"reason", "since_ms", "last_ms", "kind"} while sending goes no further: since when, and when it was last tried; `kind`
        is unreachable, not_allowed or gone."""
        return read_json(self.path / "problem.json")

    def note_problem(self, kind: str, reason: str) -> None:
        known = self.problem()
        now = time.time_ns() // 1_000_000
        since = known["since_ms"] if known and known.get("kind") == kind else now
        if self.path.is_dir():
            problem = {"kind": kind, "reason": reason, "since_ms": since, "last_ms": now}
            write_json(self.path / "problem.json", problem)

    def clear_problem(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            (self.path / "problem.json").unlink()

    def refuse(self, what: Dict[str, Any]) -> None:
        """Keep what the workspace refused: {"record", "reason"}."""
        with open(self.path / "refused.jsonl", "a", encoding="utf-8", opener=_private) as file:
            file.write(json.dumps({"at_ms": time.time_ns() // 1_000_000, **what}) + "\n")

    def refused(self) -> List[Dict[str, Any]]:
        try:
            text = (self.path / "refused.jsonl").read_text(encoding="utf-8")
        except FileNotFoundError:
            return []
        return [json.loads(line) for line in text.splitlines() if line.strip()]

    def forget_refused(self, most: int) -> None:
        """Keep only the first `most` of what was refused: somebody was told of the others."""
        kept = self.refused()[:most]
        if kept:
            write_text(self.path / "refused.jsonl", "".join(f"{json.dumps(item)}\n" for item in kept))
        else:
            with contextlib.suppress(FileNotFoundError):
                (self.path / "refused.jsonl").unlink()

    @contextlib.contextmanager
    def draining(self) -> Iterator[bool]:
        """Whether this process alone may send this journal, while the block lasts."""
        with contextlib.ExitStack() as stack:
            try:
                handle = stack.enter_context(open(self.path / "drain.lock", "a", opener=_private))
            except FileNotFoundError:
                yield False
                return
            if fcntl is not None:
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except OSError as error:
                    if error.errno not in (errno.EAGAIN, errno.EACCES):
                        raise
                    yield False
                    return
            yield os.path.exists(self.path)

    def remove_if_sent(self) -> bool:
        """Remove the folder when all of it was sent and nobody writes to it. Call it while `draining`."""
        sent = self.sent()
        if sent["sending"] is not None or self.refused():
            return False
        both = {number: min(offset, sent["files"].get(number, 0)) for number, offset in sent["log"].items()}
        with segments.unwritten(self.path, both) as free:
            if not free:
                return False
            gone = self.path.with_name(f".{self.id}-{uuid.uuid4().hex[:8]}")
            # In one step: a writer either finds the whole folder or none, and then begins it again.
            self.path.rename(gone)
        shutil.rmtree(gone, ignore_errors=True)
        return True


def new_id() -> str:
    """An id as MLflow's own stores give them."""
    return uuid.uuid4().hex


def read_json(file: Path) -> Optional[Dict[str, Any]]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def write_json(file: Path, content: Dict[str, Any]) -> None:
    write_text(file, json.dumps(content))


def write_text(file: Path, text: str) -> None:
    """Whole or not at all, and readable by its owner alone."""
    handle, name = tempfile.mkstemp(prefix=".new-", dir=file.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as target:
            target.write(text)
        os.replace(name, file)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)
        raise


@contextlib.contextmanager
def _exclusive(file: Path) -> Iterator[None]:
    with open(file, "a", opener=_private) as handle:
        if fcntl is not None:
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _cursor(found: Any) -> Cursor:
    return {int(number): int(offset) for number, offset in (found or {}).items()}


def _checked(name: str) -> str:
    """A run's id becomes a folder's name: one that is no plain name is refused."""
    if not name or name.startswith(".") or any(sign in name for sign in "/\\\0") or len(name) > 200:
        raise ValueError(f"{name!r} is no id that a journal can be kept under.")
    return name
