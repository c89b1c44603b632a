"""What a deploy to an online endpoint finds there, and what it comes down to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from amlflow.errors import NotFound
from amlflow.workspaces.azure.endpoints import UNFINISHED, AzureEndpoints, OnlineEndpoint
from amlflow.workspaces.azure.online_deployments import OnlineDeployment

COLOURS = ("blue", "green")
_LOST = ("failed", "canceled", "deleting")


@dataclass(frozen=True, slots=True)
class Situation:
    """What there is: the endpoint, None before the first deploy, its deployments, and what the deploy comes down to. `wanted` is
    the deployment to have in the end; `there` says that it is there already; `live` the name of the one that takes most requests
    now, empty for none but the wanted one. `new` says that no deploy to the endpoint has ended well: what fails leaves none."""

    endpoint: OnlineEndpoint | None
    deployments: Sequence[OnlineDeployment]
    wanted: OnlineDeployment
    there: bool
    live: str
    new: bool


def find(azure: AzureEndpoints, name: str, wanted: OnlineDeployment) -> Situation:
    """`wanted` has no name yet: the one that it gets is that of the colour whose turn it is."""
    wanted = replace(wanted, name=COLOURS[0])
    try:
        endpoint = azure.get(name)
    except NotFound as error:
        if error.mend:
            raise
        return Situation(None, (), wanted, False, "", True)
    if endpoint.state.lower() == "deleting":
        return Situation(endpoint, (), wanted, False, "", True)
    deployments = azure.deployments(name)
    live = live_of(endpoint, deployments)
    same = [item for item in deployments if item.same_as(wanted) and item.state.lower() not in _LOST]
    # The one that has most of the traffic already, so that a deploy that was cut goes on.
    same.sort(key=lambda item: -endpoint.traffic.get(item.name, 0))
    if same:
        others = [item for item in endpoint.traffic if item != same[0].name]
        before = max(others, key=lambda item: endpoint.traffic[item], default="")
        new = _unfinished(endpoint, deployments, same[0].name)
        return Situation(endpoint, deployments, same[0], True, before, new)
    colour = next(item for item in COLOURS if item != live)
    new = _unfinished(endpoint, deployments, colour)
    return Situation(endpoint, deployments, replace(wanted, name=colour), False, live, new)


def live_of(endpoint: OnlineEndpoint, deployments: Sequence[OnlineDeployment]) -> str:
    """The deployment that takes most requests; empty for none."""
    known = {item.name for item in deployments}
    shares = {name: share for name, share in endpoint.traffic.items() if name in known}
    return max(shares, key=lambda name: shares[name], default="")


def _unfinished(endpoint: OnlineEndpoint, deployments: Sequence[OnlineDeployment], wanted: str) -> bool:
    """Whether the endpoint is what a deploy that was cut has left, with nobody else's deployment in it."""
    return UNFINISHED in endpoint.tags and all(item.name == wanted for item in deployments)
