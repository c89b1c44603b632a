"""Tracked runs: run any command as one, log into one from a shell step, read and manage them."""

from __future__ import annotations

import getpass
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from amlflow.errors import NotFound, UsageError
from amlflow.services import execution, recording, references
from amlflow.workspaces.base import Artifact, Run, RunQuery, Workspace

DEFAULT_EXPERIMENT = "Default"


@dataclass(frozen=True, slots=True)
class TrackRequest:
    program: execution.Program
    experiment: str = ""
    run_name: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)


def track(workspace: Workspace, request: TrackRequest, watch: execution.Watch) -> execution.Finished:
    """Run the command to its end as one run of the experiment (made if new)."""
    if not request.program.command:
        raise UsageError("There is no command to run.", "Write it after --: `amlflow track -- python train.py`.")
    experiment = experiment_name(request.experiment)

    def begin(recorder: recording.Recorder) -> Run:
        tags = {
            "mlflow.source.name": _source_name(request.program.command),
            "mlflow.source.type": "LOCAL",
            "mlflow.user": user_name(),
            **_git_tags(request.program.cwd),
            **execution.parent_tag(workspace),
            **request.tags,
        }
        return recorder.begin(recording.NewRun(experiment, request.run_name, tags))

    return execution.execute(workspace, request.program, begin, watch)


def list_runs(workspace: Workspace, experiment: str, query: RunQuery) -> list[Run]:
    """The runs of one experiment, or of all when none is named."""
    if not experiment:
        return workspace.search_runs(query)
    ids = [workspace.find_experiment(experiment).id]
    return workspace.search_runs(
        RunQuery(ids, query.filter, query.order_by, query.descending, query.limit, query.lifecycle, query.with_data)
    )


def artifacts(workspace: Workspace, run_id: str, most: int = 1000) -> list[Artifact]:
    """Every file of the run, folders walked; at most `most`."""
    found: list[Artifact] = []
    folders = [""]
    while folders and len(found) < most:
        for item in workspace.list_artifacts(run_id, folders.pop()):
            if item.is_dir:
                folders.append(item.path)
            else:
                found.append(item)
    return sorted(found, key=lambda item: item.path)[:most]


def download(workspace: Workspace, run: str, path: str, destination: Path) -> Path:
    """Copy a run's artifacts, or those below `path`, into a folder. Raises `NotFound` where there is nothing."""
    target = references.find_run(workspace, run)
    if not path and not workspace.list_artifacts(target.id):
        raise NotFound(f"Run {target.name!r} ({target.id}) has no artifacts to download.")
    destination.mkdir(parents=True, exist_ok=True)
    return workspace.download_artifacts(target.id, path, destination)


def set_deleted(workspace: Workspace, runs: Sequence[str], deleted: bool) -> list[Run]:
    """Delete runs, or restore deleted ones. All are looked up before the first is changed."""
    if deleted:
        found = [references.find_run(workspace, run) for run in runs]
    else:
        found = [_find_deleted(workspace, run) for run in runs]
    for run in found:
        (workspace.delete_run if deleted else workspace.restore_run)(run.id)
    return found


def experiment_name(asked: str) -> str:
    return asked or os.environ.get("MLFLOW_EXPERIMENT_NAME", "") or DEFAULT_EXPERIMENT


def user_name() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"


def pairs(items: Sequence[str], what: str) -> dict[str, str]:
    """`["a=1", "b=2"]` as a mapping; also `["a", "1"]`, which reads well for one. Raises `UsageError`."""
    if len(items) == 2 and "=" not in items[0]:
        return {items[0]: items[1]}
    found: dict[str, str] = {}
    for item in items:
        key, separator, value = item.partition("=")
        if not separator or not key:
            raise UsageError(f"{item!r} is not a {what}.", f"Write it as KEY=VALUE, for example {key or 'key'}=1.")
        found[key] = value
    return found


def _find_deleted(workspace: Workspace, asked: str) -> Run:
    deleted = workspace.search_runs(RunQuery(lifecycle="deleted", with_data=False))
    hits = [run for run in deleted if run.name == asked] or [run for run in deleted if run.id.startswith(asked)]
    if len(hits) == 1:
        return hits[0]
    if hits:
        raise UsageError(f"{asked!r} fits {len(hits)} deleted runs.", "Give more of the id.")
    known = [name for run in deleted for name in (run.id[:8], run.name)]
    raise NotFound(
        f"There is no deleted run {asked!r}.", "`amlflow run list --deleted` shows them.", name=asked, known=known
    )


def _source_name(command: Sequence[str]) -> str:
    script = next((word for word in command if word.endswith((".py", ".sh", ".R", ".ipynb"))), command[0])
    return os.fspath(script)


def _git_tags(cwd: Path | None) -> dict[str, str]:
    from amlflow.mlproject.source import describe_folder

    source = describe_folder(cwd or Path.cwd())
    tags = {
        "mlflow.source.git.commit": source.commit,
        "mlflow.source.git.repoURL": source.repo_url,
        "mlflow.source.git.branch": source.branch,
    }
    return {key: value for key, value in tags.items() if value}
