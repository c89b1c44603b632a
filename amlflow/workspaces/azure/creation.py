"""Workspaces of a subscription: which there are, new ones with what they need, and their deletion."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from amlflow.errors import AmlflowError, NotFound, UsageError
from amlflow.workspaces.azure.arm import PROVIDER, Arm, segment
from amlflow.workspaces.azure.service import WORKSPACES_API, Service

_DEPLOYMENT_API = "2022-09-01"
_GROUP_API = "2021-04-01"


@dataclass(frozen=True, slots=True)
class Found:
    """A workspace of a subscription."""

    subscription: str
    group: str
    name: str
    location: str

    @property
    def asked(self) -> str:
        return f"{self.subscription}/{self.group}/{self.name}"


def workspaces(arm: Arm, subscription: str, group: str = "") -> Iterator[Found]:
    """Those of the subscription, or of one of its resource groups. Raises `NotFound` for neither."""
    base = f"/subscriptions/{segment(subscription)}"
    if group:
        base += f"/resourceGroups/{segment(group)}"
    what = f"subscription {subscription!r}" + (f" with a resource group {group!r}" if group else "")
    for item in arm.pages(f"{base}/providers/{PROVIDER}/workspaces", WORKSPACES_API, what):
        parts = str(item.get("id", "")).strip("/").split("/")
        if len(parts) >= 8:
            yield Found(parts[1], parts[3], parts[7], str(item.get("location") or ""))


def create(service: Service, location: str, report: Callable[[str], None]) -> None:
    """Make the workspace with a storage account, a key vault and application insights of its own, in a resource group that is
    made if it is new; wait for it. Raises `AmlflowError` when there is one of that name."""
    arm = service.arm
    group_path = f"/subscriptions/{segment(service.subscription)}/resourceGroups/{segment(service.group)}"
    known = {found.name.lower() for found in _of_group(arm, service)}
    if service.name.lower() in known:
        raise AmlflowError(
            f"There is a workspace {service.subscription}/{service.group}/{service.name} already.", "Use it with -w."
        )
    if not location:
        raise UsageError("A new Azure ML workspace needs a region.", "Give --location, such as westeurope.")
    report(f"Resource group {service.group}")
    arm.put(group_path, _GROUP_API, f"resource group {service.group!r}", {"location": location})
    what = f"workspace {service.name!r}"
    deployment = f"{group_path}/providers/Microsoft.Resources/deployments/{segment(f'amlflow-{service.name}'[:60])}"
    body = {
        "properties": {
            "mode": "Incremental",
            "template": _template(),
            "parameters": {"workspaceName": {"value": service.name}, "location": {"value": location}},
        }
    }
    report(f"Workspace {service.name}, with its storage account, key vault and application insights")
    arm.put(deployment, _DEPLOYMENT_API, what, body)
    _await(arm, deployment, what, report)


def delete(service: Service, report: Callable[[str], None]) -> None:
    """Delete the workspace; its storage account and what is in it stay."""
    service.read()
    what = f"workspace {service.name!r}"
    service.arm.finished(service.arm.delete(service.path, WORKSPACES_API, what), what, report)


def _of_group(arm: Arm, service: Service) -> Iterator[Found]:
    try:
        yield from workspaces(arm, service.subscription, service.group)
    except NotFound:
        return


def _await(arm: Arm, path: str, what: str, report: Callable[[str], None]) -> None:
    wait, last = 1.0, ""
    while True:
        properties = arm.get(path, _DEPLOYMENT_API, what).get("properties") or {}
        state = str(properties.get("provisioningState") or "")
        if state != last:
            last = state
            report(f"{what.capitalize()}: {state.lower()}")
        if state == "Succeeded":
            return
        if state in ("Failed", "Canceled"):
            error = properties.get("error") or {}
            details = "; ".join(str(item.get("message", "")) for item in error.get("details") or [])
            raise AmlflowError(f"The {what} could not be made: {details or error.get('message') or state}.")
        time.sleep(wait)
        wait = min(wait * 1.5, 10.0)


def _template() -> dict[str, Any]:
    """An ARM template; the names of what is around the workspace are made of its own and of the group's id, so that a
    second deployment changes what the first has made."""
    storage = "[resourceId('Microsoft.Storage/storageAccounts', variables('storage'))]"
    vault = "[resourceId('Microsoft.KeyVault/vaults', variables('vault'))]"
    insights = "[resourceId('Microsoft.Insights/components', variables('insights'))]"
    logs = "[resourceId('Microsoft.OperationalInsights/workspaces', variables('logs'))]"
    place = "[parameters('location')]"
    return {
        "$schema": "https://schema.management.azure.com/schemas/2019-04-01/deploymentTemplate.json#",
        "contentVersion": "1.0.0.0",
        "parameters": {"workspaceName": {"type": "string"}, "location": {"type": "string"}},
        "variables": {
            "tail": "[uniqueString(resourceGroup().id, parameters('workspaceName'))]",
            "storage": "[concat('ml', variables('tail'))]",
            "vault": "[concat('ml-', variables('tail'))]",
            "insights": "[concat('ml-', variables('tail'))]",
            "logs": "[concat('ml-logs-', variables('tail'))]",
        },
        "resources": [
            {
                "type": "Microsoft.Storage/storageAccounts",
                "apiVersion": "2023-01-01",
                "name": "[variables('storage')]",
                "location": place,
                "sku": {"name": "Standard_LRS"},
                "kind": "StorageV2",
                "properties": {
                    "supportsHttpsTrafficOnly": True,
                    "minimumTlsVersion": "TLS1_2",
                    "allowBlobPublicAccess": False,
                },
            },
            {
                "type": "Microsoft.KeyVault/vaults",
                "apiVersion": "2023-02-01",
                "name": "[variables('vault')]",
                "location": place,
                "properties": {
                    "tenantId": "[subscription().tenantId]",
                    "sku": {"name": "standard", "family": "A"},
                    "accessPolicies": [],
                },
            },
            {
                "type": "Microsoft.OperationalInsights/workspaces",
                "apiVersion": "2022-10-01",
                "name": "[variables('logs')]",
                "location": place,
                "properties": {"sku": {"name": "PerGB2018"}},
            },
            {
                "type": "Microsoft.Insights/components",
                "apiVersion": "2020-02-02",
                "name": "[variables('insights')]",
                "location": place,
                "kind": "web",
                "dependsOn": [logs],
                "properties": {"Application_Type": "web", "WorkspaceResourceId": logs},
            },
            {
                "type": f"{PROVIDER}/workspaces",
                "apiVersion": "2024-04-01",
                "name": "[parameters('workspaceName')]",
                "location": place,
                "identity": {"type": "SystemAssigned"},
                "dependsOn": [storage, vault, insights],
                "properties": {
                    "friendlyName": "[parameters('workspaceName')]",
                    "storageAccount": storage,
                    "keyVault": vault,
                    "applicationInsights": insights,
                },
            },
        ],
    }
