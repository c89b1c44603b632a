"""The managed target: an online endpoint of Azure ML, with two deployments that take turns, called blue and green.

What a deploy has done is read from the service each time, and nowhere else kept: so a deploy that was cut goes on when it is
asked for once more.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from amlflow.errors import AmlflowError, NotAllowed, NotFound, NotSupported, Unavailable, UsageError
from amlflow.monitoring import collection
from amlflow.targets import azure_endpoint, following, online_options, payloads, scoring, situation
from amlflow.targets.base import DeployOptions, Endpoint, ModelToDeploy, Plan, PlanStep
from amlflow.targets.rollout import PREVIOUS, Rollout, golden_requests
from amlflow.targets.scoring import OwnScoring
from amlflow.targets.situation import Situation
from amlflow.workspaces.azure import collected, quota
from amlflow.workspaces.azure.endpoints import UNFINISHED, AzureEndpoints, EndpointSpec, OnlineEndpoint, named
from amlflow.workspaces.azure.online_deployments import DEFAULT_TIMEOUT_S, Autoscale, OnlineDeployment
from amlflow.workspaces.azure.service import Service

DEFAULT_SIZE = "Standard_DS3_v2"


class ManagedTarget:
    """Machines that the service manages. A subclass says what is otherwise on those of a cluster."""

    name = "managed"

    def __init__(self, service: Service) -> None:
        self._service = service
        self._azure = AzureEndpoints(service)
        # What `plan` found, for an `apply` of that plan: it is not asked for twice.
        self._planned: tuple[Plan, Situation, OwnScoring | None] | None = None

    def plan(self, model: ModelToDeploy, options: DeployOptions) -> Plan:
        self._check(model, options)
        if options.online.golden is not None:
            golden_requests(options.online.golden)
        why = self._why_own(model, options)
        own = scoring.find(self._service, model, options.collect is not None) if why else None
        now = situation.find(self._azure, options.name, self._wanted(model, options, own))
        if now.endpoint is not None and now.endpoint.state.lower() != "deleting":
            self._check_endpoint(now.endpoint, options)
        self._check_room(now, options)
        made = Plan(
            self.name,
            options.name,
            model,
            options,
            self._plan_steps(now, own, why, options),
            fresh=now.endpoint is None,
        )
        self._planned = made, now, own
        return made

    def apply(self, plan: Plan, report: Callable[[str], None]) -> Endpoint:
        options, started = plan.options, time.monotonic()

        def say(line: str) -> None:
            report(f"[{time.monotonic() - started:4.0f} s] {line}")

        planned, self._planned = self._planned, None
        if planned is None or planned[0] is not plan:
            self.plan(plan.model, options)
            planned, self._planned = self._planned, None
            assert planned is not None
        _, now, own = planned
        wanted = now.wanted
        if own is not None and not now.there:
            own = scoring.make(self._service, own, say)
            wanted = replace(wanted, code=own.code, environment=own.environment)
        endpoint = self._endpoint(now, options, say)
        rollout = Rollout(self._azure, endpoint, wanted, now.live, now.new, say)
        if not rollout.bring_up(now.deployments, options.wait):
            say("The deployment is begun. The same command again goes on with it.")
            return self._shown(endpoint, [wanted])
        rollout.check(plan.model.example, options.online.golden)
        if options.online.mirror:
            rollout.mirror(options.online.mirror, options.online.canary_wait_s)
        shares = online_options.steps(options, now.live, wanted.name)
        rollout.shift(shares, plan.model.example, options.online.canary_wait_s)
        return self.status(plan.endpoint)

    def list(self) -> list[Endpoint]:
        found = [endpoint for endpoint in self._azure.all() if self._owns(endpoint)]
        with ThreadPoolExecutor(8) as pool:
            deployments = pool.map(lambda endpoint: self._azure.deployments(endpoint.name), found)
            return [self._shown(*pair) for pair in zip(found, deployments, strict=True)]

    def status(self, name: str) -> Endpoint:
        return self._shown(self._get(name), self._azure.deployments(name))

    def invoke(self, name: str, body: bytes, content_type: str) -> Any:
        """As MLflow's scoring servers answer: Azure's gives the predictions alone."""
        endpoint, content = self._get(name), payloads.as_input_data(body, content_type)
        scored = self._azure.score(endpoint, self._azure.secret(endpoint), content)
        if scored.status == 401:
            # The key may have been renewed between the two requests.
            scored = self._azure.score(endpoint, self._azure.secret(endpoint, fresh=True), content)
        if scored.status == 200:
            try:
                answer = json.loads(scored.content)
            except ValueError as error:
                raise AmlflowError(
                    f"Endpoint {name!r} answered with what is not JSON: {scored.content[:200]!r}."
                ) from error
            return answer if isinstance(answer, dict) else {"predictions": answer}
        message = _said(scored.content)
        if scored.status in (401, 403):
            raise NotAllowed(
                f"Endpoint {name!r} refused the request: {message}", _allowed_mend(endpoint, scored.status)
            )
        if scored.status == 408:
            raise Unavailable(
                f"Endpoint {name!r} gave no answer in the time that a request may take: {message}",
                "Send fewer rows, or deploy the model again with a longer --request-timeout.",
            )
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

    def logs(self, name: str, follow: bool = False, lines: int = 100, deployment: str = "") -> Iterator[str]:
        return following.lines_of(self._azure, name, follow, lines, deployment)

    def keys(self, name: str, rotate: bool = False) -> Sequence[str]:
        endpoint = self._get(name)
        if endpoint.auth.lower() not in ("key", ""):
            raise NotSupported(
                f"Endpoint {name!r} has no keys: tokens of Microsoft Entra open it.",
                "`amlflow endpoint invoke` sends one; others get it with `az account get-access-token --resource "
                f"{self._service.http.credential.cloud.ml_scope.removesuffix('/.default')}`.",
            )
        if rotate:
            self._azure.renew_key(name)
        return self._azure.keys(name)

    def set_traffic(self, name: str, traffic: Mapping[str, int]) -> Endpoint:
        endpoint, deployments = self._get(name), self._azure.deployments(name)
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
        before, after = situation.live_of(endpoint, deployments), max(traffic, key=lambda item: traffic[item])
        tags: dict[str, str | None] = {UNFINISHED: None}
        if before and before != after:
            tags[PREVIOUS] = before
        return self._shown(self._azure.set_traffic(endpoint, traffic, tags), deployments)

    def rollback(self, name: str) -> Endpoint:
        endpoint, deployments = self._get(name), self._azure.deployments(name)
        live = situation.live_of(endpoint, deployments)
        others = [item.name for item in deployments if item.name != live and item.state.lower() == "succeeded"]
        noted = endpoint.tags.get(PREVIOUS, "")
        before = noted if noted in others else others[0] if len(others) == 1 else ""
        if not before:
            raise NotFound(
                f"Endpoint {name!r} has no deployment before {live!r} to go back to.",
                "Deploy the earlier version of the model again.",
            )
        return self._shown(self._azure.set_traffic(endpoint, {before: 100}, {PREVIOUS: live}), deployments)

    def collected(self, name: str, since_ms: int | None, until_ms: int | None) -> Path:
        return collected.cached(self._service, name, lambda file: collection.in_time(file, since_ms, until_ms))

    def delete(self, name: str) -> None:
        self._get(name)
        for deployment in self._azure.deployments(name):
            self._azure.unscale(name, deployment)
        self._azure.delete(name)

    def _check(self, model: ModelToDeploy, options: DeployOptions) -> None:
        """Raises `UsageError` for what cannot be asked for."""
        online_options.check(model, options)
        if options.online.request_timeout_s > 180:
            raise UsageError(
                "A managed endpoint lets a request take 180 s at most.", "Give a shorter --request-timeout."
            )

    def _owns(self, endpoint: OnlineEndpoint) -> bool:
        return not endpoint.compute

    def _why_own(self, model: ModelToDeploy, options: DeployOptions) -> str:
        """Why the deployment needs a scoring script of its own; empty for Azure's own scorer."""
        if options.online.scoring == "own":
            return "asked for by --scoring own"
        return scoring.why_own(model) if options.online.scoring == "auto" else ""

    def _wanted(self, model: ModelToDeploy, options: DeployOptions, own: OwnScoring | None) -> OnlineDeployment:
        online = options.online
        scaled = Autoscale.parse(online.autoscale) if online.autoscale else None
        return OnlineDeployment(
            "",
            "",
            model.registered,
            online.instance_type or DEFAULT_SIZE,
            scaled.least if scaled else online.instance_count,
            dict(options.variables),
            code=own.code if own else "",
            environment=own.environment if own else "",
            timeout_s=online.request_timeout_s or DEFAULT_TIMEOUT_S,
            egress=online.egress,
            collect=options.collect.rate if options.collect else 0.0,
            autoscale=scaled,
        )

    def _new_endpoint(self, options: DeployOptions) -> EndpointSpec:
        return EndpointSpec(options.name, options.online.auth_mode == "aad", options.online.private)

    def _check_endpoint(self, endpoint: OnlineEndpoint, options: DeployOptions) -> None:
        """Raises `UsageError` where the endpoint that is there is another than the one asked for."""
        online_options.check_same(endpoint, self._new_endpoint(options), options.online.auth_mode)

    def _check_room(self, now: Situation, options: DeployOptions) -> None:
        if now.there:
            return
        wanted, replaced = now.wanted, named(now.deployments, now.wanted.name)
        held = (replaced.instance_type, replaced.instance_count) if replaced else ("", 0)
        count = wanted.autoscale.most if wanted.autoscale else wanted.instance_count
        quota.check(quota.sizes(self._service), wanted.instance_type, count, *held)

    def _machines(self, wanted: OnlineDeployment) -> str:
        count = str(wanted.autoscale) if wanted.autoscale else str(wanted.instance_count)
        return f"{count} × {wanted.instance_type}"

    def _plan_steps(
        self, now: Situation, own: OwnScoring | None, why: str, options: DeployOptions
    ) -> Sequence[PlanStep]:
        wanted, spec = now.wanted, self._new_endpoint(options)
        opened = f"{'with tokens of Entra' if spec.by_token else 'with keys'}{', private' if spec.private else ''}"
        there = now.endpoint is not None
        found = [PlanStep("keep" if there else "create", f"endpoint {options.name}", "" if there else opened)]
        if own is not None:
            found.append(PlanStep("keep" if own.has_code else "create", "scoring script", f"amlflow's own, as {why}"))
            built = "" if own.has_environment else "its image is built: some minutes"
            found.append(PlanStep("keep" if own.has_environment else "create", "environment", built))
        before = named(now.deployments, wanted.name)
        machines = f"{wanted.model} on {self._machines(wanted)}"
        if now.there:
            found.append(PlanStep("keep", f"deployment {wanted.name}", machines))
        else:
            found.append(PlanStep("change" if before else "create", f"deployment {wanted.name}", f"{machines}, at 0 %"))
        return [*found, *online_options.traffic_steps(now, options)]

    def _endpoint(self, now: Situation, options: DeployOptions, say: Callable[[str], None]) -> OnlineEndpoint:
        endpoint = now.endpoint
        if endpoint is not None and endpoint.state.lower() == "deleting":
            say(f"Waiting until the endpoint {options.name} of before is gone…")
            self._azure.wait_gone(options.name)
            endpoint = None
        if endpoint is not None and endpoint.state.lower() in ("creating", "updating"):
            say(f"Waiting for the endpoint {options.name}, which is {endpoint.state.lower()}…")
            return self._azure.wait_settled(options.name)
        if endpoint is not None and not (now.new and endpoint.state.lower() == "failed"):
            return endpoint
        say(f"Making the endpoint {options.name}…")
        try:
            return self._azure.create(self._new_endpoint(options))
        except AmlflowError as error:
            if "already" in error.message.lower() or "taken" in error.message.lower():
                raise UsageError(
                    f"{error.message} A name is taken once in a whole region.", "Choose another with --name."
                ) from error
            raise

    def _get(self, name: str) -> OnlineEndpoint:
        """Raises `NotFound` for one of the other kind as well."""
        endpoint = self._azure.get(name)
        if not self._owns(endpoint):
            raise NotFound(f"The endpoint {name!r} is none of the target {self.name}.")
        return endpoint

    def _shown(self, endpoint: OnlineEndpoint, deployments: Sequence[OnlineDeployment]) -> Endpoint:
        live = named(deployments, situation.live_of(endpoint, deployments)) or next(iter(deployments), None)
        traffic = {item.name: endpoint.traffic.get(item.name, 0) for item in deployments}
        return azure_endpoint.shown(endpoint, self.name, live, traffic)


def _allowed_mend(endpoint: OnlineEndpoint, status: int) -> str:
    if endpoint.private and status == 403:
        return "The endpoint is private: ask it from within its network."
    if endpoint.by_token:
        return "Ask for the role «AzureML Data Scientist» on the workspace, or sign in as somebody else (--auth)."
    return "Try again."


def _said(content: bytes) -> str:
    try:
        parsed = json.loads(content)
        error = parsed.get("error") if isinstance(parsed, dict) else None
        return str((error or {}).get("message") or parsed)[:1000]
    except (ValueError, AttributeError):
        return " ".join(content.decode("utf-8", "replace").split())[:500] or "no reason was given."
