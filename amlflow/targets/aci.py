"""The aci target: a container group of Azure Container Instances, with the model's own image from the workspace's registry.

The group's tags say what it serves; nothing else is kept of it but its key, which Azure never shows again: this machine keeps it.
"""

from __future__ import annotations

import builtins
import contextlib
import json
import os
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from amlflow.errors import AmlflowError, NotAllowed, NotFound, NotSupported, Unavailable
from amlflow.monitoring import collection
from amlflow.serving.app import KEY_VARIABLE
from amlflow.targets.aci_group import APP, MODEL, OPEN, beside, check
from amlflow.targets.aci_rollout import Rollout, put_again
from amlflow.targets.aci_situation import Azure, Situation, crashed, find, owned, uses_identity
from amlflow.targets.base import (
    CURRENT,
    DeployOptions,
    Endpoint,
    EndpointState,
    ModelToDeploy,
    Plan,
    PlanStep,
    newer,
)
from amlflow.targets.image import PORT
from amlflow.workspaces.azure import collected
from amlflow.workspaces.azure.containers import ContainerGroup
from amlflow.workspaces.azure.identities import BLOB_WRITER
from amlflow.workspaces.azure.service import Service, epoch_ms

_FOLLOW_S = 5.0
_ROTATED_S = 300.0
_POLL_S = 1.0
_STATES: Mapping[str, EndpointState] = {
    "pending": "starting",
    "creating": "starting",
    "updating": "starting",
    "repairing": "starting",
    "failed": "failed",
    "canceled": "failed",
    "deleting": "stopped",
}
_LIMITS = (
    "Azure Container Instances runs one replica: it does not scale, splits no traffic, and a later deploy or a new key starts it "
    "again, so that for some seconds nothing answers. `--target managed` has none of these limits."
)
_CERTIFICATE = (
    "The certificate comes from a public authority, which gives few a week for one name (Let's Encrypt: five): every deploy and "
    "every new key takes one."
)


