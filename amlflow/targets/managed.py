"""The managed target: an online endpoint of Azure ML, with two deployments that take turns, called blue and green.

What a deploy has done is read from the service each time, and nowhere else kept: so a deploy that was cut goes on when it is
asked for once more.
"""

from __future__ import annotations

import builtins
import json
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from amlflow.errors import AmlflowError, NotAllowed, NotFound, NotSupported, Unavailable, UsageError
from amlflow.targets import payloads
from amlflow.targets.base import (
    DeployOptions,
    Endpoint,
    EndpointState,
    ModelToDeploy,
    Plan,
    PlanAction,
    PlanStep,
    newer,
)
from amlflow.targets.rollout import PREVIOUS, Rollout, golden_requests
from amlflow.workspaces.azure import quota
from amlflow.workspaces.azure.endpoints import AzureEndpoints, OnlineDeployment, OnlineEndpoint, named
from amlflow.workspaces.azure.service import Service

COLOURS = ("blue", "green")
DEFAULT_SIZE = "Standard_DS3_v2"
_NAME = re.compile(r"[a-zA-Z][a-zA-Z0-9-]{1,30}[a-zA-Z0-9]")
_STATES: Mapping[str, EndpointState] = {
    "creating": "starting",
    "updating": "starting",
    "failed": "failed",
    "canceled": "failed",
    "deleting": "stopped",
}
_LOST = ("failed", "canceled", "deleting")
_FOLLOW_S = 5.0
_MONITORING = "azureml-ai-monitoring"


@dataclass(frozen=True, slots=True)
class Situation:
    """What there is: the endpoint, None before the first deploy, its deployments, and what the deploy comes down to. `wanted` is
    the deployment to have in the end; `there` says that it is there already; `live` the name of the one that takes most requests
    now, empty for none but the wanted one."""

    endpoint: OnlineEndpoint | None
    deployments: Sequence[OnlineDeployment]
    wanted: OnlineDeployment
    there: bool
    live: str


