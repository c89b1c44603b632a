"""An endpoint of Azure ML, online or batch, as every target shows endpoints."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

from amlflow.targets.base import Endpoint, EndpointState
from amlflow.workspaces.azure.batch import BatchDeployment, BatchEndpoint
from amlflow.workspaces.azure.endpoints import OnlineEndpoint
from amlflow.workspaces.azure.online_deployments import OnlineDeployment

_STATES: Mapping[str, EndpointState] = {
    "creating": "starting",
    "updating": "starting",
    "failed": "failed",
    "canceled": "failed",
    "deleting": "stopped",
}


def shown(
    endpoint: OnlineEndpoint | BatchEndpoint,
    target: str,
    asked: OnlineDeployment | BatchDeployment | None,
    traffic: Mapping[str, int],
) -> Endpoint:
    """`asked` is the deployment that answers, None where there is none; `traffic` each one's share in percent."""
    state = _STATES.get(endpoint.state.lower(), "running")
    if state == "running":
        state = "stopped" if asked is None else _STATES.get(asked.state.lower(), "running")
    address = urlsplit(endpoint.scoring_url)
    return Endpoint(
        endpoint.name,
        target,
        state,
        asked.model if asked else "",
        "",
        f"{address.scheme}://{address.netloc}" if address.netloc else "",
        endpoint.scoring_url,
        0,
        0,
        endpoint.created_ms,
        "",
        traffic,
    )
