"""Resource groups, workspaces, and the template deployments by which the SDK makes workspaces."""

from __future__ import annotations

import uuid
from typing import Any

from amlflow.emulator.arm.resources import (
    GROUP_PATTERN,
    PROVIDER,
    WORKSPACE_PATTERN,
    Arm,
    check_name,
    merge,
    page,
)
from amlflow.emulator.settings import LOCATION, STORAGE_ACCOUNT
from amlflow.emulator.store import Document
from amlflow.emulator.web import Answer, Request, Route, arm_error, iso

KIND = "workspaces"
REGISTRY = "emulatorregistry"
NAME = r"[A-Za-z0-9][A-Za-z0-9_-]{2,32}"
_WRITABLE = (
    "friendlyName description publicNetworkAccess hbiWorkspace v1LegacyMode imageBuildCompute primaryUserAssignedIdentity "
    "systemDatastoresAuthMode enableDataIsolation managedNetwork serverlessComputeSettings"
).split()


class Workspaces:
    def __init__(self, arm: Arm) -> None:
        self._arm = arm

    def routes(self) -> list[Route]:
        everywhere = "/subscriptions/{subscription}"
        deployments = f"{GROUP_PATTERN}/providers/Microsoft.Resources/deployments/{{deployment}}"
        return [
            Route("GET", everywhere, self._subscription),
            Route("GET", "/subscriptions", self._subscriptions),
            Route("GET", "/discovery/workspaces/{workspace}", self._discovery, "open"),
            Route("GET", f"{everywhere}/resourceGroups", self._groups),
            Route("GET", GROUP_PATTERN, self._group),
            Route("PUT", GROUP_PATTERN, self._put_group),
            Route("GET", f"{everywhere}/providers/{PROVIDER}/workspaces", self._list_all),
            Route("GET", f"{GROUP_PATTERN}/providers/{PROVIDER}/workspaces", self._list),
            Route("GET", WORKSPACE_PATTERN, self._get),
            Route("PUT", WORKSPACE_PATTERN, self._put),
            Route("PATCH", WORKSPACE_PATTERN, self._patch),
            Route("DELETE", WORKSPACE_PATTERN, self._delete),
            Route("POST", f"{WORKSPACE_PATTERN}/listKeys", self._keys),
            Route("POST", f"{WORKSPACE_PATTERN}/listStorageAccountKeys", self._storage_keys),
            Route("GET", f"{WORKSPACE_PATTERN}/connections", self._none),
            Route("GET", f"{WORKSPACE_PATTERN}/outboundRules", self._none),
            Route("PUT", deployments, self._put_deployment),
            Route("GET", deployments, self._get_deployment),
            Route("GET", f"{GROUP_PATTERN}/deployments/{{deployment}}/operations", self._deployment_operations),
            Route("GET", "/subscriptions/{subscription}/providers/Microsoft.Storage/storageAccounts", self._none),
        ]

    def ensure(self, group: str, name: str, by: str, body: dict[str, Any] | None = None) -> tuple[Document, bool]:
        """The workspace, made with its group if it is new."""
        arm = self._arm
        with arm.store.undisturbed():
            if arm.store.get(arm.group_id(group)) is None:
                arm.store.put(arm.group_id(group), {"location": LOCATION}, by)
            id = f"{arm.group_id(group)}/providers/{PROVIDER}/workspaces/{name}"
            before = arm.store.get(id)
            content: dict[str, Any] = (
                before.body if before else {"workspaceId": str(uuid.uuid4()), "properties": {}, "tags": {}}
            )
            given = body or {}
            merge(
                content["properties"],
                {key: value for key, value in given.get("properties", {}).items() if key in _WRITABLE},
            )
            registry = given.get("properties", {}).get("containerRegistry")
            if registry is not None:
                # Workspaces have one from the start here, which the service makes when it is needed; "" takes it away.
                content["registry"] = bool(registry)
            content["tags"] = given.get("tags", content["tags"]) or {}
            content["location"] = given.get("location") or content.get("location") or LOCATION
            return arm.store.put(id, content, by)

    def _subscription(self, request: Request) -> Answer:
        settings = self._arm.settings
        content = {
            "id": f"/subscriptions/{settings.subscription}",
            "subscriptionId": settings.subscription,
            "tenantId": settings.tenant,
            "displayName": "amlflow emulator",
            "state": "Enabled",
        }
        return Answer(content=content)

    def _subscriptions(self, request: Request) -> Answer:
        return Answer(content={"value": [self._subscription(request).content], "count": {"type": "Total", "value": 1}})

    def _groups(self, request: Request) -> Answer:
        return page(
            request,
            self._arm.store.children(f"/subscriptions/{self._arm.settings.subscription}/resourceGroups"),
            _group,
        )

    def _group(self, request: Request) -> Answer:
        self._arm.check_group(request.values["group"])
        found = self._arm.store.get(self._arm.group_id(request.values["group"]))
        assert found is not None
        return Answer(content=_group(found))

    def _put_group(self, request: Request) -> Answer:
        location = request.json().get("location", LOCATION)
        made, new = self._arm.store.put(
            self._arm.group_id(request.values["group"]), {"location": location}, author(request)
        )
        return Answer(201 if new else 200, _group(made))

    def _list_all(self, request: Request) -> Answer:
        store = self._arm.store
        groups = store.children(f"/subscriptions/{self._arm.settings.subscription}/resourceGroups")
        found = [item for group in groups for item in store.children(f"{group.id}/providers/{PROVIDER}/workspaces")]
        return page(request, found, lambda item: self._render(item, request.base_url))

    def _list(self, request: Request) -> Answer:
        group = request.values["group"]
        self._arm.check_group(group)
        found = self._arm.store.children(f"{self._arm.group_id(group)}/providers/{PROVIDER}/workspaces")
        return page(request, found, lambda item: self._render(item, request.base_url))

    def _get(self, request: Request) -> Answer:
        return Answer(content=self._render(self._arm.workspace(request), request.base_url))

    def _put(self, request: Request) -> Answer:
        group, name = request.values["group"], request.values["workspace"]
        self._arm.check_group(group)
        check_name(name, NAME, "Workspace")
        made, new = self.ensure(group, name, author(request), request.json())
        if not new:
            return Answer(content=self._render(made, request.base_url))
        operation = self._arm.begin(made.id)
        return self._arm.accepted(request, operation, 202, kind="workspaceOperationsStatus")

    def _patch(self, request: Request) -> Answer:
        found = self._arm.workspace(request)
        made, _ = self.ensure(request.values["group"], found.name, author(request), request.json())
        return Answer(content=self._render(made, request.base_url))

    def _delete(self, request: Request) -> Answer:
        group, name = request.values["group"], request.values["workspace"]
        if self._arm.store.get(self._arm.workspace_id(request)) is None:
            return Answer(204)
        if (group.lower(), name.lower()) == (self._arm.settings.group.lower(), self._arm.settings.workspace.lower()):
            text = f"The emulator's first workspace '{name}' stays; delete only those that were made after it."
            raise arm_error(409, "ScopeLocked", text)
        self._arm.store.delete(self._arm.workspace_id(request))
        return self._arm.accepted(request, self._arm.begin(request.path), kind="workspaceOperationsStatus")

    def _discovery(self, request: Request) -> Answer:
        """Where the data planes of the region are: all of them here."""
        services = (
            "api",
            "catalog",
            "experimentation",
            "gallery",
            "history",
            "hyperdrive",
            "labeling",
            "modelmanagement",
            "pipelines",
        )
        return Answer(content=dict.fromkeys((*services, "studio"), request.base_url))

    def _keys(self, request: Request) -> Answer:
        self._arm.workspace(request)
        content = {
            "userStorageKey": self._arm.settings.storage_key,
            "userStorageResourceId": storage_id(self._arm, request.values["group"]),
            "notebookAccessKeys": {},
        }
        return Answer(content=content)

    def _storage_keys(self, request: Request) -> Answer:
        self._arm.workspace(request)
        return Answer(content={"userStorageKey": self._arm.settings.storage_key})

    def _none(self, request: Request) -> Answer:
        return Answer(content={"value": []})

    def _put_deployment(self, request: Request) -> Answer:
        """A template deployment. Of what the template asks for, the workspace is made; the storage account, the key vault and the
        like are the emulator's own."""
        self._arm.check_group(request.values["group"])
        parameters = request.json().get("properties", {}).get("parameters", {})
        given = {key: value.get("value") for key, value in parameters.items() if isinstance(value, dict)}
        name = given.get("workspaceName")
        if not name:
            raise arm_error(400, "InvalidTemplate", "Deployment template validation failed: it makes no workspace.")
        check_name(name, NAME, "Workspace")
        fields = ("friendlyName", "description", "publicNetworkAccess", "systemDatastoresAuthMode")
        body = {
            "location": given.get("location"),
            "tags": given.get("tagValues") or {},
            "properties": {key: given[key] for key in fields if given.get(key)},
        }
        made, _ = self.ensure(request.values["group"], name, author(request), body)
        self._arm.store.put(self._deployment_id(request), {"workspace": made.id})
        return Answer(201, self._deployment(request))

    def _get_deployment(self, request: Request) -> Answer:
        return Answer(content=self._deployment(request))

    def _deployment(self, request: Request) -> dict[str, Any]:
        found = self._arm.store.get(self._deployment_id(request))
        if found is None:
            raise arm_error(
                404, "DeploymentNotFound", f"Deployment '{request.values['deployment']}' could not be found."
            )
        properties = {
            "provisioningState": "Succeeded",
            "mode": "Incremental",
            "timestamp": iso(found.updated),
            "duration": "PT1S",
            "correlationId": str(uuid.uuid4()),
            "outputResources": [{"id": found.body["workspace"]}],
        }
        return {"id": found.id, "name": found.name, "type": "Microsoft.Resources/deployments", "properties": properties}

    def _deployment_id(self, request: Request) -> str:
        group, name = request.values["group"], request.values["deployment"]
        return f"{self._arm.group_id(group)}/providers/Microsoft.Resources/deployments/{name}"

    def _deployment_operations(self, request: Request) -> Answer:
        self._deployment(request)
        return self._none(request)

    def _render(self, document: Document, base_url: str) -> dict[str, Any]:
        group = document.id.split("/")[4]
        body, host = document.body, base_url.removeprefix("https://")
        resources = f"{self._arm.group_id(group)}/providers"
        properties = {
            "friendlyName": document.name,
            "description": "",
            "publicNetworkAccess": "Enabled",
            "hbiWorkspace": False,
            "v1LegacyMode": False,
            **body["properties"],
            "storageAccount": storage_id(self._arm, group),
            "keyVault": f"{resources}/Microsoft.KeyVault/vaults/emulator",
            "applicationInsights": f"{resources}/Microsoft.Insights/components/emulator",
            "containerRegistry": f"{resources}/Microsoft.ContainerRegistry/registries/{REGISTRY}"
            if body.get("registry", True)
            else None,
            "provisioningState": "Succeeded",
            "discoveryUrl": f"{base_url}/discovery/workspaces/{body['workspaceId']}",
            "mlFlowTrackingUri": f"azureml://{host}/mlflow/v1.0{document.id}",
            "workspaceId": body["workspaceId"],
            "tenantId": self._arm.settings.tenant,
            "storageHnsEnabled": False,
            "privateLinkCount": 0,
        }
        properties = {name: value for name, value in properties.items() if value is not None}
        identity = {
            "type": "SystemAssigned",
            "principalId": self._arm.settings.principals[0].object_id,
            "tenantId": self._arm.settings.tenant,
        }
        return self._arm.envelope(
            document,
            KIND,
            properties,
            location=body["location"],
            tags=body["tags"],
            kind="Default",
            sku={"name": "Basic", "tier": "Basic"},
            identity=identity,
        )


def storage_id(arm: Arm, group: str) -> str:
    return f"{arm.group_id(group)}/providers/Microsoft.Storage/storageAccounts/{STORAGE_ACCOUNT}"


def author(request: Request) -> str:
    """Who asks, as `systemData` names applications."""
    return str(request.caller.get("appid", ""))


def _group(document: Document) -> dict[str, Any]:
    return {
        "id": document.id,
        "name": document.name,
        "type": "Microsoft.Resources/resourceGroups",
        "location": document.body["location"],
        "properties": {"provisioningState": "Succeeded"},
    }
