"""Models: the same that MLflow's registry has, seen as resources."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from amlflow.emulator.arm.assets import NAME, described, pending_upload, viewed
from amlflow.emulator.arm.resources import WORKSPACE_PATTERN, Arm, body_properties, check_name, page
from amlflow.emulator.arm.workspaces import author
from amlflow.emulator.blobs import Blobs
from amlflow.emulator.places import Places
from amlflow.emulator.store import Document
from amlflow.emulator.tracking.plane import Tracking
from amlflow.emulator.web import Answer, Request, Route, ServiceError, service_error
from amlflow.errors import NotFound
from amlflow.workspaces.base import ModelVersion, RegisteredModel

KIND = "workspaces/models"
_MODELS = f"{WORKSPACE_PATTERN}/models"
_MODEL = f"{_MODELS}/{{name}}"
_VERSION = f"{_MODEL}/versions/{{version}}"
# What a version keeps beside the registry.
_EXTRAS = ("modelType", "flavors", "jobName", "isAnonymous", "isArchived", "properties", "stage")


class Models:
    """The registry holds names, versions, sources, tags and descriptions; the rest is in documents of the same ids."""

    def __init__(self, arm: Arm, blobs: Blobs, places: Places, tracking: Tracking) -> None:
        self._arm, self._blobs, self._places, self._tracking = arm, blobs, places, tracking

    def routes(self) -> list[Route]:
        return [
            Route("GET", _MODELS, self._list),
            Route("GET", _MODEL, self._get),
            Route("PUT", _MODEL, self._put),
            Route("DELETE", _MODEL, self._delete),
            Route("GET", f"{_MODEL}/versions", self._list_versions),
            Route("GET", _VERSION, self._get_version),
            Route("PUT", _VERSION, self._put_version),
            Route("DELETE", _VERSION, self._delete_version),
            Route("POST", f"{_VERSION}/startPendingUpload", pending_upload(self._arm, self._blobs)),
        ]

    def _list(self, request: Request) -> Answer:
        workspace = self._arm.workspace(request)
        found = sorted(self._places.of(workspace).list_models(), key=lambda model: -model.updated_ms)
        kept = [(self._document(workspace, model.name, model.created_ms, model.updated_ms), model) for model in found]
        shown = {item.id for item in viewed(request, [document for document, _ in kept])}
        return page(request, [pair for pair in kept if pair[0].id in shown], lambda pair: self._render(*pair))

    def _get(self, request: Request) -> Answer:
        return Answer(content=self._render(*self._find(request)))

    def _put(self, request: Request) -> Answer:
        workspace, name = self._arm.workspace(request), request.values["name"]
        check_name(name, NAME, "Model")
        _, properties = body_properties(request)
        new = self._ensure(workspace, name)
        self._arm.store.put(f"{workspace.id}/models/{name}", described(properties), author(request))
        return Answer(201 if new else 200, self._render(*self._find(request)))

    def _delete(self, request: Request) -> Answer:
        workspace, name = self._arm.workspace(request), request.values["name"]
        self._arm.store.delete(f"{workspace.id}/models/{name}")
        try:
            self._places.of(workspace).delete_model(name)
        except NotFound:
            return Answer(204)
        return Answer(200)

    def _list_versions(self, request: Request) -> Answer:
        workspace = self._arm.workspace(request)
        model = self._find(request)[1]
        found = self._places.of(workspace).list_model_versions(model.name)
        if request.query.get("$orderBy", "").lower().endswith(" asc"):
            found = found[::-1]
        if "version" in request.query:
            found = [item for item in found if item.version == request.query["version"]]
        for text in filter(None, request.query.get("tags", "").split(",")):
            key, _, value = text.partition("=")
            found = [item for item in found if key in item.tags and (not value or item.tags[key] == value)]
        kept = [(self._version_document(workspace, item), item) for item in found]
        shown = {item.id for item in viewed(request, [document for document, _ in kept])}
        return page(request, [pair for pair in kept if pair[0].id in shown], lambda pair: self._render_version(*pair))

    def _get_version(self, request: Request) -> Answer:
        return Answer(content=self._render_version(*self._find_version(request)))

    def _put_version(self, request: Request) -> Answer:
        workspace, name, version = self._arm.workspace(request), request.values["name"], request.values["version"]
        check_name(name, NAME, "Model")
        _, properties = body_properties(request)
        local = self._places.of(workspace)
        with self._arm.store.undisturbed():
            self._ensure(workspace, name)
            known = {item.version: item for item in local.list_model_versions(name)}
            following = str(max((int(number) for number in known), default=0) + 1)
            new = version not in known
            if new:
                if version != following:
                    text = f"The next version of the model '{name}' is {following}: the emulator numbers them without gaps."
                    raise service_error(400, text, inner=("BadArgument", "ArgumentInvalid"))
                self._register(workspace, name, properties)
            else:
                self._change(workspace, known[version], properties)
            extras = {key: properties[key] for key in _EXTRAS if properties.get(key) is not None}
            self._arm.store.put(f"{workspace.id}/models/{name}/versions/{version}", extras, author(request))
        return Answer(201 if new else 200, self._render_version(*self._find_version(request)))

    def _delete_version(self, request: Request) -> Answer:
        workspace, values = self._arm.workspace(request), request.values
        self._arm.store.delete(f"{workspace.id}/models/{values['name']}/versions/{values['version']}")
        try:
            self._places.of(workspace).delete_model(values["name"], values["version"])
        except NotFound:
            return Answer(204)
        return Answer(200)

    def _register(self, workspace: Document, name: str, properties: Mapping[str, Any]) -> None:
        if not properties.get("modelUri"):
            raise service_error(
                400, "The property 'modelUri' is missing.", inner=("BadArgument", "ArgumentBlankOrEmpty")
            )
        body = {
            "name": name,
            "source": properties["modelUri"],
            "description": properties.get("description") or "",
            "run_id": properties.get("jobName") or "",
            "tags": [{"key": key, "value": str(value)} for key, value in (properties.get("tags") or {}).items()],
        }
        self._tracking.rest(workspace).request("POST", "/api/2.0/mlflow/model-versions/create", body)

    def _change(self, workspace: Document, before: ModelVersion, properties: Mapping[str, Any]) -> None:
        uri = properties.get("modelUri")
        if uri and uri != before.source:
            text = f"The model version '{before.name}:{before.version}' exists already, and its 'modelUri' cannot be changed."
            raise service_error(409, text, inner=("Conflict", "ImmutablePropertyChanged"))
        rest, named = self._tracking.rest(workspace), {"name": before.name, "version": before.version}
        if properties.get("description") is not None:
            change = {**named, "description": properties["description"]}
            rest.request("PATCH", "/api/2.0/mlflow/model-versions/update", change)
        for key, value in (properties.get("tags") or {}).items():
            tag = {**named, "key": key, "value": str(value)}
            rest.request("POST", "/api/2.0/mlflow/model-versions/set-tag", tag)

    def _ensure(self, workspace: Document, name: str) -> bool:
        """Make the model where it is new, and say so."""
        try:
            self._places.of(workspace).get_model(name)
        except NotFound:
            self._tracking.rest(workspace).request("POST", "/api/2.0/mlflow/registered-models/create", {"name": name})
            return True
        return False

    def _find(self, request: Request) -> tuple[Document, RegisteredModel]:
        workspace, name = self._arm.workspace(request), request.values["name"]
        try:
            model = self._places.of(workspace).get_model(name)
        except NotFound as error:
            raise _missing(name) from error
        return self._document(workspace, name, model.created_ms, model.updated_ms), model

    def _find_version(self, request: Request) -> tuple[Document, ModelVersion]:
        workspace, values = self._arm.workspace(request), request.values
        try:
            version = self._places.of(workspace).get_model_version(values["name"], values["version"])
        except NotFound as error:
            raise _missing(f"{values['name']}:{values['version']}") from error
        return self._version_document(workspace, version), version

    def _document(self, workspace: Document, name: str, created_ms: int, updated_ms: int) -> Document:
        return self._kept(f"{workspace.id}/models/{name}", created_ms, updated_ms)

    def _version_document(self, workspace: Document, version: ModelVersion) -> Document:
        id = f"{workspace.id}/models/{version.name}/versions/{version.version}"
        return self._kept(id, version.created_ms, version.updated_ms)

    def _kept(self, id: str, created_ms: int, updated_ms: int) -> Document:
        found = self._arm.store.get(id)
        body = found.body if found else {}
        return Document(id, id.rpartition("/")[2], body, "", created_ms / 1000, updated_ms / 1000)

    def _render(self, document: Document, model: RegisteredModel) -> dict[str, Any]:
        latest = model.latest_version
        properties = {
            "properties": {},
            "isArchived": False,
            **document.body,
            "description": model.description or document.body.get("description") or "",
            "tags": {**document.body.get("tags", {}), **model.tags},
            "nextVersion": str(int(latest or 0) + 1),
            "provisioningState": "Succeeded",
            **({"latestVersion": latest} if latest else {}),
        }
        return self._arm.envelope(document, KIND, properties)

    def _render_version(self, document: Document, version: ModelVersion) -> dict[str, Any]:
        properties = {
            "properties": {},
            "isAnonymous": False,
            "isArchived": False,
            "modelType": "mlflow_model",
            "flavors": {},
            **({"jobName": version.run_id} if version.run_id else {}),
            **document.body,
            "description": version.description,
            "tags": dict(version.tags),
            "modelUri": version.source,
            "provisioningState": "Succeeded",
        }
        return self._arm.envelope(document, f"{KIND}/versions", properties)


def _missing(name: str) -> ServiceError:
    text = f"Model asset with identifier {name} was not found in the workspace."
    return service_error(404, text, inner=("NotFoundError", "ModelNotFound"))
