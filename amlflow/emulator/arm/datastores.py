"""Datastores: names for containers, with the secrets that open them."""

from __future__ import annotations

from typing import Any

from amlflow.emulator.arm.resources import WORKSPACE_PATTERN, Arm, body_properties, check_name, page
from amlflow.emulator.arm.workspaces import author
from amlflow.emulator.blobs import Blobs
from amlflow.emulator.settings import STORAGE_ACCOUNT
from amlflow.emulator.store import Document
from amlflow.emulator.web import Answer, Request, Route, ServiceError, service_error

KIND = "workspaces/datastores"
DEFAULT, ARTIFACTS = "workspaceblobstore", "workspaceartifactstore"
_DATASTORES = f"{WORKSPACE_PATTERN}/datastores"
_DATASTORE = f"{_DATASTORES}/{{datastore}}"
_TYPES = ("AzureBlob", "AzureFile", "AzureDataLakeGen1", "AzureDataLakeGen2", "OneLake")
_SAS_S = 3600


class Datastores:
    def __init__(self, arm: Arm, blobs: Blobs) -> None:
        self._arm, self._blobs = arm, blobs

    def routes(self) -> list[Route]:
        return [
            Route("GET", _DATASTORES, self._list),
            Route("GET", _DATASTORE, self._get),
            Route("PUT", _DATASTORE, self._put),
            Route("DELETE", _DATASTORE, self._delete),
            Route("POST", f"{_DATASTORE}/listSecrets", self._secrets),
        ]

    def find(self, workspace: Document, name: str) -> Document:
        """The datastore; the workspace's own two are there from the start. Raises the service's refusal."""
        id = f"{workspace.id}/datastores/{name}"
        found = self._arm.store.get(id)
        if found is None and name.lower() in (DEFAULT, ARTIFACTS):
            found = self._arm.store.put(id, own(workspace, name.lower()))[0]
            if self._blobs.running:
                self._blobs.ensure_container(found.body["containerName"])
        if found is None:
            raise _missing(name)
        return found

    def container(self, workspace: Document, name: str) -> str:
        """The container behind the datastore, made if it is not there."""
        found: str = self.find(workspace, name).body["containerName"]
        self._blobs.ensure_container(found)
        return found

    def _list(self, request: Request) -> Answer:
        workspace = self._arm.workspace(request)
        for name in (ARTIFACTS, DEFAULT):
            self.find(workspace, name)
        found = self._arm.store.children(f"{workspace.id}/datastores")
        names = [name for name in request.query.get("names", "").split(",") if name]
        if request.query.get("isDefault", "").lower() == "true":
            found = [item for item in found if item.body.get("isDefault")]
        if names:
            found = [item for item in found if item.name in names]
        if "searchText" in request.query:
            found = [item for item in found if request.query["searchText"] in item.name]
        if request.query.get("orderByAsc", "").lower() == "true":
            found = found[::-1]
        return page(request, found, self._render)

    def _get(self, request: Request) -> Answer:
        return Answer(content=self._render(self._find(request)))

    def _put(self, request: Request) -> Answer:
        workspace, name = self._arm.workspace(request), request.values["datastore"]
        check_name(name, r"[a-zA-Z0-9][a-zA-Z0-9_]{0,254}", "Datastore")
        _, properties = body_properties(request)
        if properties.get("datastoreType") not in _TYPES:
            text = f"The datastore type '{properties.get('datastoreType')}' is not one of {', '.join(_TYPES)}."
            raise service_error(400, text, inner=("BadArgument", "ArgumentInvalid"))
        if not properties.get("credentials", {}).get("credentialsType"):
            raise service_error(
                400, "The property 'credentials' is missing.", inner=("BadArgument", "ArgumentBlankOrEmpty")
            )
        content = {key: value for key, value in properties.items() if value is not None}
        made, new = self._arm.store.put(f"{workspace.id}/datastores/{name}", content, author(request))
        if made.body.get("accountName") == STORAGE_ACCOUNT and made.body.get("containerName"):
            self._blobs.ensure_container(made.body["containerName"])
        return Answer(201 if new else 200, self._render(made))

    def _delete(self, request: Request) -> Answer:
        workspace, name = self._arm.workspace(request), request.values["datastore"]
        if name.lower() in (DEFAULT, ARTIFACTS):
            text = f"The datastore '{name}' is a system datastore of the workspace and cannot be deleted."
            raise service_error(400, text, inner=("BadArgument",))
        return Answer(200 if self._arm.store.delete(f"{workspace.id}/datastores/{name}") else 204)

    def _secrets(self, request: Request) -> Answer:
        found = self._find(request)
        credentials = found.body["credentials"]
        kind, own_account = credentials["credentialsType"], found.body.get("accountName") == STORAGE_ACCOUNT
        if request.json().get("expirableSecret") and own_account and kind == "AccountKey":
            container = self.container(self._arm.workspace(request), found.name)
            return Answer(
                content={"secretsType": "Sas", "sasToken": self._blobs.container_sas(container, lifetime_s=_SAS_S)}
            )
        secrets = dict(credentials.get("secrets") or {})
        if kind == "AccountKey" and own_account:
            secrets = {"secretsType": "AccountKey", "key": self._arm.settings.storage_key}
        if not secrets:
            text = f"The datastore '{found.name}' has no secrets: it is reached by the identity of its user."
            raise service_error(400, text, inner=("BadArgument",))
        return Answer(content=secrets)

    def _find(self, request: Request) -> Document:
        return self.find(self._arm.workspace(request), request.values["datastore"])

    def _render(self, document: Document) -> dict[str, Any]:
        properties = {**document.body, "isDefault": bool(document.body.get("isDefault"))}
        properties["credentials"] = {
            name: value for name, value in properties["credentials"].items() if name != "secrets"
        }
        if properties.get("accountName") == STORAGE_ACCOUNT:
            properties["endpoint"] = self._arm.settings.storage_suffix
        return self._arm.envelope(document, KIND, properties)


def own(workspace: Document, name: str) -> dict[str, Any]:
    """The workspace's own datastore of that name."""
    identifier = workspace.body["workspaceId"]
    return {
        "datastoreType": "AzureBlob",
        "accountName": STORAGE_ACCOUNT,
        "containerName": f"azureml-blobstore-{identifier}" if name == DEFAULT else f"azureml-{identifier}",
        "protocol": "https",
        "credentials": {"credentialsType": "AccountKey"},
        "isDefault": name == DEFAULT,
        "serviceDataAccessAuthIdentity": "None",
        "description": "",
        "tags": {},
        "properties": {},
    }


def _missing(name: str) -> ServiceError:
    return service_error(404, f"Could not find datastore: {name}", inner=("NotFoundError", "DatastoreNotFound"))