class AciTarget:
    def __init__(self, service: Service) -> None:
        self._service, self._azure = service, Azure(service)
        self._containers = self._azure.containers
        # What `plan` found, for an `apply` of that plan: it is not asked for twice.
        self._planned: tuple[Plan, Situation] | None = None

    def plan(self, model: ModelToDeploy, options: DeployOptions) -> Plan:
        check(options)
        now = find(self._azure, model, options)
        made = Plan("aci", options.name, model, options, self._steps(now), _warnings(options), now.group is None)
        self._planned = made, now
        return made

    def apply(self, plan: Plan, report: Callable[[str], None]) -> Endpoint:
        started = time.monotonic()

        def say(line: str) -> None:
            report(f"[{time.monotonic() - started:4.0f} s] {line}")

        planned, self._planned = self._planned, None
        now = planned[1] if planned and planned[0] is plan else find(self._azure, plan.model, plan.options)
        Rollout(self._azure, now, say).carry_out(plan.model.example)
        return self.status(plan.endpoint)

    def list(self) -> list[Endpoint]:
        try:
            names = [group.name for group in self._containers.all() if owned(group, self._service.name)]
        except AmlflowError as error:
            if not _unseen(error):
                raise
            return []
        with ThreadPoolExecutor(8) as pool:
            found = pool.map(self._shown_if_there, names)
            return [endpoint for endpoint in found if endpoint is not None]

    def status(self, name: str) -> Endpoint:
        return _shown(self._get(name))

    def invoke(self, name: str, body: bytes, content_type: str) -> Any:
        group = self._get(name)
        url = _url(group)
        if not url or not group.fqdn:
            raise NotSupported(
                f"Endpoint {name!r} has no public address to ask.",
                "Ask it from within its network; `endpoint show` has its address.",
            )
        status, content = 401, b""
        for key in self._tried(group):
            status, content = self._containers.score(f"{url}/invocations", key, body, content_type)
            if status != 401:
                break
        if status == 401:
            raise NotAllowed(
                f"Endpoint {name!r} refuses the key that this machine has for it: another machine may have set a new one.",
                f"Give that one in {KEY_VARIABLE}, or make another with `amlflow endpoint keys {name} --rotate`.",
            )
        try:
            parsed = json.loads(content)
        except ValueError as error:
            raise Unavailable(
                f"Endpoint {name!r} answered {status} with what is not JSON: {content[:200]!r}.",
                f"See `amlflow endpoint logs {name}`.",
            ) from error
        if status != 200:
            said = parsed["error"]["message"] if isinstance(parsed, dict) and "error" in parsed else parsed
            failed = "failed" if status >= 500 else "refused the request"
            raise AmlflowError(f"Endpoint {name!r} {failed} ({status}): {said}", f"See `amlflow endpoint logs {name}`.")
        return parsed

    def logs(self, name: str, follow: bool = False, lines: int = 100, deployment: str = "") -> Iterator[str]:
        if deployment:
            raise NotSupported(f"The container group {name!r} has one deployment alone.", "Leave out --deployment.")
        self._get(name)
        seen = self._containers.logs(name, APP, lines)
        yield from seen
        while follow:
            time.sleep(_FOLLOW_S)
            now = self._containers.logs(name, APP, 1000)
            yield from newer(seen, now)
            seen = now or seen

    def keys(self, name: str, rotate: bool = False) -> Sequence[str]:
        group = self._get(name)
        if group.tags.get(OPEN) == "yes":
            raise NotSupported(
                f"Endpoint {name!r} was deployed with --insecure, and asks for no key.", "Deploy it again without."
            )
        if rotate:
            self._rotate(group)
        kept = self._azure.keys(name)
        if not kept:
            raise NotFound(
                f"The key of endpoint {name!r} is not on this machine, and Azure shows it to nobody.",
                f"It is where the endpoint was deployed; `amlflow endpoint keys {name} --rotate` makes a new one.",
            )
        return kept[:1]

    def set_traffic(self, name: str, traffic: Mapping[str, int]) -> Endpoint:
        raise NotSupported(
            "Azure Container Instances runs one model an endpoint: it has no traffic to split.",
            "Deploy it with `--target managed`, which has.",
        )

    def rollback(self, name: str) -> Endpoint:
        raise NotSupported(
            "Azure Container Instances keeps no deployment before.",
            "Deploy the earlier version again: its image is there, and nothing is built. `--target managed` can roll back.",
        )

    def collected(self, name: str, since_ms: int | None, until_ms: int | None) -> Path:
        return collected.cached(self._service, name, lambda file: collection.in_time(file, since_ms, until_ms))

    def delete(self, name: str) -> None:
        self._get(name)
        self._azure.remove(name)

    def _get(self, name: str) -> ContainerGroup:
        try:
            group = self._containers.get(name)
        except AmlflowError as error:
            if not _unseen(error):
                raise
            raise NotFound(f"There is no endpoint {name!r} that this account may see. {error.message}") from error
        if not owned(group, self._service.name):
            raise NotFound(f"The container group {name!r} is no endpoint of the workspace {self._service.name!r}.")
        return group

    def _shown_if_there(self, name: str) -> Endpoint | None:
        with contextlib.suppress(NotFound):
            return self.status(name)
        return None

    def _tried(self, group: ContainerGroup) -> Iterator[str]:
        """The keys to ask with, in their order; read anew after the first, because they may have been changed meanwhile."""
        if group.tags.get(OPEN) == "yes":
            yield ""
            return
        given = os.environ.get(KEY_VARIABLE, "")
        kept = self._azure.keys(group.name) or ([given] if given else [])
        if not kept:
            self.keys(group.name)
        tried = set()
        for _ in range(2):
            for key in kept:
                if key not in tried:
                    tried.add(key)
                    yield key
            kept = [*self._azure.keys(group.name), *([given] if given else [])]

    def _rotate(self, group: ContainerGroup) -> None:
        name, key = group.name, secrets.token_urlsafe(32)
        before = self._azure.keys(name)[:1]
        # Both until the group has the new one: whichever it has when this is cut, it is here.
        self._azure.keep_keys(name, [key, *before])
        try:
            put_again(self._azure, group.record, key)
        except AmlflowError:
            self._azure.keep_keys(name, [*before, key])
            raise
        deadline = time.monotonic() + _ROTATED_S
        while group.fqdn:
            status, why = self._containers.ask(f"https://{group.fqdn}/", key)
            if status == 200:
                break
            if time.monotonic() > deadline:
                raise Unavailable(
                    f"Endpoint {name!r} has its new key, but does not answer: {why}.",
                    f"See `amlflow endpoint logs {name}`.",
                )
            time.sleep(_POLL_S)
        self._azure.keep_keys(name, [key])

    def _steps(self, now: Situation) -> Sequence[PlanStep]:
        wanted, group, own = now.wanted, now.group, now.wanted.container
        steps = [
            PlanStep("keep", "image", wanted.image)
            if now.built
            else PlanStep(
                "create", "image", f"{wanted.image}, built by the registry's tasks, which costs minutes of a build"
            )
        ]
        name = beside(wanted.name)
        if group is not None and not uses_identity(group.record):
            steps.append(PlanStep("change", f"token {name}", "a new password, to pull the image"))
        else:
            steps.append(PlanStep("keep" if now.identity else "create", f"identity {name}", "pulls the image"))
            right = (
                ""
                if now.may_pull
                else "needs «User Access Administrator» on the registry; without it a token of the registry pulls"
            )
            steps.append(PlanStep("keep" if now.may_pull else "create", "role AcrPull", right))
        steps += _collection_steps(now)
        known = bool(self._azure.keys(wanted.name))
        if not own.insecure:
            lost = " in place of the one that is not on this machine" if group and not known else ""
            steps.append(
                PlanStep(
                    "keep" if known and group else "create", "key", f"kept on this machine{lost}" if not known else ""
                )
            )
        size = f"{wanted.model} on {own.cpu:g} CPU and {own.memory_gb:g} GB in {wanted.location}, which costs by the second"
        action = "keep" if now.same else "change" if group else "create"
        again = ", deleted and made again" if now.replaced else ""
        steps.append(PlanStep(action, f"container group {wanted.name}", f"{size}{again}"))  # type: ignore[arg-type]
        if wanted.host:
            host = group.fqdn if group and group.fqdn and not now.replaced else wanted.host
            steps.append(PlanStep("keep" if group and not now.replaced else "create", "address", f"https://{host}"))
        return steps


