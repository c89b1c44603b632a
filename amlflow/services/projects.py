"""MLflow Projects: fetch one, plan its command and environment, run it here as a tracked run."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from amlflow.environments import build, spec
from amlflow.environments.spec import EnvironmentSpec
from amlflow.errors import NotFound, UsageError
from amlflow.journal import records
from amlflow.mlproject import command as commands
from amlflow.mlproject import file as project_files
from amlflow.mlproject import source as sources
from amlflow.mlproject.file import Project
from amlflow.mlproject.source import ProjectSource
from amlflow.services import containers, execution, recording, tracking
from amlflow.workspaces.base import Run, Workspace

ENV_MANAGERS = ("uv", "local", "conda")
DIFF_ARTIFACT = "source"


@dataclass(frozen=True, slots=True)
class ProjectRequest:
    """`uri` is a folder, a Git URL or `URL#subdir`; `version` a branch, tag or commit of it. `env_manager` is empty for
    the one that the project's files call for."""

    uri: str
    entry_point: str = "main"
    version: str = ""
    params: Mapping[str, str] = field(default_factory=dict)
    env_manager: str = ""
    experiment: str = ""
    run_name: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    system_metrics: bool = False
    options: recording.Options = field(default_factory=recording.Options)
    require_model: bool = False


@dataclass(frozen=True, slots=True)
class ProjectPlan:
    """What running the project will do. `shell_line` is what the shell gets, every value quoted in it."""

    request: ProjectRequest
    source: ProjectSource
    project: Project
    shell_line: str
    params: Mapping[str, str]
    manager: str
    environment: EnvironmentSpec | None
    experiment: str


def plan(request: ProjectRequest, storage: Path | None = None) -> ProjectPlan:
    """Fetch the project and work out its command; nothing is run. Raises `UsageError` or `NotFound` for whatever the
    project or the parameters have wrong. `storage` is where `path` parameters that are URIs are downloaded."""
    if request.env_manager and request.env_manager not in ENV_MANAGERS:
        raise UsageError(
            f"There is no environment manager {request.env_manager!r}.", f"It is one of {', '.join(ENV_MANAGERS)}."
        )
    source = sources.fetch(request.uri, request.version)
    project = project_files.load(source.project_folder)
    entry_point = project.entry_point(request.entry_point)
    line, params = commands.shell_line(entry_point, request.params, storage)
    manager, environment = _environment(project, request.env_manager)
    experiment = tracking.experiment_name(request.experiment)
    return ProjectPlan(request, source, project, line, params, manager, environment, experiment)


def mistaken(project: Project, request: ProjectRequest) -> str:
    """What to say where the experiment has the name of an entry point: `-e` is the entry point in `mlflow run`."""
    name = request.experiment
    if request.entry_point != "main" or name == "main" or name not in project.entry_points:
        return ""
    return (
        f"Warning: {name!r} is taken for the experiment, and the entry point main is run: "
        f"the entry point of that name is `--entry-point {name}`."
    )


def run(
    workspace: Workspace,
    request: ProjectRequest,
    progress: Callable[[], AbstractContextManager[Callable[[str], None]]],
    watch: execution.Watch,
) -> execution.Finished:
    """Run the project to its end. `progress` gives the function that is told of steps until the program starts.

    The environment is made before the run, so that one that cannot be made leaves no run behind."""
    with tempfile.TemporaryDirectory(prefix="amlflow-") as storage:
        with progress() as report:
            planned = plan(request, Path(storage))
            program = prepare(workspace, planned, report)
        return execution.execute(workspace, program, lambda recorder: begin(workspace, recorder, planned), watch)


