"""An MLflow Project as a one-time run on a cluster of Databricks: planned, submitted, followed."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import re
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

from amlflow import processes
from amlflow.environments import spec as environments
from amlflow.errors import AmlflowError, NotFound, NotSupported, Unavailable, UsageError
from amlflow.mlproject import command as commands
from amlflow.mlproject import file as project_files
from amlflow.mlproject import source as sources
from amlflow.mlproject.command import Place
from amlflow.mlproject.file import EntryPoint, Project
from amlflow.mlproject.source import ProjectSource
from amlflow.services import tracking
from amlflow.services.projects import ProjectRequest
from amlflow.services.submission import seconds
from amlflow.workspaces.abilities import Job, Snapshot
from amlflow.workspaces.azure import snapshot
from amlflow.workspaces.base import Run, Workspace
from amlflow.workspaces.databricks import parcels, pending
from amlflow.workspaces.databricks.cluster_jobs import NUMBER_TAG, PREFIX, Ended, mark_of
from amlflow.workspaces.databricks.jobs import Cluster, ClusterRuns, ClusterTask
from amlflow.workspaces.databricks.parcels import Parcels
from amlflow.workspaces.databricks.pending import Pending
from amlflow.workspaces.databricks.workspace import DatabricksWorkspace

# What is smaller is in the script itself, in which base64 has a third more.
_INLINE_BYTES = parcels.PART_BYTES * 3 // 4 - 100_000
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")
_THERE = ("/dbfs/", "/Volumes/", "/Workspace/")
_PACKAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\s*(?:\[|[<>=!~;@]|$)")


@dataclass(frozen=True, slots=True)
class ClusterOptions:
    """`cluster` is a cluster's id or name; `volume` a folder below /Volumes for the project, empty for the workspace's own
    files; `timeout` a number of seconds, or one with s, m, h or d."""

    cluster: str
    volume: str = ""
    timeout: str = ""
    code_limit_mb: int = 300


@dataclass(frozen=True, slots=True)
class ClusterPlan:
    """`packages` are what the cluster installs for the run."""

    request: ProjectRequest
    source: ProjectSource
    project: Project
    cluster: str
    command: str
    params: Mapping[str, str]
    packages: Sequence[str]
    code: Snapshot
    experiment: str
    volume: str = ""
    timeout_s: int = 0


@dataclass(frozen=True, slots=True)
class Submitted:
    """`pending` is what is forgotten once it is known how the job goes on; `is_taken_up` where an earlier amlflow began it."""

    job: Job
    pending: Pending
    is_taken_up: bool = False


def plan(request: ProjectRequest, options: ClusterOptions) -> ClusterPlan:
    """Fetch the project and work out its command; nothing is sent. Raises `UsageError` or `NotFound` for what is wrong here."""
    if request.env_manager:
        raise UsageError(
            "--env-manager is for projects that run here.",
            "On a cluster the project runs in the cluster's Python, with the packages of its environment file.",
        )
    source = sources.fetch(request.uri, request.version)
    project = project_files.load(source.project_folder)
    if project.docker_env is not None:
        raise NotSupported("The project runs in a container (docker_env), which a cluster does not.", "Run it here.")
    entry_point = project.entry_point(request.entry_point)
    places = _places(entry_point, request.params, source.project_folder)
    line, params = commands.shell_line(entry_point, {**request.params, **places})
    return ClusterPlan(
        request,
        source,
        project,
        options.cluster,
        line,
        {**params, **{name: request.params.get(name, value) for name, value in places.items()}},
        _packages(project),
        snapshot.take(source.project_folder, {}, options.code_limit_mb * 1_000_000),
        tracking.experiment_name(request.experiment),
        parcels.volume(options.volume),
        seconds(options.timeout),
    )


def describe(planned: ClusterPlan) -> dict[str, Any]:
    """The plan as a record, for --dry-run."""
    return {
        "project": planned.source.uri,
        "commit": planned.source.commit,
        "dirty": planned.source.dirty,
        "entry_point": planned.request.entry_point,
        "command": planned.command,
        "params": dict(planned.params),
        "experiment": planned.experiment,
        "compute": f"{PREFIX}{planned.cluster}",
        "packages": list(planned.packages),
        "files": [name for name, _ in planned.code.files],
        "left_out": list(planned.code.left_out),
        "size_bytes": planned.code.size_bytes,
        "upload_to": planned.volume,
    }


def submit(workspace: Workspace, planned: ClusterPlan, report: Callable[[str], None]) -> Submitted:
    """Make the run, send the project, begin. A run whose job cannot be begun ends FAILED. What an earlier amlflow had begun, and
    was killed before it knew how it ended, is taken up instead of being begun twice."""
    there = _databricks(workspace)
    runs = ClusterRuns(there.access)
    cluster = runs.cluster(planned.cluster)
    folder, key = there.jobs.pending, _key(planned, cluster)
    kept = pending.take_up(folder, key)
    run = _still_there(there, kept)
    if kept is not None and run is None:
        kept.drop()
        kept = None
    if kept is not None and kept.number:
        with contextlib.suppress(NotFound):
            return Submitted(there.jobs.submitted(kept.run_id, kept.number), kept, True)
    if run is None:
        experiment = there.ensure_experiment(planned.experiment)
        run = there.create_run(experiment.id, planned.request.run_name, _tags(planned), planned.params)
    noted = kept or pending.keep(folder, key, run.id)
    return Submitted(_begun(there, runs, planned, cluster, run, noted, report), noted, kept is not None)


def follow(workspace: Workspace, submitted: Submitted, report: Callable[[str], None]) -> Iterator[bytes]:
    """What the job prints, until it has ended; each change of its state is reported."""
    return _databricks(workspace).jobs.logs(submitted.job.id, True, report)


def ended(workspace: Workspace, submitted: Submitted) -> Ended:
    """Of a job that has ended: how, and with which exit code."""
    return _databricks(workspace).jobs.ended(submitted.job.id)


def _begun(
    there: DatabricksWorkspace,
    runs: ClusterRuns,
    planned: ClusterPlan,
    cluster: Cluster,
    run: Run,
    noted: Pending,
    report: Callable[[str], None],
) -> Job:
    number = 0
    try:
        if cluster.is_stopped:
            report(
                f"The cluster {cluster.name!r} is {cluster.state.lower()}: it is started for the run, which takes minutes."
            )
        script, arguments = _send(there, planned, run, report)
        task = ClusterTask(run.name, cluster.id, script, planned.packages, run.id, planned.timeout_s, arguments)
        with processes.uninterrupted():
            number = runs.submit(task)
            noted.note(number)
            there.log_batch(run.id, tags={NUMBER_TAG: str(number)})
        return there.jobs.submitted(run.id, number)
    except Unavailable as error:
        # It may have been begun: the same command asks again for the same run.
        error.mend = "Run the same command again: what was begun is found, and not begun twice."
        raise
    except BaseException:
        noted.drop()
        with contextlib.suppress(AmlflowError):
            if number:
                runs.cancel(number)
            Parcels(there.access).forget(run.id, planned.volume)
            there.finish_run(run.id, "KILLED" if number else "FAILED")
        raise


def _send(
    there: DatabricksWorkspace, planned: ClusterPlan, run: Run, report: Callable[[str], None]
) -> tuple[str, Sequence[str]]:
    """The path of the script there, and what it is given."""
    report(f"Sending {len(planned.code.files)} files, {planned.code.size_bytes / 1e6:.1f} MB, to {there.name}…")
    variables = {
        "MLFLOW_TRACKING_URI": "databricks",
        "MLFLOW_RUN_ID": run.id,
        "MLFLOW_EXPERIMENT_ID": run.experiment_id,
    }
    sent = Parcels(there.access)
    with _archive(planned) as archive:
        size = archive.seek(0, 2)
        request = {"command": planned.command, "variables": variables, "mark": mark_of(run.id), "size": size}
        archive.seek(0)
        if size <= _INLINE_BYTES and not planned.volume:
            request["project"] = base64.b64encode(archive.read()).decode()
            return sent.put(run.id, parcels.SCRIPT, _script(request)), ()
        place = sent.send(run.id, archive, planned.volume, report)
        return sent.put(run.id, parcels.SCRIPT, _script(request)), (place,)


def _still_there(there: DatabricksWorkspace, kept: Pending | None) -> Run | None:
    try:
        found = there.get_run(kept.run_id) if kept is not None else None
    except NotFound:
        return None
    return found if found is not None and found.lifecycle_stage == "active" else None


def _key(planned: ClusterPlan, cluster: Cluster) -> str:
    """What makes two commands ask for the same."""
    request = planned.request
    said = [
        cluster.id,
        planned.command,
        dict(planned.params),
        list(planned.packages),
        planned.code.digest,
        planned.experiment,
        planned.volume,
        planned.timeout_s,
        request.run_name,
        dict(request.tags),
    ]
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:32]


def _tags(planned: ClusterPlan) -> dict[str, str]:
    return {
        **commands.tags(planned.source, planned.request.entry_point, "databricks"),
        "mlflow.project.backend": "databricks",
        "mlflow.user": tracking.user_name(),
        **planned.request.tags,
    }


def _databricks(workspace: Workspace) -> DatabricksWorkspace:
    if isinstance(workspace, DatabricksWorkspace):
        return workspace
    raise NotSupported(
        f"A run on a cluster of Databricks is tracked there, and the workspace in use is {workspace.name!r}.",
        "Name the other with `-w databricks` or `-w databricks://PROFILE`.",
    )


def _places(entry_point: EntryPoint, given: Mapping[str, str], folder: Path) -> dict[str, str]:
    """Paths of the project as the command finds them there. Raises `UsageError` for a file of this machine that is not sent."""
    found: dict[str, str] = {}
    for name, parameter in entry_point.parameters.items():
        value = given.get(name, parameter.default)
        if parameter.type not in ("path", "uri") or not value or (_URI.match(value) and not value.startswith("file:")):
            continue
        if value.startswith(_THERE):
            found[name] = Place(value)
            continue
        root = folder.resolve()
        place = Path(value.removeprefix("file://")).expanduser()
        inside = root / place
        place = (inside if inside.exists() and not place.exists() else place).resolve()
        if not place.is_relative_to(root):
            raise UsageError(
                f"The parameter {name!r} is {value!r}, which is not in the project and is not sent to the cluster.",
                "Give a dbfs:/ address or a path below /Volumes/, or put the file into the project.",
            )
        found[name] = Place(place.relative_to(root).as_posix())
    return found


def _packages(project: Project) -> list[str]:
    """The PyPI requirements of the project's environment. Raises `UsageError` for what a cluster does not install."""
    if project.python_env is not None:
        found = environments.from_python_env(project.python_env)
    elif project.conda_env is not None:
        found = environments.from_conda(project.conda_env)
        if found.conda_file is not None:
            raise UsageError(
                f"{project.conda_env} needs packages that only conda has, which a cluster of Databricks does not install.",
                "Name them as pip packages.",
            )
    else:
        return []
    wrong = next((item for item in found.requirements if not _PACKAGE.match(item)), "")
    if wrong:
        raise UsageError(
            f"The requirement {wrong!r} of {found.source} is no package of PyPI, which is what a cluster installs.",
            "Put its code into the project, or install it on the cluster.",
        )
    return list(found.requirements)


@contextlib.contextmanager
def _archive(planned: ClusterPlan) -> Iterator[BinaryIO]:
    with tempfile.TemporaryFile() as content:
        # A ZIP has no times before 1980; the project is known by its content.
        with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED, compresslevel=1, strict_timestamps=False) as archive:
            for name, path in planned.code.files:
                archive.write(path, name)
        yield cast("BinaryIO", content)


def _script(request: Mapping[str, Any]) -> bytes:
    text = (Path(__file__).parent / "databricks_runner.py").read_text(encoding="utf-8")
    return text.replace('REQUEST = ""', f"REQUEST = {json.dumps(request)!r}", 1).encode()
