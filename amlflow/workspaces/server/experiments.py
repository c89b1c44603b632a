"""Experiments of a service with MLflow's REST API."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from amlflow.errors import AmlflowError, NotFound
from amlflow.journal.errors import Refused
from amlflow.workspaces.base import Experiment
from amlflow.workspaces.server.client import NOT_THERE, TAKEN, Client, pairs


class Experiments:
    """Their names are kept for as long as the object lives, and asked again for an id that is not among them."""

    def __init__(self, client: Client, workspace: str) -> None:
        self._client, self._workspace = client, workspace
        self._names: dict[str, str] = {}
        self._lock = threading.Lock()

    def all(self, view: str = "ACTIVE_ONLY") -> list[Experiment]:
        try:
            found = self._client.pages(
                "POST",
                "experiments/search",
                {"view_type": view},
                "experiments",
                self._client.limits.experiments_page,
            )
        except Refused as error:
            raise self._client.refused(error) from error
        return sorted((_experiment(item) for item in found), key=_by_number)

    def find(self, name_or_id: str) -> Experiment:
        """Raises `NotFound`, naming the nearest."""
        found = self._by_name(name_or_id)
        if found is not None and found.lifecycle_stage == "active":
            return found
        known = self.all()
        for experiment in known:
            if experiment.id == name_or_id:
                return experiment
        raise NotFound(
            f"There is no experiment {name_or_id!r} in workspace {self._workspace!r}.",
            f"It has: {', '.join(e.name for e in known[:20])}." if known else "It has none yet.",
            name=name_or_id,
            known=[experiment.name for experiment in known],
        )

    def ensure(self, name: str) -> Experiment:
        """The experiment of that name, made if new. Raises `AmlflowError` for a deleted one."""
        found = self._by_name(name) if name else None
        if found is None:
            try:
                # Names are unique there, so that a creation which is sent twice makes one.
                self._client.ask("POST", "experiments/create", {"name": name})
            except Refused as error:
                if error.code != TAKEN:
                    raise self._client.refused(error) from error
            found = self._by_name(name)
            if found is None:
                raise AmlflowError(f"{self._client.shown} made the experiment {name!r} and does not show it.")
        if found.lifecycle_stage == "deleted":
            raise AmlflowError(
                f"The experiment {name!r} was deleted.",
                f"Restore it with `mlflow experiments restore --experiment-id {found.id}`, or choose another name.",
            )
        return found

    def names(self, needed: set[str] | None = None) -> Mapping[str, str]:
        """Id -> name of every experiment, the deleted ones too; asked again where a needed id is unknown."""
        with self._lock:
            if not self._names or (needed and not needed <= self._names.keys()):
                self._names = {experiment.id: experiment.name for experiment in self.all("ALL")}
            return self._names

    def _by_name(self, name: str) -> Experiment | None:
        try:
            answer = self._client.ask("GET", "experiments/get-by-name", {"experiment_name": name})
        except Refused as error:
            if error.code == NOT_THERE:
                return None
            raise self._client.refused(error) from error
        return _experiment(answer["experiment"])


def _experiment(item: Mapping[str, Any]) -> Experiment:
    return Experiment(
        str(item["experiment_id"]),
        str(item.get("name", "")),
        str(item.get("artifact_location", "")),
        "deleted" if item.get("lifecycle_stage") == "deleted" else "active",
        pairs(item.get("tags")),
    )


def _by_number(experiment: Experiment) -> tuple[int, str]:
    """MLflow counts experiments; other services give them ids of letters."""
    return (int(experiment.id), "") if experiment.id.isdigit() else (0, experiment.id)
