"""MLflow's registry in Unity Catalog, as MLflow's client (`mlflow.store._unity_catalog`) asks for it. The files of a version are
those of the Files API: in a metastore with default storage they go to signed addresses, else by the SDK, where the workspace says
so. The clouds' own storage, with temporary credentials, is not here."""

from __future__ import annotations

import json
import re
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qsl

from databricks_files import Files, Refusal
from servers import send

_ROOT = "/api/2.0/mlflow/unity-catalog/"
_SDK = "registered-models:is-databricks-sdk-models-artifact-repository-enabled"
_NAME = re.compile(r"[^./:@\s]+\.[^./:@\s]+\.[^./:@\s]+")
_ALIAS = re.compile(r"(?!v?\d+$|latest$)[A-Za-z0-9_-]+", re.IGNORECASE)
_TAG = re.compile(r"[^.,\-=/:]{1,255}")
_MOST_TAGS, _MOST_VALUE = 50, 1000


@dataclass
class Catalog:
    """`schemas` are those that there are; `by_sdk` whether the workspace has its clients send files by the SDK."""

    files: Files
    schemas: set[str] = field(default_factory=lambda: {"main.default"})
    by_sdk: bool = False
    models: dict[str, dict[str, Any]] = field(default_factory=dict)
    versions: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    lock: threading.RLock = field(default_factory=threading.RLock)

    def answer(self, request: BaseHTTPRequestHandler, path: str, query: str, body: bytes) -> bool:
        """Whether it was for this registry."""
        if not path.startswith(_ROOT):
            return False
        given = {**dict(parse_qsl(query)), **(json.loads(body) if body else {})}
        routes = {
            f"GET {_SDK}": lambda _given: {"is_databricks_sdk_models_artifact_repository_enabled": self.by_sdk},
            "POST registered-models/create": self._create,
            "GET registered-models/get": lambda given: {"registered_model": self._model(given)},
            "GET registered-models/search": self._search,
            "DELETE registered-models/delete": self._delete,
            "POST registered-models/alias": self._set_alias,
            "DELETE registered-models/alias": self._delete_alias,
            "GET registered-models/alias": self._by_alias,
            "POST model-versions/create": self._create_version,
            "GET model-versions/get": lambda given: {"model_version": self._version(given)},
            "GET model-versions/search": self._search_versions,
            "DELETE model-versions/delete": self._delete_version,
            "POST model-versions/generate-temporary-credentials": self._credentials,
            "POST model-versions/finalize": self._finalize,
            "POST model-versions/emit-lineage": lambda _given: {},
            "GET model-versions/get-download-uri": lambda given: {
                "artifact_uri": self._version(given)["storage_location"]
            },
        }
        handler = routes.get(f"{request.command} {path.removeprefix(_ROOT)}")
        try:
            if handler is None:
                raise Refusal(404, "ENDPOINT_NOT_FOUND", f"No API found for '{request.command} {path}'")
            with self.lock:
                content = handler(given)
            send(request, 200, json.dumps(content).encode())
        except Refusal as refusal:
            error = {"error_code": refusal.code, "message": str(refusal)}
            send(request, refusal.status, json.dumps(error).encode())
        return True

    def _create(self, given: dict[str, Any]) -> dict[str, Any]:
        name = self._named(given)
        if name in self.models:
            raise Refusal(409, "RESOURCE_ALREADY_EXISTS", f"Routine or Model '{name}' already exists.")
        _check_tags(given)
        now = int(time.time() * 1000)
        self.models[name] = {
            "name": name,
            "description": given.get("description", ""),
            "creation_timestamp": now,
            "last_updated_timestamp": now,
            "tags": given.get("tags", []),
            "aliases": [],
        }
        return {"registered_model": self.models[name]}

    def _search(self, given: dict[str, Any]) -> dict[str, Any]:
        if set(given) - {"max_results", "page_token"}:
            raise Refusal(400, "INVALID_PARAMETER_VALUE", "Models of Unity Catalog have no filter and no order.")
        shown = [_without(model, "tags", "aliases") for _, model in sorted(self.models.items())]
        return _page(given, "registered_models", shown)

    def _delete(self, given: dict[str, Any]) -> dict[str, Any]:
        name = self._model(given)["name"]
        for key in [key for key in self.versions if key[0] == name]:
            self._delete_version({"name": name, "version": key[1]})
        del self.models[name]
        return {}

    def _set_alias(self, given: dict[str, Any]) -> dict[str, Any]:
        model, version = self._model(given), self._version(given)
        if not _ALIAS.fullmatch(given["alias"]):
            raise Refusal(400, "INVALID_PARAMETER_VALUE", f"'{given['alias']}' is no alias.")
        kept = [item for item in model["aliases"] if item["alias"] != given["alias"]]
        model["aliases"] = [*kept, {"alias": given["alias"], "version": version["version"]}]
        return {}

    def _delete_alias(self, given: dict[str, Any]) -> dict[str, Any]:
        model = self._model(given)
        model["aliases"] = [item for item in model["aliases"] if item["alias"] != given["alias"]]
        return {}

    def _by_alias(self, given: dict[str, Any]) -> dict[str, Any]:
        for item in self._model(given)["aliases"]:
            if item["alias"] == given["alias"]:
                return {"model_version": self.versions[given["name"], item["version"]]}
        raise Refusal(404, "RESOURCE_DOES_NOT_EXIST", f"Alias '{given['alias']}' does not exist.")

    def _create_version(self, given: dict[str, Any]) -> dict[str, Any]:
        name = self._model(given)["name"]
        _check_tags(given)
        number = str(1 + max((int(version) for owner, version in self.versions if owner == name), default=0))
        now = int(time.time() * 1000)
        self.versions[name, number] = {
            "name": name,
            "version": number,
            "creation_timestamp": now,
            "last_updated_timestamp": now,
            "status": "PENDING_REGISTRATION",
            "storage_location": f"s3://metastore/models/{now}/{number}",
            "tags": given.get("tags", []),
            **{key: given[key] for key in ("source", "run_id", "description", "model_id") if given.get(key)},
        }
        self.files.roots.add(_folder(name, number))
        return {"model_version": self.versions[name, number]}

    def _search_versions(self, given: dict[str, Any]) -> dict[str, Any]:
        match = re.fullmatch(r"(name|run_id)\s*=\s*'([^']*)'", given.get("filter", ""))
        if match is None or "order_by" in given:
            raise Refusal(400, "INVALID_PARAMETER_VALUE", f"Unsupported filter query: {given.get('filter')}")
        found = [item for item in self.versions.values() if item.get(match[1]) == match[2]]
        return _page(given, "model_versions", [_without(item, "tags", "aliases") for item in found])

    def _delete_version(self, given: dict[str, Any]) -> dict[str, Any]:
        version = self._version(given)
        model = self._model(given)
        model["aliases"] = [item for item in model["aliases"] if item["version"] != version["version"]]
        del self.versions[version["name"], version["version"]]
        self.files.remove(_folder(version["name"], version["version"]))
        return {}

    def _credentials(self, given: dict[str, Any]) -> dict[str, Any]:
        writes = given["operation"] == "MODEL_VERSION_OPERATION_READ_WRITE"
        if writes != (self._version(given)["status"] == "PENDING_REGISTRATION"):
            raise Refusal(400, "INVALID_STATE", "A version is written before it is ready, and read from then on.")
        expires = int(time.time() * 1000) + 3_600_000
        return {"credentials": {"expiration_time": expires, "storage_mode": "DEFAULT_STORAGE"}}

    def _finalize(self, given: dict[str, Any]) -> dict[str, Any]:
        version = self._version(given)
        if not (self.files.place(_folder(version["name"], version["version"])) / "MLmodel").is_file():
            raise Refusal(400, "INVALID_PARAMETER_VALUE", "The version has no MLmodel file.")
        version["status"] = "READY"
        return {"model_version": version}

    def _model(self, given: dict[str, Any]) -> dict[str, Any]:
        name = self._named(given)
        if name not in self.models:
            raise Refusal(404, "RESOURCE_DOES_NOT_EXIST", f"Routine or Model '{name}' does not exist.")
        return self.models[name]

    def _version(self, given: dict[str, Any]) -> dict[str, Any]:
        key = (self._model(given)["name"], str(given["version"]))
        if key not in self.versions:
            raise Refusal(404, "RESOURCE_DOES_NOT_EXIST", f"Model version {key[1]} of '{key[0]}' does not exist.")
        return self.versions[key]

    def _named(self, given: dict[str, Any]) -> str:
        name = str(given.get("name", ""))
        if not _NAME.fullmatch(name):
            raise Refusal(
                400,
                "INVALID_PARAMETER_VALUE",
                f"The name '{name}' does not specify all three levels: catalog.schema.model.",
            )
        if name.rpartition(".")[0] not in self.schemas:
            raise Refusal(404, "RESOURCE_DOES_NOT_EXIST", f"Schema '{name.rpartition('.')[0]}' does not exist.")
        return name


def _folder(name: str, version: str) -> str:
    return f"/Models/{name.replace('.', '/')}/{version}"


def _check_tags(given: dict[str, Any]) -> None:
    tags = given.get("tags", [])
    if len(tags) > _MOST_TAGS or not all(
        _TAG.fullmatch(tag["key"]) and len(tag["value"]) <= _MOST_VALUE for tag in tags
    ):
        raise Refusal(400, "INVALID_PARAMETER_VALUE", "A tag's key has none of the characters . , - = / :")


def _page(given: dict[str, Any], key: str, found: list[dict[str, Any]]) -> dict[str, Any]:
    first, size = int(given.get("page_token") or 0), min(int(given.get("max_results") or 100), 2)
    more = {"next_page_token": str(first + size)} if first + size < len(found) else {}
    return {key: found[first : first + size], **more}


def _without(item: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in item.items() if key not in keys}
