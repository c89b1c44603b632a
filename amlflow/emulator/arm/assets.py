"""Versioned assets: code, environments and data. Each kind has containers, and versions below them."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from amlflow.emulator.arm.datastores import DEFAULT
from amlflow.emulator.arm.resources import (
    WORKSPACE_PATTERN,
    Arm,
    body_properties,
    check_name,
    page,
)
from amlflow.emulator.arm.workspaces import author, storage_id
from amlflow.emulator.blobs import ALL, Blobs
from amlflow.emulator.store import Document
from amlflow.emulator.web import Answer, Request, Route, ServiceError, service_error

NAME = r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,254}"


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of asset. `fixed` are the properties that a version keeps for ever; `required` those that it must have."""

    collection: str
    title: str
    fixed: tuple[str, ...]
    required: tuple[str, ...] = ()


CODE = Kind("codes", "Code", ("codeUri",), ("codeUri",))
ENVIRONMENT = Kind("environments", "Environment", ("condaFile", "image", "build"))
DATA = Kind("data", "Data", ("dataUri", "dataType"), ("dataUri", "dataType"))


class Assets:
    """One kind of them."""

    def __init__(self, arm: Arm, kind: Kind) -> None:
        self._arm, self._kind = arm, kind
        self._type = f"workspaces/{kind.collection}"

    def routes(self) -> list[Route]:
        containers = f"{WORKSPACE_PATTERN}/{self._kind.collection}"
        versions = f"{containers}/{{name}}/versions"
        return [
            Route("GET", containers, self._list),
            Route("GET", f"{containers}/{{name}}", self._get),
            Route("PUT", f"{containers}/{{name}}", self._put),
            Route("DELETE", f"{containers}/{{name}}", self._delete),
            Route("GET", versions, self._list_versions),
            Route("GET", f"{versions}/{{version}}", self._get_version),
            Route("PUT", f"{versions}/{{version}}", self._put_version),
            Route("DELETE", f"{versions}/{{version}}", self._delete_version),
        ]

    def find_version(self, workspace: Document, name: str, version: str) -> Document:
        """The version, or the latest for «latest». Raises the service's refusal."""
        id = f"{workspace.id}/{self._kind.collection}/{name}"
        if version == "latest":
            found = next(iter(self._arm.store.children(f"{id}/versions")), None)
        else:
            found = self._arm.store.get(f"{id}/versions/{version}")
        if found is None:
            raise self._missing(f"{name}:{version}")
        return found

    def _list(self, request: Request) -> Answer:
        found = self._arm.store.children(f"{self._arm.workspace(request).id}/{self._kind.collection}")
        return page(request, viewed(request, found), self._render)

    def _get(self, request: Request) -> Answer:
        return Answer(content=self._render(self._container(request)))

    def _put(self, request: Request) -> Answer:
        workspace, name = self._arm.workspace(request), request.values["name"]
        check_name(name, NAME, self._kind.title)
        _, properties = body_properties(request)
        made, new = self._arm.store.put(
            f"{workspace.id}/{self._kind.collection}/{name}", described(properties), author(request)
        )
        return Answer(201 if new else 200, self._render(made))

    def _delete(self, request: Request) -> Answer:
        self._arm.workspace(request)
        return Answer(200 if self._arm.store.delete(self._container_id(request)) else 204)

    def _list_versions(self, request: Request) -> Answer:
        found = self._arm.store.children(f"{self._container(request).id}/versions")
        wanted = request.query.get("hash")
        if wanted:
            version = request.query.get("hashVersion", "")
            found = [item for item in found if _hash(item.body) == (wanted, version)]
        if request.query.get("$orderBy", "").lower().endswith(" asc"):
            found = found[::-1]
        return page(request, viewed(request, found), self._render_version)

    def _get_version(self, request: Request) -> Answer:
        found = self.find_version(self._arm.workspace(request), request.values["name"], request.values["version"])
        return Answer(content=self._render_version(found))

    def _put_version(self, request: Request) -> Answer:
        workspace, name, version = self._arm.workspace(request), request.values["name"], request.values["version"]
        check_name(name, NAME, self._kind.title)
        _, properties = body_properties(request)
        for key in self._kind.required:
            if not properties.get(key):
                raise service_error(
                    400, f"The property '{key}' is missing.", inner=("BadArgument", "ArgumentBlankOrEmpty")
                )
        container = f"{workspace.id}/{self._kind.collection}/{name}"
        with self._arm.store.undisturbed():
            if self._arm.store.get(container) is None:
                self._arm.store.put(container, described({}), author(request))
            before = self._arm.store.get(f"{container}/versions/{version}")
            content = {key: value for key, value in properties.items() if value is not None}
            content |= {key: _texts(content[key]) for key in ("properties", "tags") if key in content}
            if before is not None:
                self._check_unchanged(before, content)
            made, new = self._arm.store.put(f"{container}/versions/{version}", content, author(request))
        return Answer(201 if new else 200, self._render_version(made))

    def _delete_version(self, request: Request) -> Answer:
        id = f"{self._container(request).id}/versions/{request.values['version']}"
        return Answer(200 if self._arm.store.delete(id) else 204)

    def _check_unchanged(self, before: Document, content: Mapping[str, Any]) -> None:
        for key in self._kind.fixed:
            if before.body.get(key) != content.get(key):
                text = (
                    f"The {self._kind.title.lower()} version '{before.id.split('/')[-3]}:{before.name}' exists already, and its "
                    f"'{key}' cannot be changed. Register a new version."
                )
                raise service_error(409, text, inner=("Conflict", "ImmutablePropertyChanged"))

    def _container_id(self, request: Request) -> str:
        return f"{self._arm.workspace_id(request)}/{self._kind.collection}/{request.values['name']}"

    def _container(self, request: Request) -> Document:
        self._arm.workspace(request)
        found = self._arm.store.get(self._container_id(request))
        if found is None:
            raise self._missing(request.values["name"])
        return found

    def _missing(self, name: str) -> ServiceError:
        text = f"{self._kind.title} asset with identifier {name} was not found in the workspace."
        return service_error(404, text, inner=("NotFoundError", f"{self._kind.title}NotFound"))

    def _render(self, document: Document) -> dict[str, Any]:
        versions = self._arm.store.children(f"{document.id}/versions")
        latest = versions[0].name if versions else None
        numbers = [int(item.name) for item in versions if item.name.isdigit()]
        properties = {
            **document.body,
            "isArchived": bool(document.body.get("isArchived")),
            "nextVersion": str(max(numbers, default=0) + 1),
            "provisioningState": "Succeeded",
            **({"latestVersion": latest} if latest else {}),
        }
        if self._kind is DATA:
            properties["dataType"] = versions[0].body["dataType"] if versions else "uri_folder"
            del properties["provisioningState"]
        return self._arm.envelope(document, self._type, properties)

    def _render_version(self, document: Document) -> dict[str, Any]:
        body = document.body
        properties = {
            "description": "",
            "tags": {},
            "properties": {},
            "isAnonymous": False,
            "isArchived": False,
            **body,
            "provisioningState": "Succeeded",
        }
        if self._kind is ENVIRONMENT:
            properties["environmentType"] = "UserCreated"
            properties.setdefault("osType", "Linux")
        if self._kind is DATA:
            del properties["provisioningState"]
        return self._arm.envelope(document, f"{self._type}/versions", properties)