def prepare(workspace: Workspace, planned: ProjectPlan, report: Callable[[str], None]) -> execution.Program:
    """The program to start: its environment made, or found in the cache."""
    if said := mistaken(planned.project, planned.request):
        report(said)
    variables: dict[str, str] = {}
    command = _shell(planned.shell_line)
    if planned.environment is not None:
        made = build.ensure(planned.environment, "conda" if planned.manager == "conda" else "uv", report)
        variables = made.variables()
    elif planned.manager == "docker":
        command = containers.command(planned.project, planned.shell_line, workspace.state_folder(), execution.plugins())
    elif planned.manager == "local":
        variables = build.ensure(EnvironmentSpec(source=""), "local").variables()
    return execution.Program(
        command,
        cwd=planned.source.project_folder,
        env={**variables, execution.PROJECT_VARIABLE: str(planned.source.project_folder)},
        system_metrics=planned.request.system_metrics,
    )


def begin(workspace: Workspace, recorder: recording.Recorder, planned: ProjectPlan) -> Run:
    """Make the run of a planned project; what its sources have uncommitted is kept with it."""
    tags = {
        **commands.tags(planned.source, planned.request.entry_point, planned.manager),
        "mlflow.user": tracking.user_name(),
        **execution.parent_tag(workspace),
        **planned.request.tags,
    }
    run = recorder.begin(recording.NewRun(planned.experiment, planned.request.run_name, tags, planned.params))
    _keep_diff(recorder, run, planned.source)
    return run


def describe(planned: ProjectPlan) -> dict[str, Any]:
    """The plan as a record, for --dry-run."""
    environment = planned.environment
    return {
        "project": planned.source.uri,
        "folder": str(planned.source.project_folder),
        "commit": planned.source.commit,
        "dirty": planned.source.dirty,
        "entry_point": planned.request.entry_point,
        "command": planned.shell_line,
        "params": dict(planned.params),
        "env_manager": planned.manager,
        "environment": None
        if environment is None
        else {
            "source": environment.source,
            "python": environment.python,
            "requirements": list(environment.requirements),
            "digest": environment.digest(),
        },
        "experiment": planned.experiment,
    }


def _keep_diff(recorder: recording.Recorder, run: Run, source: ProjectSource) -> None:
    """A commit alone would not bring back a program that was changed since: keep what changed."""
    if not source.dirty:
        return
    diff = sources.dirty_diff(source.project_folder)
    if diff:
        with tempfile.TemporaryDirectory(prefix="amlflow-") as folder:
            file = Path(folder) / "uncommitted.diff"
            file.write_text(diff, encoding="utf-8")
            recorder.keep(run.id, file, DIFF_ARTIFACT)
        opened = recorder.open(run.id)
        opened.append([records.TAG, "mlflow.source.git.dirty", "true"])
        opened.writer.close()


def _environment(project: Project, asked: str) -> tuple[str, EnvironmentSpec | None]:
    if project.docker_env is not None and asked != "local":
        if asked:
            raise UsageError(
                f"The project runs in a container (docker_env in {project.source_file}), not in an environment of {asked}.",
                "Leave out --env-manager, or use --env-manager local.",
            )
        return "docker", None
    if asked == "local" or (project.python_env is None and project.conda_env is None):
        return "local", None
    if project.python_env is not None:
        if asked == "conda":
            raise UsageError(
                f"{project.python_env} is a python_env file, from which conda makes nothing.",
                "Leave out --env-manager.",
            )
        return "uv", spec.from_python_env(project.python_env)
    assert project.conda_env is not None
    environment = spec.from_conda(project.conda_env)
    if asked == "conda":
        return "conda", _with_conda(environment, project.conda_env)
    if environment.conda_file is not None:
        if asked == "uv":
            raise UsageError(
                f"{project.conda_env} needs packages that only conda has, so uv cannot make its environment.",
                "Use --env-manager conda.",
            )
        return "conda", environment
    return "uv", environment


def _with_conda(environment: EnvironmentSpec, file: Path) -> EnvironmentSpec:
    from dataclasses import replace

    return replace(environment, conda_file=file)


def _shell(line: str) -> Sequence[str]:
    if sys.platform == "win32":
        return ["cmd", "/c", line]
    shell = shutil.which("bash") or shutil.which("sh")
    if shell is None:
        raise NotFound("There is neither bash nor sh on this machine to run the entry point's command with.")
    return [shell, "-c", line]
