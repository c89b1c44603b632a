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
    one that no registry has; `example` its input example as a request body, None without one."""

    folder: Path
    label: str
    run_id: str = ""
    registered: str = ""
    example: bytes | None = None


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
    `variables` are environment variables of the process that answers.

    Of the managed target: `instance_type` and `instance_count` of machines; `canary` the shares in percent that a new deployment
    gets one after the other, each watched for `canary_wait_s`; `golden` a file of requests to compare answers by; without
    `wait` the deployment is only begun."""

    name: str = ""
    port: int | None = None
    env_manager: str = "uv"
    timeout_s: float = 120.0
    variables: Mapping[str, str] = field(default_factory=dict)
    instance_type: str = ""
    instance_count: int = 1
    canary: Sequence[int] = (100,)
    canary_wait_s: float = 30.0
    golden: Path | None = None
    wait: bool = True
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
    """What `apply` will do, and what may go wrong with it. Nothing has been changed yet."""

    target: str
    endpoint: str
    model: ModelToDeploy
    options: DeployOptions
    steps: Sequence[PlanStep]
    warnings: Sequence[str] = ()


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

    def logs(self, name: str, follow: bool = False, lines: int = 100) -> Iterator[str]: ...

    def keys(self, name: str, rotate: bool = False) -> Sequence[str]: ...

    def set_traffic(self, name: str, traffic: Mapping[str, int]) -> Endpoint: ...

    def rollback(self, name: str) -> Endpoint: ...

    def delete(self, name: str) -> None: ...


def plain_name(text: str) -> str:
    """A model's name, or the last part of a path, as the services of Azure take names."""
    base = text.rstrip("/").split("/")[-1].lower()
    name = "".join(character if character.isalnum() else "-" for character in base).strip("-")
    return name[:60].encode("ascii", "ignore").decode().strip("-") or "model"


def newer(seen: Sequence[str], now: Sequence[str]) -> Sequence[str]:
    """The lines of a log's end `now` after the last of an earlier end `seen`; all of them where that is not among them."""
    tail = list(seen[-20:])
    for end in range(len(now), len(tail) - 1, -1):
        if list(now[end - len(tail) : end]) == tail:
            return now[end:]
    return now
