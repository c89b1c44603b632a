"""Rules of Azure Monitor that scale a managed deployment.

The shapes are those of Microsoft.Insights/autoscaleSettings, api-version 2022-10-01, and the metric's name is that of Azure ML's
documentation («Autoscale online endpoints»).
"""

from __future__ import annotations

import contextlib
from typing import Any

from amlflow.errors import NotFound
from amlflow.workspaces.azure.arm import segment
from amlflow.workspaces.azure.online_deployments import Autoscale
from amlflow.workspaces.azure.service import Service

_API = "2022-10-01"
_METRIC = "CpuUtilizationPercentage"
_WINDOW = "PT5M"


def put(service: Service, endpoint: str, deployment: str, rule: Autoscale) -> None:
    """Scale the deployment so; asked once more, it changes nothing."""
    target = f"{service.path}/onlineEndpoints/{segment(endpoint)}/deployments/{segment(deployment)}"
    profile = {
        "name": "cpu",
        "capacity": {"minimum": str(rule.least), "maximum": str(rule.most), "default": str(rule.least)},
        # It goes down far below where it goes up, so that it does not go to and fro.
        "rules": [
            _rule(target, "GreaterThan", rule.cpu, "Increase"),
            _rule(target, "LessThan", rule.cpu // 2, "Decrease"),
        ],
    }
    location = service.description().location
    properties = {
        "enabled": True,
        "targetResourceUri": target,
        "targetResourceLocation": location,
        "profiles": [profile],
    }
    path = _path(service, endpoint, deployment)
    service.arm.put(path, _API, f"autoscale rule of {deployment!r}", {"location": location, "properties": properties})


def delete(service: Service, endpoint: str, deployment: str) -> None:
    """Nothing else takes it away: not even the end of what it scales."""
    path = _path(service, endpoint, deployment)
    with contextlib.suppress(NotFound):
        service.arm.delete(path, _API, f"autoscale rule of {deployment!r}")


def _path(service: Service, endpoint: str, deployment: str) -> str:
    group = service.path.split("/providers/")[0]
    name = segment(f"{service.name}-{endpoint}-{deployment}")
    return f"{group}/providers/Microsoft.Insights/autoscaleSettings/{name}"


def _rule(target: str, operator: str, threshold: int, direction: str) -> dict[str, Any]:
    return {
        "metricTrigger": {
            "metricName": _METRIC,
            "metricResourceUri": target,
            "timeGrain": "PT1M",
            "statistic": "Average",
            "timeWindow": _WINDOW,
            "timeAggregation": "Average",
            "operator": operator,
            "threshold": threshold,
        },
        "scaleAction": {"direction": direction, "type": "ChangeCount", "value": "1", "cooldown": _WINDOW},
    }
