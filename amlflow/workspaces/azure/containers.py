"""Container groups of Azure Container Instances in the resource group of a workspace."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from amlflow.errors import AmlflowError, NotAllowed, NotFound
from amlflow.journal.retry import RetryPolicy, Transient, persist
from amlflow.workspaces.azure.arm import segment
from amlflow.workspaces.azure.http import POLICY, Http, Unanswered
from amlflow.workspaces.azure.service import Service

CONTAINERS_API = "2023-05-01"
PROVIDER = "Microsoft.ContainerInstance"
_SCORE_S = 120.0
_PROBE_S = 15.0
_POLL_S = 2.0
_PASSING = ("pending", "creating", "updating", "repairing")


@dataclass(frozen=True, slots=True)
class ContainerState:
    """One container of a group. `state` is Azure's (Running, Waiting, Terminated), empty before it was there; `exit_code` how it
    ended last, None while it never did; `events` what Azure notes of it, oldest first."""

    name: str
    state: str
    detail: str
    exit_code: int | None
    restarts: int
    events: Sequence[str]


@dataclass(frozen=True, slots=True)
class ContainerGroup:
    """`state` is Azure's provisioning state, `running` that of the containers together; `record` all that the service says."""

    name: str
    location: str
    state: str
    running: str
    fqdn: str
    ip: str
    tags: Mapping[str, str]
    containers: Sequence[ContainerState]
    record: Mapping[str, Any] = field(default_factory=dict)

    def container(self, name: str) -> ContainerState:
        found = next((item for item in self.containers if item.name == name), None)
        return found or ContainerState(name, "", "", None, 0, ())


class AzureContainers:
    """Every method that takes a name raises `NotFound` for what is not there."""

    def __init__(self, service: Service) -> None:
        self._service, self._arm = service, service.arm
        # What is not there yet is asked again by whoever waits for it.
        self._once = Http(service.http.credential, RetryPolicy(most=0))

    def all(self) -> list[ContainerGroup]:
        """Without the states of their containers, which a listing has not."""
        path = f"{self._root()}/containerGroups"
        return [_group(item) for item in self._arm.pages(path, CONTAINERS_API, "list of container groups")]

    def get(self, name: str) -> ContainerGroup:
        return _group(self._arm.get(self._path(name), CONTAINERS_API, f"container group {name!r}"))

    def begin(self, name: str, body: Mapping[str, Any]) -> Callable[[Callable[[str], None]], None]:
        """Make or change the group; what is returned waits until it is done, and raises `AmlflowError` when it fails."""
        what = f"container group {name!r}"
        with named_right():
            answer = self._arm.put(self._path(name), CONTAINERS_API, what, body)

        def wait(report: Callable[[str], None]) -> None:
            self._arm.finished(answer, what, report)
            # A change may be answered as if it were done.
            while (state := self.get(name).state).lower() in _PASSING:
                time.sleep(_POLL_S)
            if state.lower() == "failed":
                raise AmlflowError(f"The {what} failed, and Azure gives no reason.")

        return wait

    def delete(self, name: str) -> None:
        """That it is gone already is as good."""
        what = f"container group {name!r}"
        try:
            with named_right():
                self._arm.finished(self._arm.delete(self._path(name), CONTAINERS_API, what), what)
        except NotFound:
            return

    def logs(self, name: str, container: str, lines: int) -> list[str]:
        path = f"{self._path(name)}/containers/{segment(container)}/logs"
        what = f"log of container {container!r} of {name!r}"
        return str(self._arm.get(path, CONTAINERS_API, what, tail=lines).get("content") or "").splitlines()

    def usage(self, location: str) -> dict[str, tuple[int, int]]:
        """What of each resource (`StandardCores`, `ContainerGroups`) the subscription uses in the region, and may use."""
        path = f"/subscriptions/{segment(self._service.subscription)}/providers/{PROVIDER}/locations/{segment(location)}/usages"
        return {
            str((item.get("name") or {}).get("value") or ""): (
                int(item.get("currentValue") or 0),
                int(item.get("limit") or 0),
            )
            for item in self._arm.pages(path, CONTAINERS_API, f"quota of container instances in {location!r}")
        }

    def ask(self, url: str, key: str) -> tuple[int, str]:
        """Ask the address once, without patience: the status, 0 for no answer, and what is wrong with it."""
        address, named = _reachable(url)
        try:
            answer = self._once.send("GET", address, scope=None, headers={**named, **_bearer(key)}, timeout_s=_PROBE_S)
        except Unanswered as error:
            return error.status, error.failure.reason
        return answer.status_code, f"answered {answer.status_code}"

    def score(self, url: str, key: str, body: bytes, content_type: str) -> tuple[int, bytes]:
        """The status and the body of the answer. Raises `Unavailable`."""
        address, named = _reachable(url)
        headers = {**named, **_bearer(key), "Content-Type": content_type}

        def attempt(remaining_s: float) -> tuple[int, bytes]:
            try:
                answer = self._once.send("POST", address, scope=None, data=body, headers=headers, timeout_s=_SCORE_S)
            except Unanswered as error:
                if error.status == 500:
                    # The model's own failure, which asking again does not mend.
                    return 500, json.dumps({"error": {"message": error.failure.reason}}).encode()
                raise error.failure from error
            return answer.status_code, answer.content

        try:
            return persist(POLICY, attempt)
        except Transient as failure:
            raise Unanswered(urlsplit(url).netloc, failure) from failure

    def _root(self) -> str:
        return f"{self._service.path.split('/providers/')[0]}/providers/{PROVIDER}"

    def _path(self, name: str) -> str:
        return f"{self._root()}/containerGroups/{segment(name)}"


