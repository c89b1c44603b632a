"""An MLflow Project as a job on a compute: planned, submitted, followed."""

from __future__ import annotations

import re
import secrets
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, get_args

from amlflow import paths
from amlflow.errors import AmlflowError, NotFound, UsageError, nearest
from amlflow.journal import shipping
from amlflow.mlproject import command as commands
from amlflow.mlproject import file as project_files
from amlflow.mlproject import source as sources
from amlflow.mlproject.command import Place
from amlflow.mlproject.file import EntryPoint, Project
from amlflow.mlproject.source import ProjectSource
from amlflow.services import remote_environment, tracking
from amlflow.services.projects import ProjectRequest, mistaken
from amlflow.workspaces import abilities
from amlflow.workspaces.abilities import Job, JobInput, JobKind, JobOutput, JobSpec, Progress
from amlflow.workspaces.base import Workspace

_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")
# The folder that the journal has beside the code of a job.
_BESIDE = ".amlflow"
_KINDS: tuple[str, ...] = get_args(JobKind)
_DURATION = re.compile(r"(\d+)([smhd]?)")
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}


@dataclass(frozen=True, slots=True)
class RemoteOptions:
    """How the job is to run. `inputs` are `NAME=PATH`, `NAME=URI` or `NAME=TYPE:URI`; `results` are `NAME=TYPE` or
    `NAME=TYPE:URI`; `timeout` is a number of seconds, or one with s, m, h or d."""

    compute: str
    inputs: Sequence[str] = ()
    results: Sequence[str] = ()
    environment: str = ""
    instances: int = 1
    size: str = ""
    distribution: str = ""
    processes: int = 0
    tier: str = ""
    shm_size: str = ""
    docker_args: str = ""
    timeout: str = ""
    identity: str = ""
    code_limit_mb: int = 300


@dataclass(frozen=True, slots=True)
class RemotePlan:
    """`params` are the entry point's, as they are recorded; `warnings` is what a person should read before it is sent."""

    request: ProjectRequest
    source: ProjectSource
    project: Project
    spec: JobSpec
    params: Mapping[str, str]
    warnings: Sequence[str] = field(default_factory=tuple)


def plan(request: ProjectRequest, options: RemoteOptions) -> RemotePlan:
    """Fetch the project and work out its job; nothing is sent. Raises `UsageError` or `NotFound` for what is wrong here."""
    if request.env_manager:
        raise UsageError("--env-manager is for projects that run here.", "Use --environment with --compute.")
    if request.options.rank_zero and options.distribution == "tensorflow":
        raise UsageError(
            "--rank-zero-only knows the first process of --distribution pytorch and mpi; those of tensorflow have no rank.",
            "Leave it out, and log in the program where its TF_CONFIG names the first worker.",
        )
    source = sources.fetch(request.uri, request.version)
    project = project_files.load(source.project_folder)
    entry_point = project.entry_point(request.entry_point)
    inputs = {name: _input(value) for name, value in remote_environment.named_lines(options.inputs, "input").items()}
    outputs = {
        name: _output(value) for name, value in remote_environment.named_lines(options.results, "result").items()
    }
    _check_apart(inputs, outputs, request.params)
    places, path_inputs, recorded = _places(entry_point, request.params, inputs, outputs, source.project_folder)
    line, params = commands.shell_line(entry_point, {**request.params, **places})
    environment, warnings = remote_environment.chosen(project, options.environment)
    if said := mistaken(project, request):
        warnings = [said, *warnings]
    experiment = tracking.experiment_name(request.experiment)
    name = _job_name(request.run_name or project.name or entry_point.name)
    spec = JobSpec(
        name,
        line,
        source.project_folder,
        environment,
        options.compute,
        experiment,
        request.run_name,
        {**inputs, **path_inputs},
        outputs,
        {**remote_environment.variables(project), **request.options.variables},
        instances=options.instances,
        size=options.size,
        distribution=options.distribution,
        processes=options.processes,
        tier=options.tier,
        shm_size=options.shm_size,
        docker_args=options.docker_args,
        timeout_s=seconds(options.timeout),
        identity=options.identity,
        tags={**_tags(source, request.entry_point), **request.tags},
        properties=_properties(source),
        code_limit_bytes=options.code_limit_mb * 1_000_000,
    )
    return RemotePlan(request, source, project, spec, {**params, **recorded}, warnings)