class ManagedTarget:
    def __init__(self, service: Service) -> None:
        self._service = service
        self._azure = AzureEndpoints(service)
        # What `plan` found, for an `apply` of that plan: it is not asked for twice.
        self._planned: tuple[Plan, Situation] | None = None

    def plan(self, model: ModelToDeploy, options: DeployOptions) -> Plan:
        _check(model, options)
        if options.golden is not None:
            golden_requests(options.golden)
        now = self._situation(model, options)
        if not now.there:
            replaced = named(now.deployments, now.wanted.name)
            held = (replaced.instance_type, replaced.instance_count) if replaced else ("", 0)
            quota.check(quota.sizes(self._service), now.wanted.instance_type, now.wanted.instance_count, *held)
        wanted, name = now.wanted, options.name
        machines = f"{wanted.model} on {wanted.instance_count} × {wanted.instance_type}"
        exists = now.endpoint is not None
        steps = [PlanStep("keep" if exists else "create", f"endpoint {name}", "" if exists else "with keys")]
        before = named(now.deployments, wanted.name)
        action: PlanAction = "keep" if now.there else "change" if before else "create"
        steps.append(
            PlanStep(action, f"deployment {wanted.name}", f"{machines}, at 0 %" if not now.there else machines)
        )
        share = now.endpoint.traffic.get(wanted.name, 0) if now.endpoint else 0
        for step in [step for step in _steps(options, now.live, wanted.name) if step > share]:
            steps.append(PlanStep("change", "traffic", _written(_split(now.live, wanted.name, step))))
        if now.live and now.live != wanted.name and named(now.deployments, now.live):
            steps.append(
                PlanStep("keep", f"deployment {now.live}", "at 0 %, for `amlflow endpoint rollback`; it costs")
            )
        made = Plan("managed", name, model, options, steps, _warnings(model))
        self._planned = made, now
        return made

    def apply(self, plan: Plan, report: Callable[[str], None]) -> Endpoint:
        options, started = plan.options, time.monotonic()

        def say(line: str) -> None:
            report(f"[{time.monotonic() - started:4.0f} s] {line}")

        planned, self._planned = self._planned, None
        now = planned[1] if planned and planned[0] is plan else self._situation(plan.model, options)
        endpoint, new = now.endpoint, now.endpoint is None
        if endpoint is None:
            say(f"Making the endpoint {plan.endpoint}…")
            endpoint = self._create(plan.endpoint, say)
        rollout = Rollout(self._azure, endpoint, now.wanted, now.live, new, say)
        if not rollout.bring_up(now.deployments, options.wait):
            say("The deployment is begun. The same command again goes on with it.")
            return self._shown(endpoint, [now.wanted])
        rollout.check(plan.model.example, options.golden)
        rollout.shift(_steps(options, now.live, now.wanted.name), plan.model.example, options.canary_wait_s)
        return self.status(plan.endpoint)

    def list(self) -> list[Endpoint]:
        found = self._azure.all()
        with ThreadPoolExecutor(8) as pool:
            deployments = pool.map(lambda endpoint: self._azure.deployments(endpoint.name), found)
            return [self._shown(*pair) for pair in zip(found, deployments, strict=True)]

    def status(self, name: str) -> Endpoint:
        return self._shown(self._azure.get(name), self._azure.deployments(name))

    def invoke(self, name: str, body: bytes, content_type: str) -> Any:
        """As MLflow's scoring servers answer: Azure's gives the predictions alone."""
        endpoint, content = self._azure.get(name), payloads.as_input_data(body, content_type)
        _check_keys(endpoint)
        scored = self._azure.score(endpoint, self._azure.keys(name)[0], content)
        if scored.status == 401:
            # The key may have been renewed between the two requests.
            scored = self._azure.score(endpoint, self._azure.keys(name)[0], content)
        if scored.status == 200:
            try:
                answer = json.loads(scored.content)
            except ValueError as error:
                raise AmlflowError(
                    f"Endpoint {name!r} answered with what is not JSON: {scored.content[:200]!r}."
                ) from error
            return answer if isinstance(answer, dict) else {"predictions": answer}
        message = _said(scored.content)
        if scored.status == 401:
            raise NotAllowed(f"Endpoint {name!r} refused its own key: {message}", "Try again.")
        if scored.status == 404:
            raise Unavailable(
                f"Endpoint {name!r} has no deployment that takes requests: {message}",
                f"See `amlflow endpoint show {name}`; `amlflow endpoint traffic {name} blue=100` sends requests to one.",
            )
        if scored.status == 424 and 400 <= scored.model_status < 500:
            raise AmlflowError(f"Endpoint {name!r} refused the request ({scored.model_status}): {message}")
        raise AmlflowError(
            f"Endpoint {name!r} failed ({scored.model_status or scored.status}): {message}",
            f"See `amlflow endpoint logs {name}`.",
        )

    def logs(self, name: str, follow: bool = False, lines: int = 100) -> Iterator[str]:
        endpoint, deployments = self._azure.get(name), self._azure.deployments(name)
        live = _live(endpoint, deployments) or next((item.name for item in deployments), "")
        if not live:
            raise NotFound(f"Endpoint {name!r} has no deployment, and so no log.", "Deploy a model to it.")
        seen = self._azure.logs(name, live, lines)
        yield from seen
        while follow:
            time.sleep(_FOLLOW_S)
            now = self._azure.logs(name, live, 1000)
            yield from newer(seen, now)
            seen = now or seen

    def keys(self, name: str, rotate: bool = False) -> Sequence[str]:
        _check_keys(self._azure.get(name))
        if rotate:
            self._azure.renew_key(name)
        return self._azure.keys(name)

    def set_traffic(self, name: str, traffic: Mapping[str, int]) -> Endpoint:
        endpoint, deployments = self._azure.get(name), self._azure.deployments(name)
        for deployment in traffic:
            if named(deployments, deployment) is None:
                raise NotFound(
                    f"Endpoint {name!r} has no deployment {deployment!r}.",
                    f"It has {', '.join(item.name for item in deployments) or 'none'}.",
                    name=deployment,
                    known=[item.name for item in deployments],
                )
        if sum(traffic.values()) not in (0, 100):
            raise UsageError(
                f"The shares must be 100 % together, and are {sum(traffic.values())} %.",
                f"Write for example `amlflow endpoint traffic {name} blue=90 green=10`.",
            )
        before, after = _live(endpoint, deployments), max(traffic, key=lambda item: traffic[item])
        tags = {PREVIOUS: before} if before and before != after else {}
        return self._shown(self._azure.set_traffic(endpoint, traffic, tags), deployments)

    def rollback(self, name: str) -> Endpoint:
        endpoint, deployments = self._azure.get(name), self._azure.deployments(name)
        live = _live(endpoint, deployments)
        others = [item.name for item in deployments if item.name != live and item.state.lower() == "succeeded"]
        noted = endpoint.tags.get(PREVIOUS, "")
        before = noted if noted in others else others[0] if len(others) == 1 else ""
        if not before:
            raise NotFound(
                f"Endpoint {name!r} has no deployment before {live!r} to go back to.",
                "Deploy the earlier version of the model again.",
            )
        return self._shown(self._azure.set_traffic(endpoint, {before: 100}, {PREVIOUS: live}), deployments)

    def delete(self, name: str) -> None:
        self._azure.delete(name)

    def _create(self, name: str, say: Callable[[str], None]) -> OnlineEndpoint:
        try:
            return self._azure.create(name, lambda state: None)
        except AmlflowError as error:
            if "already" in error.message.lower() or "taken" in error.message.lower():
                raise UsageError(
                    f"{error.message} A name is taken once in a whole region.", "Choose another with --name."
                ) from error
            raise

    def _situation(self, model: ModelToDeploy, options: DeployOptions) -> Situation:
        wanted = OnlineDeployment(
            COLOURS[0],
            "",
            model.registered,
            options.instance_type or DEFAULT_SIZE,
            options.instance_count,
            dict(options.variables),
        )
        try:
            endpoint = self._azure.get(options.name)
        except NotFound as error:
            if error.mend:
                raise
            return Situation(None, (), wanted, False, "")
        _check_keys(endpoint)
        deployments = self._azure.deployments(options.name)
        live = _live(endpoint, deployments)
        same = [
            item for item in deployments if _same(item, wanted) and item.state.lower() not in ("failed", "canceled")
        ]
        # The one that has most of the traffic already, so that a deploy that was cut goes on.
        same.sort(key=lambda item: -endpoint.traffic.get(item.name, 0))
        if same:
            others = [item for item in endpoint.traffic if item != same[0].name]
            before = max(others, key=lambda item: endpoint.traffic[item], default="")
            there = same[0].state.lower() in ("succeeded", "creating", "updating")
            return Situation(endpoint, deployments, same[0], there, before)
        name = next(colour for colour in COLOURS if colour != live)
        return Situation(endpoint, deployments, _renamed(wanted, name), False, live)

    def _shown(self, endpoint: OnlineEndpoint, deployments: Sequence[OnlineDeployment]) -> Endpoint:
        live = named(deployments, _live(endpoint, deployments)) or next(iter(deployments), None)
        state = _STATES.get(endpoint.state.lower(), "running")
        if state == "running":
            state = "stopped" if live is None else _STATES.get(live.state.lower(), "running")
        address = urlsplit(endpoint.scoring_url)
        return Endpoint(
            endpoint.name,
            "managed",
            state,
            live.model if live else "",
            "",
            f"{address.scheme}://{address.netloc}" if address.netloc else "",
            endpoint.scoring_url,
            0,
            0,
            endpoint.created_ms,
            "",
            {item.name: endpoint.traffic.get(item.name, 0) for item in deployments},
        )