class Codes(Assets):
    """Code has a way of its own to get its files in: a container for one upload, with a signed address."""

    def __init__(self, arm: Arm, blobs: Blobs) -> None:
        super().__init__(arm, CODE)
        self._blobs = blobs

    def routes(self) -> list[Route]:
        upload = f"{WORKSPACE_PATTERN}/codes/{{name}}/versions/{{version}}/startPendingUpload"
        return [*super().routes(), Route("POST", upload, pending_upload(self._arm, self._blobs))]

    def _list_versions(self, request: Request) -> Answer:
        workspace = self._arm.workspace(request)
        if request.query.get("hash") or self._arm.store.get(self._container_id(request)) is None:
            return self._same_content(request, workspace)
        return super()._list_versions(request)

    def _same_content(self, request: Request, workspace: Document) -> Answer:
        """By the hash of its content, code is found under whatever name it has: what is unchanged is not sent again."""
        wanted = (request.query.get("hash", ""), request.query.get("hashVersion", ""))
        store = self._arm.store
        found = [
            version
            for container in store.children(f"{workspace.id}/codes")
            for version in store.children(f"{container.id}/versions")
            if wanted[0] and _hash(version.body) == wanted
        ]
        return page(request, found, self._render_version)


def pending_upload(arm: Arm, blobs: Blobs) -> Callable[[Request], Answer]:
    """The handler that hands out a container for the files of one version."""

    def start(request: Request) -> Answer:
        workspace = arm.workspace(request)
        kind = request.json().get("pendingUploadType", "TemporaryBlobReference")
        upload = str(uuid.uuid4())
        key = f"{workspace.body['workspaceId']}/{upload}"
        container = f"{upload[:8]}-{hashlib.sha256(key.encode()).hexdigest()[:32]}"
        blobs.ensure_container(container)
        url = blobs.container_url(container)
        content = {
            "pendingUploadId": upload,
            "pendingUploadType": kind,
            "blobReferenceForConsumption": {
                "blobUri": url,
                "storageAccountArmId": storage_id(arm, request.values["group"]),
                "credential": {"credentialType": "SAS", "sasUri": f"{url}?{blobs.container_sas(container, ALL)}"},
            },
        }
        return Answer(content=content)

    return start


def viewed(request: Request, found: list[Document]) -> list[Document]:
    """Those that the request's `listViewType` shows."""
    view = request.query.get("listViewType", "ActiveOnly").lower()
    if view == "all":
        return found
    return [item for item in found if bool(item.body.get("isArchived")) == (view == "archivedonly")]


def described(properties: Mapping[str, Any]) -> dict[str, Any]:
    """What a container keeps of a request."""
    return {
        "description": properties.get("description") or "",
        "tags": properties.get("tags") or {},
        "properties": properties.get("properties") or {},
        "isArchived": bool(properties.get("isArchived")),
    }


def datastore_uri(workspace: Document, path: str, datastore: str = DEFAULT) -> str:
    """The long form of a datastore path."""
    parts = workspace.id.split("/")
    return (
        f"azureml://subscriptions/{parts[2]}/resourcegroups/{parts[4]}/workspaces/{workspace.name}/datastores/{datastore}/paths/"
        f"{path.lstrip('/')}"
    )


def _texts(values: Mapping[str, Any]) -> dict[str, str]:
    """The service keeps texts, whatever it is sent."""
    return {str(key): str(value) for key, value in values.items() if value is not None}


def _hash(body: Mapping[str, Any]) -> tuple[str, str]:
    properties = body.get("properties") or {}
    return str(properties.get("hash_sha256", "")), str(properties.get("hash_version", ""))
