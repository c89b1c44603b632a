"""The batch target: a batch endpoint of Azure ML, with two deployments that take turns as the one that is asked.

What a deploy has done is read from the service each time, and nowhere else kept: so a deploy that was cut goes on when it is
asked for once more.
"""

from __future__ import annotations

import builtins
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from amlflow.errors import AmlflowError, NotFound, NotSupported, UsageError
from amlflow.targets import answers, azure_endpoint, payloads
from amlflow.targets.base import DeployOptions, Endpoint, ModelToDeploy, Plan, PlanAction, PlanStep
from amlflow.targets.batch_scoring import Scoring
from amlflow.targets.rollout import PREVIOUS
from amlflow.workspaces.azure.batch import ACTIONS, AzureBatch, BatchDeployment, BatchEndpoint, named
from amlflow.workspaces.azure.computes import AzureComputes
from amlflow.workspaces.azure.endpoints import UNFINISHED, gone
from amlflow.workspaces.azure.service import Service

COLOURS = ("blue", "green")
_NAME = re.compile(r"[a-zA-Z][a-zA-Z0-9-]{1,30}[a-zA-Z0-9]")
_LOST = ("failed", "canceled", "deleting")
_SETTLE_S, _POLL_S = 1800.0, 2.0


@dataclass(frozen=True, slots=True)
class Situation:
    """What there is: the endpoint, None before the first deploy, and its deployments. `wanted` is the deployment to have in the
    end; `there` says that it is there already."""

    endpoint: BatchEndpoint | None
    deployments: Sequence[BatchDeployment]
    wanted: BatchDeployment
    there: bool

    @property
    def default(self) -> str:
        return self.endpoint.default if self.endpoint else ""

    @property
    def new(self) -> bool:
        """Whether no deploy to the endpoint has ended well, with nobody else's deployment in it: what fails leaves none."""
        cut = self.endpoint is not None and UNFINISHED in self.endpoint.tags and not self.endpoint.default
        return self.endpoint is None or (cut and all(item.name == self.wanted.name for item in self.deployments))


