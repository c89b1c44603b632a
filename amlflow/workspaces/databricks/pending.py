"""What this machine has asked a cluster for and has not told anybody the end of: an amlflow that is killed leaves it behind, and
the same command takes it up."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from amlflow import processes
from amlflow.journal.folder import write_json


@dataclass(frozen=True, slots=True)
class Pending:
    """`run_id` is the tracked run's, `number` the job's, 0 where it is not known whether there is one."""

    file: Path
    run_id: str
    number: int = 0

    def note(self, number: int) -> None:
        _write(self.file, self.run_id, number)

    def drop(self) -> None:
        self.file.unlink(missing_ok=True)


def keep(folder: Path, key: str, run_id: str) -> Pending:
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    found = Pending(folder / f"{key}-{run_id}.json", run_id)
    _write(found.file, run_id, 0)
    return found


def forget(folder: Path, run_id: str) -> None:
    for file in folder.glob(f"*-{run_id}.json"):
        file.unlink(missing_ok=True)


def take_up(folder: Path, key: str) -> Pending | None:
    """What a process that is gone has left of this key; it is this process's from now on."""
    for file in sorted(folder.glob(f"{key}-*.json")):
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
            run_id, number = str(content["run_id"]), int(content["number"])
            lives = processes.started(int(content["pid"])) == content["started"]
        except (OSError, ValueError, KeyError, TypeError):
            continue
        if not lives:
            _write(file, run_id, number)
            return Pending(file, run_id, number)
    return None


def _write(file: Path, run_id: str, number: int) -> None:
    pid = os.getpid()
    content = {"run_id": run_id, "number": number, "pid": pid, "started": processes.started(pid)}
    write_json(file, content)
