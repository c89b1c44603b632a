"""The two registries of a Databricks workspace: its own, and Unity Catalog for names of three levels.

MLflow 3 takes Unity Catalog where MLFLOW_REGISTRY_URI names none. A name that cannot be one of its models is the workspace's own
here; the variable chooses one of the two for all names.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from amlflow.errors import AmlflowError, NotFound, NotSupported, UsageError
from amlflow.workspaces.base import ModelVersion, RegisteredModel
from amlflow.workspaces.databricks.access import Access
from amlflow.workspaces.databricks.catalog import SCHEME, Catalog, is_catalog_name
from amlflow.workspaces.server.client import Client
from amlflow.workspaces.server.models import Models

_VARIABLE = "MLFLOW_REGISTRY_URI"
_OWN = "databricks"


class Registries(Models):
    """What it inherits is the workspace's own registry."""

    def __init__(self, client: Client, workspace: str, access: Access) -> None:
        super().__init__(client, workspace)
        self.catalog = Catalog(client, workspace, access)
        self._access = access

    def in_catalog(self, name: str) -> bool:
        """Raises `UsageError` for a name that the chosen registry cannot have."""
        chosen = self._chosen()
        if chosen == SCHEME and not is_catalog_name(name):
            raise UsageError(
                f"{name!r} names no model of Unity Catalog, which {_VARIABLE} chooses.",
                f"Write CATALOG.SCHEMA.MODEL, or set {_VARIABLE}={_OWN} for the workspace's own registry.",
            )
        return chosen != _OWN and is_catalog_name(name)

    def all(self) -> list[RegisteredModel]:
        """Of both, where none is chosen and there are both. The catalog's list has neither aliases nor latest versions."""
        chosen = self._chosen()
        asked = [read for scheme, read in ((_OWN, super().all), (SCHEME, self.catalog.all)) if chosen in ("", scheme)]
        found: list[RegisteredModel] = []
        refused: list[AmlflowError] = []
        for read in asked:
            try:
                found += read()
            except (UsageError, NotFound, NotSupported) as error:
                # A workspace without a metastore, or one that has turned its own registry off.
                refused.append(error)
        if len(refused) == len(asked):
            raise refused[0]
        return sorted(found, key=lambda model: model.name)

    def get(self, name: str) -> RegisteredModel:
        return self.catalog.get(name) if self.in_catalog(name) else super().get(name)

    def versions(self, name: str) -> list[ModelVersion]:
        return self.catalog.versions(name) if self.in_catalog(name) else super().versions(name)

    def version(self, name: str, version: str) -> ModelVersion:
        return self.catalog.version(name, version) if self.in_catalog(name) else super().version(name, version)

    def create_version(
        self, name: str, source: str, run_id: str, description: str, tags: Mapping[str, str]
    ) -> ModelVersion:
        if self.in_catalog(name):
            raise NotSupported(f"A version of {name!r} is made of files.", "Give the folder that has them.")
        return super().create_version(name, source, run_id, description, tags)

    def set_alias(self, name: str, alias: str, version: str) -> bool:
        of = self.catalog.set_alias if self.in_catalog(name) else super().set_alias
        return of(name, alias, version)

    def delete_alias(self, name: str, alias: str) -> None:
        of = self.catalog.delete_alias if self.in_catalog(name) else super().delete_alias
        of(name, alias)

    def delete(self, name: str, version: str) -> None:
        of = self.catalog.delete if self.in_catalog(name) else super().delete
        of(name, version)

    def _chosen(self) -> str:
        """The scheme of the registry that was chosen; empty for none. Raises `UsageError` for one of another workspace."""
        scheme, _, profile = os.environ.get(_VARIABLE, "").partition("://")
        if scheme not in (_OWN, SCHEME):
            return ""
        if profile and profile != self._access.profile:
            raise UsageError(
                f"{_VARIABLE} names the profile {profile!r}, and the workspace in use is that of "
                f"{f'the profile {self._access.profile!r}' if self._access.profile else 'DATABRICKS_HOST'}.",
                f"`export {_VARIABLE}={scheme}`, or use `-w databricks://{profile}`.",
            )
        return scheme