def _collection_steps(now: Situation) -> Iterator[PlanStep]:
    if now.storage is None:
        return
    role, place = f"role {BLOB_WRITER.name}", f"on the blob container {now.storage.id.rpartition('/')[2]}"
    collect = now.wanted.options.collect
    if collect is None:
        yield PlanStep("change", role, f"withdrawn {place}: nothing is collected any more")
        return
    name = beside(now.wanted.name)
    if now.identity is None and now.group is not None and not uses_identity(now.group.record):
        yield PlanStep("create", f"identity {name}", "writes what is collected")
    yield PlanStep("keep" if now.may_write else "create", role, place)
    yield PlanStep("keep" if now.same else "create", "collection", f"{collect.rate:.0%} of the requests and answers")


def _warnings(options: DeployOptions) -> builtins.list[str]:
    own, found = options.container, [_LIMITS]
    if own.insecure:
        found.append("With --insecure anybody who has the address may ask the model, and so cause its costs.")
    if own.subnet:
        found.append(
            "A group in a subnet has a private address alone, without HTTPS, and cannot be asked from here: the deploy ends when "
            "it has run for a while. The subnet must be delegated to Microsoft.ContainerInstance/containerGroups."
        )
    else:
        found.append(_CERTIFICATE)
    return found


def _shown(group: ContainerGroup) -> Endpoint:
    url = _url(group)
    return Endpoint(
        group.name,
        "aci",
        _state(group),
        group.tags.get(MODEL, ""),
        "",
        url,
        f"{url}/invocations" if url else "",
        0,
        0,
        _started_ms(group),
        "",
        {CURRENT: 100},
    )


def _url(group: ContainerGroup) -> str:
    if group.fqdn:
        return f"https://{group.fqdn}"
    return f"http://{group.ip}:{PORT}" if group.ip else ""


def _state(group: ContainerGroup) -> EndpointState:
    if group.state.lower() in _STATES:
        return _STATES[group.state.lower()]
    app = group.container(APP)
    if app.state.lower() == "running":
        return "running"
    if group.running.lower() == "stopped":
        return "stopped"
    if crashed(app):
        return "restarting" if app.state.lower() == "waiting" else "failed"
    return "starting"


def _unseen(error: AmlflowError) -> bool:
    """Whoever may use the workspace need not be allowed to see container groups, nor the subscription have any."""
    return isinstance(error, NotAllowed) or "MissingSubscriptionRegistration" in error.message


def _started_ms(group: ContainerGroup) -> int:
    for container in (group.record.get("properties") or {}).get("containers") or []:
        if container.get("name") == APP:
            view = (container.get("properties") or {}).get("instanceView") or {}
            return epoch_ms((view.get("currentState") or {}).get("startTime")) or 0
    return 0
