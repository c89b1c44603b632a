"""An MLflow Project as a one-time run on a cluster of Databricks: planned, submitted, followed."""

from __future__ import annotations

import base64
import io
import json
import re
import secrets
import time
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from amlflow.environments import spec as environments
from amlflow.errors import AmlflowError, NotSupported, UsageError
from amlflow.mlproject import command as commands
from amlflow.mlproject import file as project_files
from amlflow.mlproject import source as sources
from amlflow.mlproject.command import Place
from amlflow.mlproject.file import EntryPoint, Project
from amlflow.mlproject.source import ProjectSource
from amlflow.services import tracking
from amlflow.services.projects import ProjectRequest
from amlflow.services.submission import seconds
from amlflow.workspaces.azure import snapshot
from amlflow.workspaces.base import Run, RunStatus, Workspace
from amlflow.workspaces.databricks.jobs import ClusterRun, ClusterRuns, ClusterTask
from amlflow.workspaces.databricks.workspace import DatabricksWorkspace

PREFIX = "databricks:"
_FOLDER = ".amlflow"
# A file of the workspace has up to 10 MB, in which base64 has a third more than the archive.
_MOST_BYTES = 7_000_000
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")
_THERE = ("/dbfs/", "/Volumes/", "/Workspace/")
_PACKAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\s*(?:\[|[<>=!~;@]|$)")
_POLL_S, _MOST_POLL_S = 1.0, 10.0
_STATUS: Mapping[str, RunStatus] = {"finished": "FINISHED", "failed": "FAILED", "killed": "KILLED"}


@dataclass(frozen=True, slots=True)
class ClusterPlan:
    """`packages` are what the cluster installs for the run; `left_out` what of the folder is not sent."""

    request: ProjectRequest
    source: ProjectSource
    project: Project
    cluster: str
    command: str
    params: Mapping[str, str]
    packages: Sequence[str]
    files: Sequence[tuple[str, Path]]
    left_out: Sequence[str]
    experiment: str
    timeout_s: int = 0


@dataclass(frozen=True, slots=True)
class Submitted:
    """`run` is the tracked run, `file` what was uploaded, `mark` how the line with the exit code begins."""

    run: Run
    job: ClusterRun
    file: str
    mark: str


def plan(request: ProjectRequest, compute: str, timeout: str) -> ClusterPlan:
    """Fetch the project and work out its command; nothing is sent. Raises `UsageError` or `NotFound` for what is wrong here."""
    if request.env_manager:
        raise UsageError(
            "--env-manager is for projects that run here.",
            "On a cluster the project runs in the cluster's Python, with the packages of its environment file.",
        )
    if request.options.offline:
        raise UsageError("A run on a cluster cannot be --offline.", "Leave one of the two out.")
    source = sources.fetch(request.uri, request.version)
    project = project_files.load(source.project_folder)
    if project.docker_env is not None:
        raise NotSupported("The project runs in a container (docker_env), which a cluster does not.", "Run it here.")
    entry_point = project.entry_point(request.entry_point)
    places = _places(entry_point, request.params, source.project_folder)
    line, params = commands.shell_line(entry_point, {**request.params, **places})
    taken = snapshot.take(source.project_folder, {}, 1 << 40)
    return ClusterPlan(
        request,
        source,
        project,
        compute.removeprefix(PREFIX),
        line,
        {**params, **{name: request.params.get(name, value) for name, value in places.items()}},
        _packages(project),
        taken.files,
        taken.left_out,
        tracking.experiment_name(request.experiment),
        seconds(timeout),
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
        "files": [name for name, _ in planned.files],
        "left_out": list(planned.left_out),
        "size_bytes": len(_archive(planned)),
    }


def submit(workspace: Workspace, planned: ClusterPlan, report: Callable[[str], None]) -> Submitted:
    """Make the run, send the project, begin. A run whose job cannot be begun ends FAILED."""
    there = _databricks(workspace)
    archive, runs = _archive(planned), ClusterRuns(there.access)
    cluster_id = runs.cluster(planned.cluster)
    tags = {
        **commands.tags(planned.source, planned.request.entry_point, "databricks"),
        "mlflow.project.backend": "databricks",
        "mlflow.user": tracking.user_name(),
        **planned.request.tags,
    }
    experiment = there.ensure_experiment(planned.experiment)
    run = there.create_run(experiment.id, planned.request.run_name, tags, planned.params)
    try:
        mark = f"amlflow-{secrets.token_hex(8)}-exit-code"
        report(f"Sending {len(planned.files)} files to {there.name}…")
        variables = {
            "MLFLOW_TRACKING_URI": "databricks",
            "MLFLOW_RUN_ID": run.id,
            "MLFLOW_EXPERIMENT_ID": run.experiment_id,
        }
        file = runs.upload(_FOLDER, f"{run.id}.py", _script(archive, planned.command, variables, mark))
        task = ClusterTask(run.name, cluster_id, file, planned.packages, run.id, planned.timeout_s)
        job_id = runs.submit(task)
        there.log_batch(run.id, tags={"mlflow.databricks.jobRunID": str(job_id)})
        return Submitted(run, runs.get(job_id), file, mark)
    except BaseException:
        there.finish_run(run.id, "FAILED")
        raise


def follow(workspace: Workspace, submitted: Submitted, report: Callable[[str], None]) -> ClusterRun:
    """The run on the cluster when it has ended; each change of its state is reported."""
    runs, pause_s = ClusterRuns(_databricks(workspace).access), _POLL_S
    state = ""
    while True:
        found = runs.get(submitted.job.id)
        if found.state != state:
            state, pause_s = found.state, _POLL_S
            report(f"Run {submitted.job.id} on the cluster: {state.lower()}")
        if found.outcome != "running":
            return found
        time.sleep(pause_s)
        pause_s = min(_MOST_POLL_S, pause_s * 1.3)


def ended(workspace: Workspace, submitted: Submitted, last: ClusterRun) -> tuple[str, int]:
    """What the program printed, and its exit code: 1 where it was not let begin or end. The tracked run is closed, and what was
    sent for it removed."""
    there = _databricks(workspace)
    runs = ClusterRuns(there.access)
    printed, error = runs.printed(last.task_id)
    text, code = _told(printed, submitted.mark)
    if code is None:
        code = 0 if last.outcome == "finished" else 1
        text += f"{error}\n" if error else ""
    there.finish_run(submitted.run.id, _STATUS[last.outcome])
    runs.remove(submitted.file)
    return text, code


def cancel(workspace: Workspace, submitted: Submitted) -> None:
    there = _databricks(workspace)
    ClusterRuns(there.access).cancel(submitted.job.id)
    there.finish_run(submitted.run.id, "KILLED")


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


def _archive(planned: ClusterPlan) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, path in planned.files:
            archive.write(path, name)
    data = content.getvalue()
    if len(data) > _MOST_BYTES:
        largest = sorted(planned.files, key=lambda item: -item[1].stat().st_size)[:5]
        raise AmlflowError(
            f"The project has {len(data) / 1e6:.1f} MB when packed, more than the {_MOST_BYTES / 1e6:.0f} MB that one file of "
            f"Databricks holds. The largest: {', '.join(name for name, _ in largest)}.",
            "Name data in .amlignore, and keep it in a volume.",
        )
    return data


def _script(archive: bytes, command: str, variables: Mapping[str, str], mark: str) -> bytes:
    text = (Path(__file__).parent / "databricks_runner.py").read_text(encoding="utf-8")
    request = {
        "project": base64.b64encode(archive).decode(),
        "command": command,
        "variables": dict(variables),
        "mark": mark,
    }
    return text.replace('REQUEST = ""', f"REQUEST = {json.dumps(request)!r}", 1).encode()


def _told(printed: str, mark: str) -> tuple[str, int | None]:
    """What a person is to see of it, and the exit code in the line that the runner ends with; None where there is none."""
    match = re.search(rf"\n?^{re.escape(mark)} (\d+)$\n?", printed, re.MULTILINE)
    if match is None:
        return printed, None
    return printed[: match.start()], int(match[1])
