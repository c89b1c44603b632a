"""Between the ids of the service and those of the local workspace: experiments have GUIDs, artifacts `azureml:` addresses."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from amlflow.emulator.settings import HOST, Settings
from amlflow.emulator.store import Document

DEFAULT_EXPERIMENT = "0"
_GUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_EXPERIMENT_KEYS = ("experiment_id", "experiment_ids")


class UnknownExperiment(Exception):
    """The id is none of this workspace's."""


class Translation:
    """One workspace's."""

    def __init__(self, settings: Settings, workspace: Document) -> None:
        self._settings, self._workspace = settings, workspace
        self._prefix = str(workspace.body["workspaceId"]).replace("-", "")[:20]

    def experiment_guid(self, number: str) -> str:
        """The GUID of a local experiment: the workspace's own beginning, and the number."""
        text = f"{self._prefix}{int(number):012x}"
        return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"

    def experiment_number(self, guid: str) -> str:
        """The local experiment of a GUID. Raises `UnknownExperiment`."""
        if guid == DEFAULT_EXPERIMENT:
            return guid
        low = guid.lower()
        if not _GUID.fullmatch(low) or not low.replace("-", "").startswith(self._prefix):
            raise UnknownExperiment(guid)
        return str(int(low.rpartition("-")[2], 16))

    def artifact_uri(self, run_id: str, experiment_guid: str) -> str:
        host = f"{HOST}:{self._settings.port}"
        scope = f"azureml://{host}/mlflow/v2.0{self._workspace.id}"
        return f"{scope}/experiments/{experiment_guid}/runs/{run_id}/artifacts"

    def asked(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """A request's fields, as the local workspace is asked. Raises `UnknownExperiment`."""
        found = dict(body)
        for key in _EXPERIMENT_KEYS:
            if isinstance(found.get(key), list):
                found[key] = [self.experiment_number(str(item)) for item in found[key]]
            elif found.get(key) is not None:
                found[key] = self.experiment_number(str(found[key]))
        found.pop("artifact_location", None)
        return found

    def answered(self, value: Any) -> Any:
        """An answer, as the service gives it."""
        if isinstance(value, list):
            return [self.answered(item) for item in value]
        if not isinstance(value, Mapping):
            return value
        found = {key: self.answered(item) for key, item in value.items()}
        if isinstance(found.get("experiment_id"), str):
            found["experiment_id"] = self.experiment_guid(found["experiment_id"])
        if "artifact_location" in found:
            found["artifact_location"] = ""
        if "run_id" in found and "artifact_uri" in found and "experiment_id" in found:
            found["artifact_uri"] = self.artifact_uri(found["run_id"], found["experiment_id"])
        return found