@contextlib.contextmanager
def named_right() -> Iterator[None]:
    """A stretch whose refusals name the right, or the registration, that lets one make container groups."""
    try:
        yield
    except NotAllowed as error:
        mend = "Ask for the role «Contributor» on the resource group, or sign in as somebody else (--auth)."
        raise NotAllowed(error.message, mend) from error
    except AmlflowError as error:
        if "MissingSubscriptionRegistration" not in error.message:
            raise
        raise AmlflowError(
            error.message, f"Register it once: `az provider register --namespace {PROVIDER}`."
        ) from error


def _group(item: Mapping[str, Any]) -> ContainerGroup:
    properties = item.get("properties") or {}
    address = properties.get("ipAddress") or {}
    return ContainerGroup(
        str(item.get("name") or ""),
        str(item.get("location") or ""),
        str(properties.get("provisioningState") or ""),
        str((properties.get("instanceView") or {}).get("state") or ""),
        str(address.get("fqdn") or ""),
        str(address.get("ip") or ""),
        {str(key): str(value) for key, value in (item.get("tags") or {}).items()},
        [_container(container) for container in properties.get("containers") or []],
        item,
    )


def _container(item: Mapping[str, Any]) -> ContainerState:
    view = (item.get("properties") or {}).get("instanceView") or {}
    now, before = view.get("currentState") or {}, view.get("previousState") or {}
    ended = now if str(now.get("state")).lower() == "terminated" else before
    return ContainerState(
        str(item.get("name") or ""),
        str(now.get("state") or ""),
        str(now.get("detailStatus") or ""),
        None if ended.get("exitCode") is None else int(ended["exitCode"]),
        int(view.get("restartCount") or 0),
        [f"{event.get('name')}: {event.get('message')}" for event in view.get("events") or []],
    )


def _bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"} if key else {}


def _reachable(url: str) -> tuple[str, dict[str, str]]:
    """The address to connect to and the header that names the host. Names below `localhost` are this machine's own (RFC 6761),
    which not every resolver knows."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if not host.endswith(".localhost"):
        return url, {}
    return url.replace(host, "127.0.0.1", 1), {"Host": parts.netloc}