def describe(workspace: Workspace, planned: RemotePlan) -> dict[str, Any]:
    """The plan as a record, for --dry-run: what would be sent, and to where. Raises for what the workspace would refuse."""
    jobs = abilities.takes_jobs(workspace)
    spec = planned.spec
    jobs.check(spec)
    snapshot = jobs.snapshot(sent(spec))
    return {
        "project": planned.source.uri,
        "commit": planned.source.commit,
        "dirty": planned.source.dirty,
        "entry_point": planned.request.entry_point,
        "command": spec.command,
        "params": dict(planned.params),
        "experiment": spec.experiment,
        "compute": spec.compute,
        "instances": spec.instances,
        "environment": spec.environment.named or spec.environment.image,
        "conda_file": spec.environment.conda,
        "inputs": {name: f"{value.kind}:{value.value}" for name, value in spec.inputs.items()},
        "outputs": {name: f"{value.kind}:{value.uri}" for name, value in spec.outputs.items()},
        "files": [name for name, _ in snapshot.files],
        "left_out": list(snapshot.left_out),
        "size_bytes": snapshot.size_bytes,
        "warnings": list(planned.warnings),
    }


def submit(workspace: Workspace, planned: RemotePlan, report: Callable[[str], None], progress: Progress) -> Job:
    """Send the job. Its parameters are recorded in its run, which has the job's id."""
    for warning in planned.warnings:
        report(warning)
    job = abilities.takes_jobs(workspace).submit(sent(planned.spec), report, progress)
    if planned.params:
        try:
            workspace.log_batch(job.id, params=dict(planned.params))
        except AmlflowError as error:
            # The job is on its way; that its parameters are missing in a comparison is no reason to call it failed.
            report(f"Warning: the parameters could not be recorded in the job's run: {error.message}")
    return job


def sent(spec: JobSpec) -> JobSpec:
    """The job with the journal beside its code, and its command run within it: so that every MLflow works there. Where the job
    has no Python, the command runs as it is."""
    line = shlex.quote(spec.command)
    run = f"python -m {shipping.PACKAGE}.job {line}"
    command = (
        f'export PYTHONPATH="$PWD/{_BESIDE}${{PYTHONPATH:+:$PYTHONPATH}}"; '
        f"if command -v python >/dev/null; then {run}; else {spec.command}; fi"
    )
    return replace(spec, command=command, beside={**spec.beside, _BESIDE: shipping.ship(paths.cache() / "journal")})


def follow(workspace: Workspace, job: Job, report: Callable[[str], None]) -> Iterator[bytes]:
    """What the job prints, until it has ended."""
    return abilities.jobs(workspace).logs(job.id, True, report)


def ended(workspace: Workspace, job: Job) -> tuple[Job, int]:
    """The job as it is after its end, and the exit code that stands for that: 0 for one that did its work, else 1."""
    found = abilities.jobs(workspace).outcome(job.id)
    return found, 0 if found.outcome == "finished" else 1