class BatchTarget:
    def __init__(self, service: Service) -> None:
        self._service = service
        self._azure, self._scoring = AzureBatch(service), Scoring(service)

    @property
    def scoring(self) -> Scoring:
        """For jobs that are more than one request and its answer."""
        return self._scoring

    def plan(self, model: ModelToDeploy, options: DeployOptions) -> Plan:
        _check(model, options)
        self._check_compute(options)
        now, name = self._situation(model, options), options.name
        wanted, exists = now.wanted, now.endpoint is not None
        steps = [PlanStep("keep" if exists else "create", f"endpoint {name}", "" if exists else "with Entra tokens")]
        action: PlanAction = "keep" if now.there else "change" if named(now.deployments, wanted.name) else "create"
        nodes = f"{wanted.instance_count} × {wanted.compute}"
        steps.append(
            PlanStep(action, f"deployment {wanted.name}", f"{wanted.model} on {nodes}, which costs while it scores")
        )
        if now.default != wanted.name:
            if options.batch.smoke and model.example is not None and wanted.output_action == "append":
                steps.append(PlanStep("create", "job", f"scores the input example by {wanted.name}"))
            steps.append(
                PlanStep("change", "default", f"{wanted.name}{f' after {now.default}' if now.default else ''}")
            )
            if now.default:
                steps.append(
                    PlanStep("keep", f"deployment {now.default}", "for `amlflow endpoint rollback`; it costs nothing")
                )
        return Plan("batch", name, model, options, steps, _warnings(model, options), not exists)

    def apply(self, plan: Plan, report: Callable[[str], None]) -> Endpoint:
        """Do it, and wait until the new deployment has scored the input example. What fails is taken back."""
        options, started = plan.options, time.monotonic()

        def say(line: str) -> None:
            report(f"[{time.monotonic() - started:4.0f} s] {line}")

        now = self._situation(plan.model, options)
        endpoint, wanted = now.endpoint, now.wanted
        if endpoint is None:
            say(f"Making the endpoint {plan.endpoint}…")
            endpoint = self._create(plan.endpoint)
        if endpoint.default == wanted.name and now.there and wanted.state.lower() == "succeeded":
            say(f"{wanted.name} has {wanted.model} and is asked by default already.")
            return self.status(plan.endpoint)
        try:
            if not self._bring_up(endpoint, now, options.wait, say):
                say("The deployment is begun. The same command again goes on with it.")
                return self._shown(endpoint, [wanted])
            if endpoint.default != wanted.name:
                if options.batch.smoke:
                    self._try(endpoint, wanted, plan.model.example, say)
                self._take_over(endpoint, wanted.name, say)
        except AmlflowError as error:
            error.message = f"{error.message} {self._take_back(endpoint, now)}"
            raise
        return self.status(plan.endpoint)

    def list(self) -> list[Endpoint]:
        found = self._azure.all()
        with ThreadPoolExecutor(8) as pool:
            deployments = pool.map(lambda endpoint: self._azure.deployments(endpoint.name), found)
            return [self._shown(*pair) for pair in zip(found, deployments, strict=True)]

    def status(self, name: str) -> Endpoint:
        return self._shown(self._azure.get(name), self._azure.deployments(name))

    def invoke(self, name: str, body: bytes, content_type: str) -> Any:
        """As MLflow's scoring servers answer: the table is scored by a job, which this waits for."""
        endpoint, deployment = self.asked(name)
        return {"predictions": self._scoring.predictions(endpoint, deployment, body, content_type)}

    def asked(self, name: str) -> tuple[BatchEndpoint, BatchDeployment]:
        """The endpoint, and the deployment that it asks. Raises `NotFound` where it asks none."""
        endpoint = self._azure.get(name)
        if not endpoint.default:
            raise NotFound(f"Endpoint {name!r} has no deployment that it asks.", "Deploy a model to it.")
        return endpoint, self._azure.deployment(name, endpoint.default)

    def logs(self, name: str, follow: bool = False, lines: int = 100, deployment: str = "") -> Iterator[str]:
        if deployment:
            raise NotSupported(
                f"The log of the batch endpoint {name!r} is that of its last job.", "Leave out --deployment."
            )
        self._azure.get(name)
        job = self._azure.last_job(name)
        if not job:
            raise NotFound(
                f"Endpoint {name!r} has scored nothing yet.", f"Try `amlflow endpoint invoke {name} data.csv`."
            )
        if not follow:
            text = b"".join(self._scoring.log(job, False)).decode(errors="replace")
            yield from text.splitlines()[-lines:]
            return
        rest = ""
        for part in self._scoring.log(job, True):
            *whole, rest = (rest + part.decode(errors="replace")).split("\n")
            yield from whole
        yield from [rest] if rest else []

    def keys(self, name: str, rotate: bool = False) -> Sequence[str]:
        self._azure.get(name)
        raise NotSupported(
            f"Endpoint {name!r} is a batch endpoint, which has no keys: it takes Entra tokens of {self._audience()}.",
            f"`az account get-access-token --resource {self._audience()}` gives one; `amlflow endpoint invoke` needs none.",
        )

    def set_traffic(self, name: str, traffic: Mapping[str, int]) -> Endpoint:
        self._azure.get(name)
        raise NotSupported(
            f"Endpoint {name!r} is a batch endpoint, which asks one deployment and splits nothing.",
            f"`amlflow endpoint rollback {name}` goes back to the deployment before; `amlflow deploy` goes on to another.",
        )

    def rollback(self, name: str) -> Endpoint:
        endpoint, deployments = self._azure.get(name), self._azure.deployments(name)
        others = [
            item.name for item in deployments if item.name != endpoint.default and item.state.lower() == "succeeded"
        ]
        noted = endpoint.tags.get(PREVIOUS, "")
        before = noted if noted in others else others[0] if len(others) == 1 else ""
        if not before:
            raise NotFound(
                f"Endpoint {name!r} has no deployment before {endpoint.default!r} to go back to.",
                "Deploy the earlier version of the model again.",
            )
        return self._shown(self._azure.set_default(endpoint, before, {PREVIOUS: endpoint.default}), deployments)

    def collected(self, name: str, since_ms: int | None, until_ms: int | None) -> Path:
        raise NotSupported(
            f"The batch endpoint {name!r} collects nothing: what it scores is in files already.",
            "Name them with --data FILE.",
        )

    def delete(self, name: str) -> None:
        self._azure.get(name)
        self._azure.delete(name)

    def _create(self, name: str) -> BatchEndpoint:
        try:
            return self._azure.create(name)
        except AmlflowError as error:
            if "already" in error.message.lower() or "taken" in error.message.lower():
                raise UsageError(
                    f"{error.message} A name is taken once in a whole region.", "Choose another with --name."
                ) from error
            raise

    def _check_compute(self, options: DeployOptions) -> None:
        compute = AzureComputes(self._service).get(options.batch.compute)
        if compute.kind != "cluster":
            raise UsageError(
                f"{compute.name!r} is no cluster, and batch endpoints score on clusters.",
                f"Make one: `amlflow compute create NAME --size {compute.size or 'Standard_DS3_v2'} --max 1`.",
            )
        count = options.online.instance_count
        if compute.max_nodes < count:
            raise UsageError(
                f"--instance-count is {count}, and cluster {compute.name!r} has {compute.max_nodes} at most.",
                f"Raise it with `amlflow compute create {compute.name} --max {count} --size {compute.size}`.",
            )

    def _situation(self, model: ModelToDeploy, options: DeployOptions) -> Situation:
        batch = options.batch
        wanted = BatchDeployment(
            COLOURS[0],
            "",
            model.registered,
            batch.compute,
            options.online.instance_count,
            batch.mini_batch_size,
            batch.output_action,
            batch.max_concurrency,
            batch.retries,
            batch.timeout_s,
            dict(options.variables),
        )
        try:
            endpoint = self._azure.get(options.name)
        except NotFound as error:
            if error.mend:
                raise
            return Situation(None, (), wanted, False)
        deployments = self._azure.deployments(options.name)
        same = [item for item in deployments if _same(item, wanted) and item.state.lower() not in _LOST]
        # The one that is asked already comes first, so that the same command changes nothing.
        same.sort(key=lambda item: item.name != endpoint.default)
        if same:
            return Situation(endpoint, deployments, same[0], True)
        name = next(colour for colour in COLOURS if colour != endpoint.default)
        return Situation(endpoint, deployments, replace(wanted, name=name), False)

    def _bring_up(self, endpoint: BatchEndpoint, now: Situation, wait: bool, say: Callable[[str], None]) -> bool:
        """Have the deployment. False where it is only begun."""
        wanted = now.wanted
        if now.there:
            return self._settled(endpoint.name, wanted.name, say) if wait else wanted.state.lower() == "succeeded"
        before = named(now.deployments, wanted.name)
        if before is not None and before.state.lower() in _LOST:
            say(f"Deleting {before.name}, which is {before.state.lower()} with {before.model}…")
            gone(lambda: self._azure.delete_deployment(endpoint.name, wanted.name))
        if endpoint.tags.get(PREVIOUS) == wanted.name:
            # It is overwritten: there is nothing to go back to until the new one has taken over.
            self._azure.set_default(endpoint, endpoint.default, {PREVIOUS: ""})
        say(f"Making {wanted.name} with {wanted.model}…")
        finish = self._azure.begin_deployment(endpoint.name, wanted)
        if wait:
            finish(lambda state: say(f"{wanted.name}: {state}"))
        return wait

    def _settled(self, endpoint: str, name: str, say: Callable[[str], None]) -> bool:
        deadline, said = time.monotonic() + _SETTLE_S, False
        while time.monotonic() < deadline:
            state = self._azure.deployment(endpoint, name).state.lower()
            if state == "succeeded":
                return True
            if state in _LOST:
                raise AmlflowError(f"The deployment {name!r} of {endpoint!r} {state}.")
            if not said:
                say(f"{name} is being made; waiting for it…")
                said = True
            time.sleep(_POLL_S)
        raise AmlflowError(f"The deployment {name!r} has not settled after {_SETTLE_S / 60:.0f} minutes.")

    def _try(
        self, endpoint: BatchEndpoint, wanted: BatchDeployment, example: bytes | None, say: Callable[[str], None]
    ) -> None:
        """Let the new deployment score the input example, past the default. Raises `AmlflowError` where it does not."""
        if example is None or wanted.output_action != "append":
            lacking = "The model has no input example" if example is None else "A summary says no predictions"
            say(f"{lacking} to try {wanted.name} with.")
            return
        try:
            table = payloads.as_csv(example, "application/json")
        except UsageError as error:
            say(f"{wanted.name} is not tried with the input example. {error.message}")
            return
        say(f"{wanted.name} scores the input example; the first job waits for a node and its environment…")
        given = self._scoring.predictions(endpoint, wanted, table, "text/csv")
        rows = len(table.decode().splitlines()) - 1
        if answers.size(given) < rows:
            raise AmlflowError(
                f"{wanted.name} gave {answers.size(given)} predictions for {rows} rows of the input example."
            )
        say(f"{wanted.name} has scored the input example.")

    def _take_over(self, endpoint: BatchEndpoint, name: str, say: Callable[[str], None]) -> None:
        # Read anew: a change of an endpoint that somebody has deleted would make it again.
        now = self._azure.get(endpoint.name)
        tags = {PREVIOUS: now.default} if now.default and now.default != name else {}
        say(f"Asking {name} from now on.")
        self._azure.set_default(now, name, tags)

    def _take_back(self, endpoint: BatchEndpoint, now: Situation) -> str:
        """Put things back; returns the sentence that says so, or what could not be put back."""
        name = now.wanted.name
        try:
            self._azure.get(endpoint.name)
        except NotFound:
            return f"The endpoint {endpoint.name} was deleted meanwhile."
        except AmlflowError as error:
            return f"Taking it back failed as well: {error.message}"
        try:
            if now.new:
                gone(lambda: self._azure.delete(endpoint.name))
                return f"The endpoint {endpoint.name} is deleted again."
            kept = name == endpoint.default or (now.there and name == endpoint.tags.get(PREVIOUS))
            if not kept:
                gone(lambda: self._azure.delete_deployment(endpoint.name, name))
        except AmlflowError as error:
            return f"Taking it back failed as well: {error.message}"
        undone = f"{name} stays" if kept else f"{name} is deleted again"
        return f"{undone}; {endpoint.default or 'no deployment'} is asked as before."

    def _audience(self) -> str:
        return self._service.http.credential.cloud.ml_scope.removesuffix("/.default")

    def _shown(self, endpoint: BatchEndpoint, deployments: Sequence[BatchDeployment]) -> Endpoint:
        asked = named(deployments, endpoint.default) or next(iter(deployments), None)
        traffic = {item.name: 100 if item.name == endpoint.default else 0 for item in deployments}
        return azure_endpoint.shown(endpoint, "batch", asked, traffic)


