"""What every deploy target can do, and the values that it takes and gives."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Protocol

# The deployment of a target that has one alone.
CURRENT = "current"
PlanAction = Literal["create", "change", "keep"]
EndpointState = Literal["running", "starting", "restarting", "failed", "stopped"]


@dataclass(frozen=True, slots=True)
class ModelToDeploy:
    """A model's folder with its MLmodel file, and how to call it in a message (`wine:3`). `registered` is NAME:VERSION, empty for
    one that no registry has; `example` its input example as a request body, None without one; `mlmodel` the content of the
    file."""

    folder: Path
    label: str
    run_id: str = ""
    registered: str = ""
    example: bytes | None = None
    mlmodel: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class OnlineOptions:
    """Of the targets that are online endpoints of Azure ML: `instance_type` and `instance_count` of machines; `canary` the
    shares in percent that a new deployment gets one after the other, each watched for `canary_wait_s`; `golden` a file of
    requests to compare answers by; `mirror` the percentage of requests that it also gets before, for as long.

    `scoring` is auto, azure or own; `auth_mode` key or aad, empty for what the endpoint has; `request_timeout_s` 0 for Azure's
    default; `autoscale` MIN:MAX:CPU%, empty for none; `private` and not `egress` close the network to and from it. Of clusters
    alone: `compute` is the cluster's name, empty for the one that the endpoint has; `cpu` (cores) and `memory_gb` are what a
    container asks for, 0 for the cluster's default."""

    instance_type: str = ""
    instance_count: int = 1
    canary: Sequence[int] = (100,)
    canary_wait_s: float = 30.0
    golden: Path | None = None
    mirror: int = 0
    scoring: str = "auto"
    auth_mode: str = ""
    request_timeout_s: int = 0
    autoscale: str = ""
    private: bool = False
    egress: bool = True
    compute: str = ""
    cpu: float = 0.0
    memory_gb: float = 0.0


@dataclass(frozen=True, slots=True)
class Collecting:
    """What an endpoint keeps of its requests and answers: the share `rate` (0 to 1) of them, without the columns `dropped`, and
    with a keyed hash for each value of those `hashed`."""

    rate: float = 1.0
    dropped: Sequence[str] = ()
    hashed: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class BatchOptions:
    """Of the batch target: `compute` is the cluster that scores; `output_action` append (a file of predictions) or summary;
    `mini_batch_size` files are scored at once, with `retries`, each given `timeout_s`, by `max_concurrency` processes on each
    node; without `smoke` a new deployment is not asked before it takes over."""

    compute: str = ""
    mini_batch_size: int = 10
    output_action: str = "append"
    max_concurrency: int = 1
    retries: int = 3
    timeout_s: int = 30
    smoke: bool = True


@dataclass(frozen=True, slots=True)
class ContainerOptions:
    """Of the aci target: `cpu` cores and `memory_gb` of the container with the model; `location` empty for the workspace's;
    `dns_label` empty for one made of the name; `tags` beside amlflow's own; `subnet` the ARM id of one that the group is put
    into, with no public address; `https_image` the image with Caddy; `insecure` for a service that asks for no key."""

    cpu: float = 1.0
    memory_gb: float = 2.0
    location: str = ""
    dns_label: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    subnet: str = ""
    https_image: str = ""
    insecure: bool = False


@dataclass(frozen=True, slots=True)
class DeployOptions:
    """`port` None takes a free one; `env_manager` is uv, local or conda; `timeout_s` bounds the wait for the first answer;
    `variables` are environment variables of the process that answers; without `wait` the deployment is only begun, where the
    target can do that; `collect` None collects nothing. `online` counts for online endpoints of Azure ML alone."""

    name: str = ""
    port: int | None = None
    env_manager: str = "uv"
    timeout_s: float = 120.0
    variables: Mapping[str, str] = field(default_factory=dict)
    wait: bool = True
    collect: Collecting | None = None
    online: OnlineOptions = field(default_factory=OnlineOptions)
    batch: BatchOptions = field(default_factory=BatchOptions)
    container: ContainerOptions = field(default_factory=ContainerOptions)

    def named(self, name: str) -> DeployOptions:
        return replace(self, name=name)


@dataclass(frozen=True, slots=True)
class PlanStep:
    action: PlanAction
    what: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """What `apply` will do, and what may go wrong with it; `fresh` where the target has no endpoint of that name yet. Nothing has
    been changed yet."""

    target: str
    endpoint: str
    model: ModelToDeploy
    options: DeployOptions
    steps: Sequence[PlanStep]
    warnings: Sequence[str] = ()
    fresh: bool = True


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A web service. `started_ms` is when it was first deployed; `model_folder`, `pid`, `port` and `log_file` are empty or 0
    where it does not run on this machine; `traffic` is each deployment's share in percent."""

    name: str
    target: str
    state: EndpointState
    model: str
    model_folder: str
    url: str
    scoring_url: str
    port: int
    pid: int
    started_ms: int
    log_file: str
    traffic: Mapping[str, int] = field(default_factory=dict)


class DeployTarget(Protocol):
    """Every method that takes a name raises `NotFound` for an endpoint that is not there, and `NotSupported` for what this
    target cannot do."""

    def plan(self, model: ModelToDeploy, options: DeployOptions) -> Plan: ...

    def apply(self, plan: Plan, report: Callable[[str], None]) -> Endpoint:
        """Do it, and wait until the endpoint answers. A failed first deploy leaves nothing behind; a failed later one
        leaves what ran before."""
        ...

    def list(self) -> list[Endpoint]: ...

    def status(self, name: str) -> Endpoint: ...

    def invoke(self, name: str, body: bytes, content_type: str) -> Any:
        """The parsed answer. Raises `AmlflowError` with the service's own words for a request that it refuses."""
        ...

    def logs(self, name: str, follow: bool = False, lines: int = 100, deployment: str = "") -> Iterator[str]:
        """Of the deployment of that name, or of the one that answers, and of the one that takes its place meanwhile."""
        ...

    def keys(self, name: str, rotate: bool = False) -> Sequence[str]: ...

    def set_traffic(self, name: str, traffic: Mapping[str, int]) -> Endpoint: ...

    def rollback(self, name: str) -> Endpoint: ...

    def collected(self, name: str, since_ms: int | None, until_ms: int | None) -> Path:
        """The folder of what the endpoint has collected, in the layout of Azure ML's data collector, with all of that time; it
        may hold more, or nothing."""
        ...

    def delete(self, name: str) -> None: ...


def plain_name(text: str) -> str:
    """A model's name, or the last part of a path, as the services of Azure take names."""
    base = text.rstrip("/").split("/")[-1].lower()
    name = "".join(character if character.isalnum() else "-" for character in base).strip("-")
    return name[:60].encode("ascii", "ignore").decode().strip("-") or "model"


def newer(seen: Sequence[str], now: Sequence[str]) -> Sequence[str]:
    """The lines of a log's end `now` after the last of an earlier end `seen`; all of them where that is not among them."""
    tail = list(seen[-20:])
    for end in range(len(now), len(tail) - 1, -1) if tail else ():
        if list(now[end - len(tail) : end]) == tail:
            return now[end:]
    return now