def _places(
    entry_point: EntryPoint,
    given: Mapping[str, str],
    inputs: Mapping[str, JobInput],
    outputs: Mapping[str, JobOutput],
    folder: Path,
) -> tuple[dict[str, Place], dict[str, JobInput], dict[str, str]]:
    """What stands for a path in the command: a named input or output, and each `path` or `uri` parameter that needs one;
    the inputs that these make; and the values to record in their places."""
    places = {name: Place(f"${{{{inputs.{name}}}}}") for name in inputs}
    places |= {name: Place(f"${{{{outputs.{name}}}}}") for name in outputs}
    recorded = {name: value.value for name, value in inputs.items()}
    recorded |= {name: value.uri or f"${{{{outputs.{name}}}}}" for name, value in outputs.items()}
    made: dict[str, JobInput] = {}
    for name, parameter in entry_point.parameters.items():
        value = given.get(name, parameter.default)
        if name in places or parameter.type not in ("path", "uri") or value is None:
            continue
        if parameter.type == "uri" and _URI.match(value):
            # The program reads it itself.
            continue
        local = Path(value).expanduser()
        if not _URI.match(value) and not local.exists() and value and (folder / value).exists():
            # It goes with the code.
            places[name] = Place(value)
            recorded[name] = value
            continue
        key = re.sub(r"\W", "_", name)
        if key in inputs or key in made:
            raise UsageError(f"The parameter {name!r} would be the input {key!r}, of which there is one already.")
        made[key] = _input(value)
        places[name] = Place(f"${{{{inputs.{key}}}}}")
        recorded[name] = value
    return places, made, recorded


def _input(text: str) -> JobInput:
    kind, colon, rest = text.partition(":")
    if colon and kind in _KINDS and kind != "literal":
        return JobInput(_kind(kind), _input(rest).value)
    if _URI.match(text) and not text.startswith("file:"):
        name = text.rstrip("/").rsplit("/", 1)[-1]
        looks_like_file = "." in name and not text.endswith("/") and not re.match(r"azureml:[^/]", text)
        return JobInput("uri_file" if looks_like_file else "uri_folder", text)
    place = Path(text.removeprefix("file://").removeprefix("file:")).expanduser()
    if not text or not place.exists():
        raise NotFound(
            f"There is no file or folder {text!r}.", f"A relative path is relative to the current folder, {Path.cwd()}."
        )
    return JobInput("uri_file" if place.is_file() else "uri_folder", str(place.absolute()))


def _output(text: str) -> JobOutput:
    kind, _, uri = text.partition(":")
    return JobOutput(_kind(kind or "uri_folder"), uri)


def _kind(text: str) -> JobKind:
    for kind in get_args(JobKind):
        if text == kind and kind != "literal":
            return kind  # type: ignore[no-any-return]
    known = [kind for kind in _KINDS if kind != "literal"]
    near = nearest(text, known)
    hint = f" Did you mean {near}?" if near else ""
    raise UsageError(f"There is no type {text!r} of an input or output.{hint}", f"It is one of {', '.join(known)}.")


def _check_apart(inputs: Mapping[str, Any], outputs: Mapping[str, Any], params: Mapping[str, str]) -> None:
    for name in inputs:
        if name in outputs:
            raise UsageError(f"{name!r} is both an input and a result.", "Give one of them another name.")
    for name in (*inputs, *outputs):
        if name in params:
            raise UsageError(f"{name!r} is given both by -P and as an input or result.", "Leave one of them out.")


def _job_name(said: str) -> str:
    slug = re.sub(r"[^a-z0-9]+", "-", said.lower()).strip("-")[:40] or "job"
    return f"{slug if slug[0].isalpha() else f'job-{slug}'}-{secrets.token_hex(5)}"


def seconds(text: str) -> int:
    if not text:
        return 0
    match = _DURATION.fullmatch(text.strip().lower())
    if not match or not int(match[1]):
        raise UsageError(f"{text!r} is no time.", "Give seconds, or a number with m, h or d: --timeout 2h.")
    return int(match[1]) * _UNITS[match[2]]


def _tags(source: ProjectSource, entry_point: str) -> dict[str, str]:
    return {
        "mlflow.source.name": source.name,
        "mlflow.source.type": "PROJECT",
        "mlflow.project.entryPoint": entry_point,
        "mlflow.project.backend": "azureml",
    }


def _properties(source: ProjectSource) -> dict[str, str]:
    """Where the code comes from, under the names by which the studio shows it."""
    if not source.commit:
        return {}
    found = {
        "mlflow.source.git.commit": source.commit,
        "mlflow.source.git.repoURL": source.repo_url,
        "mlflow.source.git.branch": source.branch,
        "azureml.git.dirty": str(source.dirty),
    }
    return {key: value for key, value in found.items() if value}