def _check(model: ModelToDeploy, options: DeployOptions) -> None:
    batch = options.batch
    if not _NAME.fullmatch(options.name):
        raise UsageError(
            f"{options.name!r} cannot name a batch endpoint: 3 to 32 letters, digits and '-', beginning with a letter and not "
            "ending with '-'.",
            "Choose one with --name.",
        )
    if not model.registered:
        raise UsageError(
            f"The batch target takes registered models, and {model.label} is none.",
            f"Register it first: `amlflow register {model.label} --name NAME`, then deploy NAME:VERSION.",
        )
    if not batch.compute:
        raise UsageError(
            "The batch target scores on a cluster, and none is named.",
            "Give --compute NAME; `amlflow compute list` shows them.",
        )
    if batch.output_action not in ACTIONS:
        raise UsageError(
            f"There is no output action {batch.output_action!r}.", f"It is one of {', '.join(builtins.list(ACTIONS))}."
        )


def _same(one: BatchDeployment, other: BatchDeployment) -> bool:
    plain = {"name": "", "state": "", "model": "", "compute": "", "output_file": ""}
    return (
        one.model.lower() == other.model.lower()
        and one.compute.lower() == other.compute.lower()
        and replace(one, **plain) == replace(other, **plain)  # type: ignore[arg-type]
    )


def _warnings(model: ModelToDeploy, options: DeployOptions) -> list[str]:
    found = []
    text = (model.folder / "MLmodel").read_text(encoding="utf-8", errors="replace")
    if not re.search(r"^signature:", text, re.MULTILINE):
        found.append(
            f"{model.label} has no signature: the types of CSV columns are guessed when they are read, and a file with other "
            "columns fails only when the model is asked. Log the model with `signature=`."
        )
    if options.batch.smoke and model.example is None:
        found.append(f"{model.label} has no input example, so the new deployment is not tried before it is asked.")
    return found
