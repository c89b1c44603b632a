"""Registered models, their versions and aliases, and MLflow 3's logged models, of a service with MLflow's REST API."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from amlflow.errors import AmlflowError, NotFound
from amlflow.journal.errors import Refused
from amlflow.workspaces.base import LoggedModel, ModelVersion, RegisteredModel
from amlflow.workspaces.server.client import NOT_THERE, TAKEN, Client, named, pairs, quoted

_READY = ("LOGGED_MODEL_READY", "READY")
_LOGGED_PAGE = 50
# A registry without aliases keeps them as tags of the model, as the journal's registry does: this and the alias = version.
_ALIAS_TAG = "amlflow.alias."


class Models:
    # What stands before the routes of the registry.
    root = ""

    def __init__(self, client: Client, workspace: str) -> None:
        self._client, self._workspace = client, workspace

    def all(self) -> list[RegisteredModel]:
        """By name."""
        try:
            found = self._client.pages(
                "GET", f"{self.root}registered-models/search", {}, "registered_models", self._client.limits.models_page
            )
        except Refused as error:
            raise self._client.refused(error) from error
        return sorted((_registered(item) for item in found), key=lambda model: model.name)

    def get(self, name: str) -> RegisteredModel:
        """Raises `NotFound`, naming the nearest."""
        found = self._find(name)
        if found is None:
            raise NotFound(
                f"There is no registered model {name!r} in workspace {self._workspace!r}.",
                "`amlflow model list` shows them; `amlflow register` makes one.",
                name=name,
                known=[model.name for model in self.all()],
            )
        return found

    def versions(self, name: str) -> list[ModelVersion]:
        """Newest first; none for a model that does not exist."""
        model = self._find(name)
        if model is None:
            return []
        own = self._items(name)
        places = self._client.each(self._location, own)
        # A search leaves the aliases out.
        versions = [
            _version(item, place, _meaning(model, str(item["version"])))
            for item, place in zip(own, places, strict=True)
        ]
        return sorted(versions, key=lambda item: -int(item.version))

    def version(self, name: str, version: str) -> ModelVersion:
        """Raises `NotFound`."""
        missing = NotFound(f"The model {name!r} has no version {version!r}.")
        if not version.isdigit():
            raise missing
        # Of its aliases the version names those alone that the registry has as such.
        reads: list[Callable[[], Any]] = [lambda: self._item(name, version), lambda: self._find(name)]
        item, model = self._client.each(lambda read: read(), reads)
        if item is None or model is None:
            raise missing
        return _version(item, self._location(item), _meaning(model, version))

    def create_version(
        self, name: str, source: str, run_id: str, description: str, tags: Mapping[str, str]
    ) -> ModelVersion:
        """The model is made when it is new, and does not stay when its first version is refused."""
        try:
            self._client.ask("POST", f"{self.root}registered-models/create", {"name": name})
            is_new = True
        except Refused as error:
            if error.code != TAKEN:
                raise self._client.refused(error) from error
            is_new = False
        before = self._find(name)
        latest = int(before.latest_version or 0) if before else 0
        body: dict[str, Any] = {"name": name, "source": source, "tags": named(tags)}
        if run_id:
            body["run_id"] = run_id
        if description:
            body["description"] = description
        if source.startswith("models:/m-"):
            body["model_id"] = source.removeprefix("models:/")
        try:
            made = self._client.once(
                lambda: self._client.ask("POST", f"{self.root}model-versions/create", body, retry=False)[
                    "model_version"
                ],
                lambda: self._made(body, latest),
            )
        except Refused as error:
            if is_new:
                with contextlib.suppress(AmlflowError):
                    self.delete(name, "")
            raise self._client.refused(error) from error
        return self.version(name, str(made["version"]))

    def set_alias(self, name: str, alias: str, version: str) -> bool:
        """Whether the registry has aliases; one without is given a tag of the model."""
        if self._has_aliases("POST", {"name": name, "alias": alias, "version": version}):
            return True
        self.version(name, version)
        tag = {"name": name, "key": f"{_ALIAS_TAG}{alias}", "value": version}
        self._client.call("POST", f"{self.root}registered-models/set-tag", tag)
        return False

    def delete_alias(self, name: str, alias: str) -> None:
        self._has_aliases("DELETE", {"name": name, "alias": alias})
        # There may be one of a time when the registry had no aliases.
        model = self._find(name)
        if model is not None and alias in model.aliases:
            self._delete_alias_tag(name, alias)

    def delete(self, name: str, version: str) -> None:
        """One version, or the model with all of them."""
        if version:
            self._client.call("DELETE", f"{self.root}model-versions/delete", {"name": name, "version": version})
            model = self._find(name)
            for alias in _meaning(model, version) if model is not None else ():
                self._delete_alias_tag(name, alias)
        else:
            self._client.call("DELETE", f"{self.root}registered-models/delete", {"name": name})

    def logged(self, experiment_id: str, run_id: str) -> list[LoggedModel]:
        """The MLflow 3 models that the run logged and that are ready, oldest first; of one name the newest. None on a
        service that has no such thing."""
        try:
            found = self._client.pages(
                "POST",
                "logged-models/search",
                {"experiment_ids": [experiment_id], "filter": f"source_run_id = {quoted(run_id)}"},
                "models",
                _LOGGED_PAGE,
            )
        except Refused as error:
            if error.lacks_route:
                return []
            raise self._client.refused(error) from error
        models = [
            LoggedModel(
                str(info.get("name", "")),
                f"models:/{info['model_id']}",
                str(info.get("artifact_uri", "")),
                int(info.get("creation_timestamp_ms") or 0),
            )
            for info in (item["info"] for item in found)
            if info.get("status") in _READY and info.get("source_run_id") == run_id
        ]
        oldest = sorted(models, key=lambda model: model.created_ms)
        return list({model.name: model for model in oldest}.values())

    def logged_location(self, model_id: str) -> str:
        """Where the files of an MLflow 3 model are. Raises `NotFound`."""
        try:
            answer = self._client.ask("GET", f"logged-models/{model_id}")
        except Refused as error:
            if error.code == NOT_THERE or error.lacks_route:
                raise NotFound(f"There is no logged model {model_id!r}.") from error
            raise self._client.refused(error) from error
        return str(answer["model"]["info"]["artifact_uri"])

    def version_location(self, name: str, version: str) -> str:
        answer = self._client.call(
            "GET", f"{self.root}model-versions/get-download-uri", {"name": name, "version": version}
        )
        return str(answer.get("artifact_uri", ""))

    def _location(self, item: Mapping[str, Any]) -> str:
        source = str(item.get("source", ""))
        if not source.startswith("models:/"):
            return source
        return self.version_location(str(item["name"]), str(item["version"])) or source

    def _find(self, name: str) -> RegisteredModel | None:
        try:
            return _registered(
                self._client.ask("GET", f"{self.root}registered-models/get", {"name": name})["registered_model"]
            )
        except Refused as error:
            if error.code == NOT_THERE:
                return None
            raise self._client.refused(error) from error

    def _item(self, name: str, version: str) -> dict[str, Any] | None:
        try:
            answer = self._client.ask("GET", f"{self.root}model-versions/get", {"name": name, "version": version})
        except Refused as error:
            if error.code == NOT_THERE:
                return None
            raise self._client.refused(error) from error
        return dict(answer["model_version"])

    def _items(self, name: str) -> list[dict[str, Any]]:
        """The versions as a search shows them, without their aliases."""
        try:
            found = self._client.pages(
                "GET",
                f"{self.root}model-versions/search",
                {"filter": f"name = {quoted(name)}"},
                "model_versions",
                self._client.limits.versions_page,
            )
        except Refused as error:
            raise self._client.refused(error) from error
        # Some databases do not tell a from A in a name.
        return [item for item in found if item.get("name") == name]

    def _made(self, body: Mapping[str, Any], latest: int) -> dict[str, Any] | None:
        """The version that an earlier attempt with this body has made: it is newer than the latest before."""
        wanted = (body["source"], body.get("run_id", ""), pairs(body["tags"]))
        for version in self.versions(str(body["name"])):
            if int(version.version) > latest and (version.source, version.run_id, version.tags) == wanted:
                return {"version": version.version}
        return None

    def _delete_alias_tag(self, name: str, alias: str) -> None:
        self._client.call(
            "DELETE", f"{self.root}registered-models/delete-tag", {"name": name, "key": f"{_ALIAS_TAG}{alias}"}
        )

    def _has_aliases(self, method: str, body: Mapping[str, str]) -> bool:
        """Ask for a change of an alias; False where the registry has none."""
        try:
            self._client.ask(method, f"{self.root}registered-models/alias", body)
        except Refused as error:
            if error.lacks_route:
                return False
            raise self._client.refused(error) from error
        return True


def _registered(item: Mapping[str, Any]) -> RegisteredModel:
    # One for each stage that has any; every version is in one.
    latest = [int(version["version"]) for version in item.get("latest_versions") or []]
    tags = pairs(item.get("tags"))
    aliases = {key.removeprefix(_ALIAS_TAG): value for key, value in tags.items() if key.startswith(_ALIAS_TAG)}
    aliases.update((str(alias["alias"]), str(alias["version"])) for alias in item.get("aliases") or [])
    return RegisteredModel(
        str(item["name"]),
        str(item.get("description") or ""),
        int(item.get("creation_timestamp") or 0),
        int(item.get("last_updated_timestamp") or 0),
        str(max(latest)) if latest else "",
        dict(sorted(aliases.items())),
        {key: value for key, value in tags.items() if not key.startswith(_ALIAS_TAG)},
    )


def _meaning(model: RegisteredModel, version: str) -> list[str]:
    """The aliases that mean the version."""
    return [alias for alias, meant in model.aliases.items() if meant == version]


def _version(item: Mapping[str, Any], location: str, aliases: Sequence[str]) -> ModelVersion:
    return ModelVersion(
        str(item["name"]),
        str(item["version"]),
        str(item.get("source") or ""),
        location,
        str(item.get("run_id") or ""),
        str(item.get("description") or ""),
        str(item.get("status") or "READY"),
        int(item.get("creation_timestamp") or 0),
        int(item.get("last_updated_timestamp") or 0),
        aliases,
        pairs(item.get("tags")),
    )
