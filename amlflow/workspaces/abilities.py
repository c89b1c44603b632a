"""What only some workspaces can do, each as a small protocol, and the values that cross its border.

A service asks with `computes(workspace)` and the like; a workspace without the ability raises `NotSupported`. Times are epoch
milliseconds, durations seconds, sizes bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

from amlflow.errors import NotSupported
from amlflow.workspaces.base import Workspace

if TYPE_CHECKING:
    from amlflow.workspaces.azure.service import Service

ComputeKind = Literal["cluster", "instance", "machine", "kubernetes", "other"]
Tier = Literal["dedicated", "spot"]
# Bytes done and bytes in all.
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Compute:
    """Where jobs run. `nodes` are those up now; `idle_s` is the time after which an idle one is let go; `instance_types` are what
    a Kubernetes cluster gives to choose from."""

    name: str
    kind: ComputeKind
    state: str
    size: str
    tier: Tier = "dedicated"
    min_nodes: int = 1
    max_nodes: int = 1
    nodes: int = 1
    idle_s: int | None = None
    location: str = ""
    problem: str = ""
    instance_types: Sequence[str] = ()

    @property
    def takes_jobs(self) -> bool:
        return self.state.lower() not in ("stopped", "stopping", "failed", "deleting", "creating")


@dataclass(frozen=True, slots=True)
class ComputeSpec:
    name: str
    kind: Literal["cluster", "instance"] = "cluster"
    size: str = "Standard_DS3_v2"
    min_nodes: int = 0
    max_nodes: int = 1
    tier: Tier = "dedicated"
    idle_s: int | None = None


class Computes(Protocol):
    """Every method but `list` raises `NotFound`, naming the nearest, for a compute that does not exist."""

    def list(self) -> list[Compute]: ...

    def get(self, name: str) -> Compute: ...

    def create(self, spec: ComputeSpec, report: Callable[[str], None]) -> Compute:
        """Make it, or change the one of that name, and wait until it is there."""
        ...

    def attach(self, name: str, cluster: str, namespace: str, report: Callable[[str], None]) -> Compute:
        """Make a Kubernetes cluster, which is there, a compute of the workspace; `cluster` is its ARM id."""
        ...

    def start(self, name: str, report: Callable[[str], None]) -> Compute: ...

    def stop(self, name: str, report: Callable[[str], None]) -> Compute: ...

    def delete(self, name: str, report: Callable[[str], None]) -> None: ...


@dataclass(frozen=True, slots=True)
class Datastore:
    """A place for files. `uri` is how a job's input names it."""

    name: str
    kind: str
    is_default: bool
    location: str
    uri: str
    sign_in: str = ""


@dataclass(frozen=True, slots=True)
class StoredFile:
    """`path` is relative to the datastore. A folder has no size and no time."""

    path: str
    is_dir: bool
    size_bytes: int | None = None
    modified_ms: int | None = None


class Datastores(Protocol):
    """An empty name is the default datastore. Raises `NotFound`, naming the nearest."""

    def list(self) -> list[Datastore]: ...

    def get(self, name: str) -> Datastore: ...

    def files(self, name: str, path: str, recursive: bool = False) -> Iterator[StoredFile]:
        """What is in a folder, or the file of that path."""
        ...

    def upload(self, name: str, source: Path, path: str, progress: Progress) -> int:
        """Send a file, or a folder with all it holds, to `path`; what is there already is not sent again. Returns the number of
        files that were sent."""
        ...

    def download(self, name: str, path: str, destination: Path, progress: Progress) -> int:
        """Fetch a file or folder into the folder `destination`, going on where an earlier attempt stopped. Returns the number of
        files. Raises `NotFound` when there is nothing at `path`."""
        ...


JobKind = Literal["uri_file", "uri_folder", "mltable", "mlflow_model", "custom_model", "literal"]


@dataclass(frozen=True, slots=True)
class JobInput:
    """`value` is a literal, or where the data is: a URI, or a path of this machine, which is uploaded."""

    kind: JobKind
    value: str
    mode: str = ""


@dataclass(frozen=True, slots=True)
class JobOutput:
    """`uri` is where it goes, empty for a place that the workspace chooses."""

    kind: JobKind
    uri: str = ""


@dataclass(frozen=True, slots=True)
class JobEnvironment:
    """Where a job's program runs: an environment that the workspace has (`NAME:VERSION` or an id), or an `image`, alone or
    with the packages of `conda` (the text of a conda file)."""

    named: str = ""
    image: str = ""
    conda: str = ""


@dataclass(frozen=True, slots=True)
class JobSpec:
    """A command to run on a compute. `command` is a line for the shell, in which `${{inputs.NAME}}` and
    `${{outputs.NAME}}` stand for paths. `beside` are files put next to the code under the names given. `size` is the
    machine of a serverless compute."""

    name: str
    command: str
    code: Path
    environment: JobEnvironment
    compute: str
    experiment: str
    display_name: str = ""
    inputs: Mapping[str, JobInput] = field(default_factory=dict)
    outputs: Mapping[str, JobOutput] = field(default_factory=dict)
    variables: Mapping[str, str] = field(default_factory=dict)
    beside: Mapping[str, Path] = field(default_factory=dict)
    instances: int = 1
    size: str = ""
    distribution: str = ""
    processes: int = 0
    tier: str = ""
    shm_size: str = ""
    docker_args: str = ""
    timeout_s: int = 0
    identity: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    properties: Mapping[str, str] = field(default_factory=dict)
    code_limit_bytes: int = 300_000_000


