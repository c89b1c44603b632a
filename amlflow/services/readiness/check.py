"""The check before a deploy: everything that can be known without making anything."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date

from amlflow.environments import spec
from amlflow.errors import AmlflowError, UsageError, nearest
from amlflow.services import deployment
from amlflow.services.deployment import DeployRequest
from amlflow.services.readiness import azure, model, packages, pythons
from amlflow.services.readiness.findings import HOSTINGS, Finding, Hosting, of_error
from amlflow.targets import image
from amlflow.targets.base import ModelToDeploy
from amlflow.workspaces.abilities import HasOnlineEndpoints
from amlflow.workspaces.base import Workspace


@dataclass(frozen=True, slots=True)
class Checked:
    """`label` is how the model is called in a message."""

    label: str
    target: str
    findings: Sequence[Finding]

    def count(self, severity: str) -> int:
        return sum(item.severity == severity for item in self.findings)


def check(workspace: Workspace, request: DeployRequest, report: Callable[[str], None]) -> Checked:
    """Raises `UsageError` for a target that is not known, and as `deploy` does for a model that is not there. All else is a
    finding."""
    hosting = hosting_of(request)
    _, found = deployment.find_model(workspace, request.model)
    return Checked(found.label, hosting.target, list(_findings(workspace, request, found, hosting, report)))


def hosting_of(request: DeployRequest) -> Hosting:
    """Raises `UsageError` for a target that is not known."""
    if request.target in HOSTINGS:
        hosting, mode = HOSTINGS[request.target], request.options.online.scoring
        return replace(hosting, no_code=hosting.no_code and mode != "own", falls_back=mode == "auto")
    near = nearest(request.target, HOSTINGS)
    raise UsageError(
        f"There is no deploy target {request.target!r}.{f' Did you mean {near}?' if near else ''}",
        f"It is one of {', '.join(HOSTINGS)}.",
    )


def of_model(
    found: ModelToDeploy, hosting: Hosting, report: Callable[[str], None], env_manager: str = "uv"
) -> Iterator[Finding]:
    """What the model itself is, whatever workspace it goes to."""
    yield from model.findings(found, hosting)
    if env_manager == "local":
        yield Finding(
            "warning",
            "packages",
            "With --env-manager local the model runs with amlflow's own packages: its requirements are not looked at.",
            "Leave out --env-manager to serve it with what it asks for.",
        )
        return
    try:
        asked = packages.wanted(found, hosting)
        python = image.minor(asked.python)
        yield from packages.findings(found, hosting, asked)
    except AmlflowError as error:
        yield of_error("packages", error)
        return
    yield from pythons.findings(python, asked.python, hosting, date.today())
    yield from _resolution(hosting, asked, python, report)


def _findings(
    workspace: Workspace,
    request: DeployRequest,
    found: ModelToDeploy,
    hosting: Hosting,
    report: Callable[[str], None],
) -> Iterator[Finding]:
    yield from of_model(found, hosting, report, request.options.env_manager)
    if hosting.azure and not isinstance(workspace, HasOnlineEndpoints):
        yield Finding(
            "warning",
            "workspace",
            f"{workspace.name!r} is no Azure ML workspace: quota, network and rights were not looked at.",
            "Name one with -w.",
        )
        return
    plan = _plan(workspace, request, found, hosting)
    yield from plan
    if isinstance(workspace, HasOnlineEndpoints) and hosting.azure:
        size, planned = model.size_bytes(found), any(item.severity == "ok" for item in plan)
        failed = any(item.severity == "error" for item in plan)
        for item in azure.findings(workspace.service, hosting, request.options, size, planned, report):
            # The plan has said it already, with what will be free by then.
            if not (failed and item.what == "quota"):
                yield item


def _resolution(
    hosting: Hosting, asked: spec.EnvironmentSpec, python: str, report: Callable[[str], None]
) -> Sequence[Finding]:
    if asked.conda_file is not None:
        why = f"{asked.conda_file.name} has packages that only conda has: whether they fit together is not looked at."
        return [Finding("warning", "packages", why, "Keep to packages of PyPI, as far as possible.")]
    return packages.resolved(hosting, asked, python, report).findings


def _plan(workspace: Workspace, request: DeployRequest, found: ModelToDeploy, hosting: Hosting) -> list[Finding]:
    """What the target itself says to the deploy."""
    if hosting.registered and not found.registered:
        return [
            Finding(
                "warning",
                "registered",
                f"This target takes registered models alone, and {found.label} is none.",
                f"Register it: `amlflow register {found.label} --name NAME`.",
            )
        ]
    if hosting.target not in deployment.TARGETS:
        return []
    try:
        _, plan = deployment.plan(workspace, request)
    except AmlflowError as error:
        return [of_error("plan", error)]
    steps = [f"{step.action} {step.what}" for step in plan.steps if step.action != "keep"]
    return [Finding("ok", "plan", ", ".join(steps) or "nothing to do")]
