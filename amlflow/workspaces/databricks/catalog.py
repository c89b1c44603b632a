"""Models in Unity Catalog, whose names have three levels. What is read comes from the REST API that MLflow's client asks, files
and new versions go by that client: it asks for an address or a token that is good for one version."""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from amlflow.errors import AmlflowError, UsageError
from amlflow.journal.errors import Refused
from amlflow.workspaces.base import ModelVersion, RegisteredModel
from amlflow.workspaces.databricks.access import Access, quiet
from amlflow.workspaces.server.client import TAKEN, Client
from amlflow.workspaces.server.models import Models

SCHEME = "databricks-uc"
# What MLflow's client asks for at once.
_PAGE = 100
_LEVELS = re.compile(r"[^./:@\s]+\.[^./:@\s]+\.[^./:@\s]+")
# Unity Catalog has none of these in the key of a tag, and amlflow has a period in its own.
_FORBIDDEN = re.compile(r"[.,\-=/:]")
_OWN, _OWN_THERE = "amlflow.", "amlflow_"


def is_catalog_name(name: str) -> bool:
    return bool(_LEVELS.fullmatch(name))


class Catalog(Models):
    root = "unity-catalog/"

    def __init__(self, client: Client, workspace: str, access: Access) -> None:
        limits = replace(client.limits, models_page=_PAGE)
        super().__init__(type(client)(client.behind, client.shown, limits), workspace)
        self._access = access

    def get(self, name: str) -> RegisteredModel:
        """The catalog does not say which version is the latest: its versions do."""
        found = super().get(name)
        numbers = [int(item["version"]) for item in self._items(name)]
        return replace(found, latest_version=str(max(numbers)) if numbers else "")

    def versions(self, name: str) -> list[ModelVersion]:
        # A search leaves the tags out.
        numbers = sorted((int(item["version"]) for item in self._items(name)), reverse=True) if self._find(name) else []
        return self._client.each(lambda number: self.version(name, str(number)), numbers)

    def version(self, name: str, version: str) -> ModelVersion:
        found = super().version(name, version)
        return replace(found, tags={_said(key): value for key, value in found.tags.items()})

    def create(
        self, name: str, source: str, run_id: str, description: str, tags: Mapping[str, str], folder: Path
    ) -> ModelVersion:
        """A version of the files in the folder, which were logged as `source`. Raises `UsageError` for a model without a
        signature, and for tags that the catalog does not take."""
        kept = {_key(key): value for key, value in tags.items()}
        try:
            self._client.ask("POST", f"{self.root}registered-models/create", {"name": name})
            is_new = True
        except Refused as error:
            if error.code not in (TAKEN, "ALREADY_EXISTS"):
                raise self._client.refused(error) from error
            is_new = False
        try:
            made = self._made_by_mlflow(name, source, run_id, description, kept, folder)
        except BaseException:
            if is_new:
                with contextlib.suppress(AmlflowError):
                    self.delete(name, "")
            raise
        return self.version(name, made)

    def repository(self, location: str) -> Any:
        """MLflow's repository of a version."""
        from mlflow.store.artifact.unity_catalog_models_artifact_repo import UnityCatalogModelsArtifactRepository
        from mlflow.tracking._tracking_service.utils import _use_tracking_uri

        quiet()
        # It makes a client of whatever tracks runs, which would be a new database in the current folder.
        with _use_tracking_uri(self._uri("databricks")):
            return UnityCatalogModelsArtifactRepository(location, registry_uri=self._uri(SCHEME))

    def stored_at(self, location: str) -> str:
        """What tells the files of a version from those of a deleted one that had its number."""
        name, _, version = location.removeprefix("models:/").rpartition("/")
        return f"{location} {self.version_location(name, version)} {self.version(name, version).created_ms}"

    def _made_by_mlflow(
        self, name: str, source: str, run_id: str, description: str, tags: Mapping[str, str], folder: Path
    ) -> str:
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException
        from mlflow.tracking._tracking_service.utils import _use_tracking_uri

        quiet()
        # A model of a folder has no run, and MLflow warns that it has none.
        logging.getLogger("mlflow.store._unity_catalog").setLevel(logging.ERROR)
        model_id = source.removeprefix("models:/") if source.startswith("models:/m-") else None
        tracking = self._uri("databricks")
        client: Any = MlflowClient(tracking_uri=tracking, registry_uri=self._uri(SCHEME))
        try:
            with _use_tracking_uri(tracking):
                made = client._create_model_version(
                    name,
                    source,
                    run_id or None,
                    tags,
                    description=description or None,
                    local_model_path=str(folder),
                    model_id=model_id,
                )
        except MlflowException as error:
            raise _explained(name, error) from error
        return str(made.version)

    def _uri(self, scheme: str) -> str:
        return f"{scheme}://{self._access.profile}" if self._access.profile else scheme

    def _location(self, item: Mapping[str, Any]) -> str:
        return f"models:/{item['name']}/{item['version']}"


def _said(key: str) -> str:
    return f"{_OWN}{key.removeprefix(_OWN_THERE)}" if key.startswith(_OWN_THERE) else key


def _key(key: str) -> str:
    there = f"{_OWN_THERE}{key.removeprefix(_OWN)}" if key.startswith(_OWN) else key
    if _FORBIDDEN.search(there):
        raise UsageError(
            f"{key!r} cannot be the key of a tag in Unity Catalog.",
            "It has none of the characters . , - = / and colon.",
        )
    return there


def _explained(name: str, error: Exception) -> AmlflowError:
    said = " ".join(str(error).split())
    if "signature" in said:
        return UsageError(
            f"Unity Catalog takes no model for {name!r} whose signature does not name both its inputs and its outputs.",
            "Log it with `signature=mlflow.models.infer_signature(X, model.predict(X))`.",
        )
    return AmlflowError(f"A version of {name!r} cannot be made in Unity Catalog: {said[:500].rstrip('.')}.")
