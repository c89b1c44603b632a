"""The options of online endpoints: whether they can be, and which way the traffic goes by them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from amlflow.errors import NotSupported, UsageError
from amlflow.targets import scoring
from amlflow.targets.base import DeployOptions, ModelToDeploy, PlanAction, PlanStep
from amlflow.targets.situation import Situation
from amlflow.workspaces.azure.endpoints import EndpointSpec, OnlineEndpoint, named

AUTH_MODES = ("key", "aad")
_NAME = re.compile(r"[a-zA-Z][a-zA-Z0-9-]{1,30}[a-zA-Z0-9]")
# The service mirrors no more than half of the requests.
_MOST_MIRRORED = 50


def check(model: ModelToDeploy, options: DeployOptions) -> None:
    """Raises `UsageError` for what no online endpoint can be."""
    online = options.online
    if not _NAME.fullmatch(options.name):
        raise UsageError(
            f"{options.name!r} cannot name an online endpoint: 3 to 32 letters, digits and '-', beginning with a letter and not "
            "ending with '-'.",
            "Choose one with --name.",
        )
    if not model.registered:
        raise UsageError(
            f"An online endpoint takes registered models, and {model.label} is none.",
            f"Register it first: `amlflow register {model.label} --name NAME`, then deploy NAME:VERSION.",
        )
    shares = list(online.canary)
    if not shares or shares != sorted(set(shares)) or shares[0] < 1 or shares[-1] != 100:
        raise UsageError(
            f"--canary {','.join(map(str, shares))} is no way to 100 %.", "Write rising shares, such as 10,50,100."
        )
    for option, value, known in (
        ("--scoring", online.scoring, scoring.MODES),
        ("--auth-mode", online.auth_mode or AUTH_MODES[0], AUTH_MODES),
    ):
        if value not in known:
            raise UsageError(f"{option} {value!r} means nothing.", f"It is one of {', '.join(known)}.")
    if not 0 <= online.mirror <= _MOST_MIRRORED:
        raise UsageError(
            f"{online.mirror} % of the requests cannot be mirrored.", f"Give --mirror 1 to {_MOST_MIRRORED}."
        )


def check_same(endpoint: OnlineEndpoint, wanted: EndpointSpec, auth_mode: str) -> None:
    """Raises `UsageError` where the endpoint that is there is another than the one asked for: what it is made as, it stays."""
    if endpoint.compute.lower() != wanted.compute.lower():
        where = f"on the cluster {endpoint.compute!r}" if endpoint.compute else "on managed machines"
        raise UsageError(f"The endpoint {endpoint.name!r} is there already, {where}.", "Choose another with --name.")
    if endpoint.auth.lower() not in ("key", "aadtoken", ""):
        raise NotSupported(
            f"Endpoint {endpoint.name!r} is opened by {endpoint.auth}, and amlflow knows keys and tokens of Microsoft Entra.",
            "Use azure-ai-ml for it, or deploy under another --name.",
        )
    if auth_mode and endpoint.by_token != wanted.by_token:
        raise UsageError(
            f"The endpoint {endpoint.name!r} is opened by {'tokens' if endpoint.by_token else 'keys'}, and stays so.",
            "Leave out --auth-mode, or choose another --name.",
        )
    if wanted.private and not endpoint.private:
        raise UsageError(
            f"The endpoint {endpoint.name!r} is public, and whom it has as clients would lose it.",
            "Leave out --private, or choose another --name.",
        )


def steps(options: DeployOptions, live: str, wanted: str) -> Sequence[int]:
    """The shares that the wanted deployment gets one after the other."""
    return options.online.canary if live and live != wanted else (100,)


def split(live: str, new: str, share: int) -> dict[str, int]:
    return {new: share, **({live: 100 - share} if live and live != new and share < 100 else {})}


def traffic_steps(now: Situation, options: DeployOptions) -> list[PlanStep]:
    """What a plan says of all that comes after the deployment itself."""
    wanted, online, found = now.wanted, options.online, []
    if wanted.autoscale is not None and wanted.compute == "Managed":
        found.append(PlanStep("keep" if now.there else "create", "autoscale rule", str(wanted.autoscale)))
    if wanted.collect:
        action: PlanAction = "keep" if now.there else "create"
        found.append(PlanStep(action, "data collection", f"of {wanted.collect * 100:g} % of the requests"))
    if online.mirror and now.live and now.live != wanted.name:
        found.append(PlanStep("change", "mirror", f"{wanted.name} {online.mirror} % for {online.canary_wait_s:g} s"))
    share = now.endpoint.traffic.get(wanted.name, 0) if now.endpoint else 0
    for step in [step for step in steps(options, now.live, wanted.name) if step > share]:
        found.append(PlanStep("change", "traffic", written(split(now.live, wanted.name, step))))
    if now.live and now.live != wanted.name and named(now.deployments, now.live):
        found.append(PlanStep("keep", f"deployment {now.live}", "at 0 %, for `amlflow endpoint rollback`; it costs"))
    return found


def written(traffic: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {share} %" for name, share in traffic.items())