@dataclass(frozen=True, slots=True)
class Job:
    """A job of a compute. `status` is the service's own word."""

    id: str
    name: str
    experiment: str
    status: str
    compute: str
    submitted_ms: int
    ended_ms: int | None = None
    url: str = ""
    problem: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def outcome(self) -> Literal["running", "finished", "failed", "killed"]:
        low = self.status.lower()
        if low in ("completed", "finished"):
            return "finished"
        if low in ("failed", "notresponding"):
            return "failed"
        return "killed" if low in ("canceled", "cancelled", "killed") else "running"


@dataclass(frozen=True, slots=True)
class JobQuery:
    """`status` is the service's own word or one of running, finished, failed, killed."""

    status: str = ""
    compute: str = ""
    experiment: str = ""
    limit: int | None = None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What of a folder is sent with a job. `left_out` are the names of what the ignore file or a link that leads out keeps
    here."""

    files: Sequence[tuple[str, Path]]
    size_bytes: int
    digest: str
    left_out: Sequence[str] = ()


class Jobs(Protocol):
    """Jobs on computes. A method that takes a job raises `NotFound`, naming the nearest, for one that does not exist."""

    def list(self, query: JobQuery) -> Iterator[Job]:
        """Newest first."""
        ...

    def get(self, name: str) -> Job: ...

    def outcome(self, name: str) -> Job:
        """The job with the reason of its failure, as far as the service and its logs say."""
        ...

    def find(self, asked: str) -> Job:
        """By name, unique prefix, display name or `last`."""
        ...

    def cancel(self, name: str) -> Job: ...

    def logs(self, name: str, follow: bool, report: Callable[[str], None]) -> Iterator[bytes]:
        """What the job has printed so far, the building of its image first; with `follow` until it ends. `report` is told of each
        new status."""
        ...

    def download(self, name: str, destination: Path, output: str, progress: Progress) -> int:
        """Fetch the outputs and logs of a job, or one named output. Returns the number of files; raises `NotFound` for none."""
        ...

    def again(self, name: str, new_name: str) -> Job:
        """Submit the same job once more. Raises for one that has not ended."""
        ...


@runtime_checkable
class TakesJobs(Jobs, Protocol):
    """Jobs of a service that runs any command which is described to it."""

    def snapshot(self, spec: JobSpec) -> Snapshot: ...

    def check(self, spec: JobSpec) -> None:
        """Raises for whatever would make the job fail later: no such compute, one that is stopped or too small."""
        ...

    def submit(self, spec: JobSpec, report: Callable[[str], None], progress: Progress) -> Job: ...


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check of the set-up has found. `state` wrong means that commands will fail; `mend` is what puts it right."""

    check: str
    state: Literal["ok", "note", "wrong"]
    detail: str
    mend: str = ""


@runtime_checkable
class Diagnosed(Protocol):
    """A workspace that can say what is wrong with it, and where its pages are."""

    def diagnose(self) -> Iterator[Finding]: ...

    def page(self, job: str = "") -> str:
        """The address of the workspace's page for people, or of one of its runs or jobs; empty for none."""
        ...


@runtime_checkable
class HasComputes(Protocol):
    @property
    def computes(self) -> Computes: ...


@runtime_checkable
class HasDatastores(Protocol):
    @property
    def datastores(self) -> Datastores: ...


@runtime_checkable
class HasJobs(Protocol):
    @property
    def jobs(self) -> Jobs: ...


@runtime_checkable
class HasOnlineEndpoints(Protocol):
    @property
    def service(self) -> Service:
        """The workspace as its resource manager knows it."""
        ...


def computes(workspace: Workspace) -> Computes:
    """Raises `NotSupported` for a workspace without computes."""
    if isinstance(workspace, HasComputes):
        return workspace.computes
    raise NotSupported(
        f"{workspace.name!r} is an MLflow tracking server, which has no computes.",
        "Name an Azure ML workspace with -w, or leave out --compute to run here.",
    )


def datastores(workspace: Workspace) -> Datastores:
    """Raises `NotSupported` for a workspace without datastores."""
    if isinstance(workspace, HasDatastores):
        return workspace.datastores
    raise NotSupported(
        f"{workspace.name!r} is an MLflow tracking server, which has no datastores.",
        "Use `amlflow run download` and `amlflow log artifact` for the files of its runs.",
    )


def jobs(workspace: Workspace) -> Jobs:
    """Raises `NotSupported` for a workspace that runs no jobs on computes."""
    if isinstance(workspace, HasJobs):
        return workspace.jobs
    raise _no_jobs(workspace)


def takes_jobs(workspace: Workspace) -> TakesJobs:
    """Raises `NotSupported` for a workspace whose computes run no command of any kind."""
    if isinstance(workspace, HasJobs) and isinstance(found := workspace.jobs, TakesJobs):
        return found
    raise _no_jobs(workspace)


def _no_jobs(workspace: Workspace) -> NotSupported:
    if workspace.kind == "databricks":
        return NotSupported(
            f"{workspace.name!r} is a Databricks workspace, whose computes are clusters.",
            "Name one: `--compute databricks:CLUSTER`.",
        )
    return NotSupported(
        f"Workspace {workspace.name!r} runs no jobs on computes.",
        "Name an Azure ML workspace with -w, or leave out --compute to run here.",
    )