def _check(model: ModelToDeploy, options: DeployOptions) -> None:
    if not _NAME.fullmatch(options.name):
        raise UsageError(
            f"{options.name!r} cannot name a managed endpoint: 3 to 32 letters, digits and '-', beginning with a letter and not "
            "ending with '-'.",
            "Choose one with --name.",
        )
    if not model.registered:
        raise UsageError(
            f"The managed target takes registered models, and {model.label} is none.",
            f"Register it first: `amlflow register {model.label} --name NAME`, then deploy NAME:VERSION.",
        )
    steps = builtins.list(options.canary)
    if not steps or steps != sorted(set(steps)) or steps[0] < 1 or steps[-1] != 100:
        raise UsageError(
            f"--canary {','.join(map(str, steps))} is no way to 100 %.", "Write rising shares, such as 10,50,100."
        )


def _check_keys(endpoint: OnlineEndpoint) -> None:
    if endpoint.auth.lower() not in ("key", ""):
        raise NotSupported(
            f"Endpoint {endpoint.name!r} is opened by {endpoint.auth}, and amlflow knows endpoints with keys.",
            "Use azure-ai-ml for it, or deploy under another --name.",
        )


def _steps(options: DeployOptions, live: str, wanted: str) -> Sequence[int]:
    return options.canary if live and live != wanted else (100,)


def _split(live: str, new: str, share: int) -> dict[str, int]:
    return {new: share, **({live: 100 - share} if live and live != new and share < 100 else {})}


def _written(traffic: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {share} %" for name, share in traffic.items())


def _live(endpoint: OnlineEndpoint, deployments: Sequence[OnlineDeployment]) -> str:
    """The deployment that takes most requests; empty for none."""
    known = {item.name for item in deployments}
    shares = {name: share for name, share in endpoint.traffic.items() if name in known}
    return max(shares, key=lambda name: shares[name], default="")


def _same(one: OnlineDeployment, other: OnlineDeployment) -> bool:
    return (
        one.model.lower() == other.model.lower()
        and one.instance_type.lower() == other.instance_type.lower()
        and one.instance_count == other.instance_count
        and dict(one.variables) == dict(other.variables)
    )


def _renamed(deployment: OnlineDeployment, name: str) -> OnlineDeployment:
    return OnlineDeployment(
        name, "", deployment.model, deployment.instance_type, deployment.instance_count, deployment.variables
    )


def _warnings(model: ModelToDeploy) -> list[str]:
    for file in ("conda.yaml", "requirements.txt"):
        place = model.folder / file
        if place.is_file():
            if _MONITORING in place.read_text(encoding="utf-8", errors="replace").replace("_", "-").lower():
                return []
            return [
                f"The {file} of {model.label} lacks {_MONITORING}, which Azure's scoring script for MLflow models imports: the "
                "deployment may end with a liveness 502. Log the model with it among `extra_pip_requirements`."
            ]
    return []


def _said(content: bytes) -> str:
    try:
        parsed = json.loads(content)
        error = parsed.get("error") if isinstance(parsed, dict) else None
        return str((error or {}).get("message") or parsed)[:1000]
    except (ValueError, AttributeError):
        return " ".join(content.decode("utf-8", "replace").split())[:500] or "no reason was given."
