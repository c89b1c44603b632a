"""Single writes from a shell step into a run, through its journal: `amlflow log`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from amlflow.errors import AmlflowError, NotFound, UsageError
from amlflow.journal import records
from amlflow.journal.errors import Refused
from amlflow.journal.router import OpenRun, Router
from amlflow.services import execution, recording, references
from amlflow.workspaces.base import Run, Workspace


@dataclass(frozen=True, slots=True)
class Logged:
    run: Run
    left: recording.Left


def log_metrics(workspace: Workspace, run: str, values: Mapping[str, str], step: int) -> Logged:
    """Log values such as `{"rmse": "0.31"}`. Raises `UsageError` for what is no number."""
    now = execution.now_ms()
    points = [[key, _number(key, value), step, now] for key, value in values.items()]
    return _log(workspace, run, lambda opened, router: opened.append([records.BATCH, points, [], []]))


def log_params(workspace: Workspace, run: str, values: Mapping[str, str]) -> Logged:
    """Raises `UsageError` for a param that was logged before with another value."""

    def write(opened: OpenRun, router: Router) -> None:
        pairs = [[key, value] for key, value in values.items()]
        opened.append([records.BATCH, [], router.params(opened.folder.id, pairs), []])

    return _log(workspace, run, write)


def log_tags(workspace: Workspace, run: str, values: Mapping[str, str]) -> Logged:
    tags = [[key, value] for key, value in values.items()]
    return _log(workspace, run, lambda opened, router: opened.append([records.BATCH, [], [], tags]))


def log_artifact(workspace: Workspace, run: str, path: Path, folder: str) -> Logged:
    if not path.exists():
        raise NotFound(f"There is no file or folder {str(path)!r} to keep.")
    with recording.Recorder(workspace) as recorder:
        found = _found(workspace, recorder, run)
        recorder.keep(found.id, path, folder)
        return Logged(found, recorder.flush(runs=[found.id]))


def _log(workspace: Workspace, run: str, write: Callable[[OpenRun, Router], None]) -> Logged:
    with recording.Recorder(workspace) as recorder:
        found = _found(workspace, recorder, run)
        opened = recorder.open(found.id)
        refused = len(opened.folder.refused())
        try:
            with recorder.writing():
                write(opened, Router(recorder.journal, None, offline=True))
        except Refused as error:
            raise UsageError(error.message) from error
        finally:
            opened.writer.close()
        left = recorder.flush(runs=[found.id])
        if len(left.refused) > refused:
            opened.folder.forget_refused(refused)
            raise UsageError(f"The workspace refused it: {left.refused[-1]}")
        return Logged(found, left)


def _found(workspace: Workspace, recorder: recording.Recorder, asked: str) -> Run:
    """The run to write to. One that the workspace does not have yet, or that cannot be asked for now, is known by its journal."""
    reference = asked or references.run_variable()
    folder = recorder.journal.run(reference) if references.is_id(reference) else None
    if folder is not None and folder.exists():
        return recording.written(folder)
    run = references.find_run(workspace, asked)
    if run.lifecycle_stage != "active":
        raise AmlflowError(f"Run {run.id} was deleted.", f"Bring it back with `amlflow run restore {run.id}`.")
    recorder.adopt(run)
    return run


def _number(key: str, value: str) -> float:
    try:
        return float(value)
    except ValueError:
        raise UsageError(
            f"The metric {key!r} cannot be {value!r}: a metric is a number.",
            f"Use `amlflow log param {key}={value}` or `amlflow log tag` for text.",
        ) from None
