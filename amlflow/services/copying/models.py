"""Logged models of MLflow 3, which are entities of their own beside the run that made them. The models of older programs are
folders of a run's artifacts, and are copied with these."""

from __future__ import annotations

import contextlib
import posixpath
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from amlflow.errors import AmlflowError
from amlflow.journal import emulated
from amlflow.journal.creation import KEY_TAG
from amlflow.journal.errors import Refused, Unreachable
from amlflow.journal.router import Router
from amlflow.services import tracking
from amlflow.services.copying.ends import MODEL_TAG, End, Ledger
from amlflow.workspaces.base import Run
from amlflow.workspaces.local import artifacts
from amlflow.workspaces.server.client import API, quoted

_READY = "LOGGED_MODEL_READY"
_PAGE = 50


class ModelCopies:
    """`settle(run ids)` returns when the target has all that was written for these runs."""

    def __init__(
        self, source: End, target: End, router: Router, ledger: Ledger, settle: Callable[[Sequence[str]], None]
    ) -> None:
        self._source, self._target, self._router = source, target, router
        self._ledger, self._settle = ledger, settle

    def bring(self, run: Run, copy: Mapping[str, Any]) -> int:
        """Make the models that the run has made, with their files; how many are new. `copy` is the run's copy as the target's
        REST API shows it. Raises `AmlflowError`."""
        models = self._made_by(run)
        if not models:
            return 0
        with self._explained():
            there = self._there(copy)
            for model in models:
                model_id = model["info"]["model_id"]
                self._one(model, there.get(model_id), copy["info"])
        return sum(model["info"]["model_id"] not in there for model in models)

    def of_copy(self, model_id: str) -> str:
        """The id of the copy of a model; empty for none."""
        return self._ledger.models.get(model_id, "")

    def is_entity(self, copy_id: str) -> bool:
        """Whether the target itself has the model, and not the journal in its place."""
        return not emulated.Models(self._router).has(copy_id)

    def metrics(self, end: End, model_id: str) -> list[dict[str, Any]]:
        """The points that are linked to a model; none where it is gone."""
        try:
            answer = end.client.ask("GET", f"logged-models/{model_id}")
        except Refused:
            return []
        found: list[dict[str, Any]] = (answer["model"].get("data") or {}).get("metrics") or []
        return found

    def _made_by(self, run: Run) -> list[dict[str, Any]]:
        """The models of a run that are ready, oldest first; none in a workspace without such."""
        body = {"experiment_ids": [run.experiment_id], "filter": f"source_run_id = {quoted(run.id)}"}
        try:
            found = self._source.client.pages("POST", "logged-models/search", body, "models", _PAGE)
        except Refused as error:
            if error.lacks_route:
                return []
            raise self._source.client.refused(error) from error
        ready = [
            model
            for model in found
            if model["info"].get("status") == _READY and model["info"].get("source_run_id") == run.id
        ]
        return sorted(ready, key=lambda model: int(model["info"].get("creation_timestamp_ms") or 0))

    def _there(self, copy: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        """The id of each model that was copied into this run -> the copy."""
        info, token = copy["info"], ""
        found: dict[str, dict[str, Any]] = {}
        while True:
            body = {
                "experiment_ids": [info["experiment_id"]],
                "filter": f"source_run_id = {quoted(info['run_id'])}",
                "max_results": _PAGE,
                **({"page_token": token} if token else {}),
            }
            answer = self._router.call("POST", f"{API}/logged-models/search", body)
            for model in answer.get("models") or []:
                tags = {tag["key"]: tag.get("value", "") for tag in model["info"].get("tags") or []}
                if tags.get(MODEL_TAG) and model["info"].get("source_run_id") == info["run_id"]:
                    found[tags[MODEL_TAG]] = model
            following = str(answer.get("next_page_token") or "")
            if not following or following == token:
                return found
            token = following

    def _one(self, model: Mapping[str, Any], found: Mapping[str, Any] | None, run: Mapping[str, Any]) -> None:
        info = model["info"]
        copy = found or self._make(model, run)
        copy_id = copy["info"]["model_id"]
        self._ledger.note_model(info["model_id"], copy_id)
        self._bring_files(info["model_id"], copy["info"], found is None)
        if copy["info"].get("status") != _READY:
            if self.is_entity(copy_id):
                # Whoever sees it ready may load it at once.
                self._settle([run["run_id"]])
            self._router.call("PATCH", f"{API}/logged-models/{copy_id}", {"model_id": copy_id, "status": _READY})

    def _make(self, model: Mapping[str, Any], run: Mapping[str, Any]) -> dict[str, Any]:
        info = model["info"]
        tags = [tag for tag in info.get("tags") or [] if tag["key"] not in (MODEL_TAG, KEY_TAG)]
        body = {
            "experiment_id": run["experiment_id"],
            "name": info.get("name"),
            "model_type": info.get("model_type") or None,
            "source_run_id": run["run_id"],
            "params": (model.get("data") or {}).get("params") or [],
            "tags": [*tags, {"key": MODEL_TAG, "value": info["model_id"]}],
        }
        body = {key: value for key, value in body.items() if value is not None}
        made: dict[str, Any] = self._router.call("POST", f"{API}/logged-models", body)["model"]
        return made

    def _bring_files(self, model_id: str, copy: Mapping[str, Any], is_new: bool) -> None:
        address = copy["artifact_uri"]
        folder = self._source.workspace.fetch(f"models:/{model_id}")
        wanted = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
        root = artifacts.local_folder(address)
        if root is not None:
            # Without MLflow, whose import takes longer than most copies.
            for below, file in wanted.items():
                held = root / below
                if not held.is_file() or held.stat().st_size != file.stat().st_size:
                    artifacts.keep(root, file, posixpath.dirname(below))
            return
        from mlflow.exceptions import MlflowException

        from amlflow.journal.artifacts import repository

        try:
            place = repository(address, self._router)
            sizes = {} if is_new else self._sizes(copy, place)
            for below, file in wanted.items():
                if sizes.get(below) != file.stat().st_size:
                    place.log_artifact(str(file), posixpath.dirname(below) or None)
        except MlflowException as error:
            raise AmlflowError(
                f"The files of the model {model_id} cannot be copied: {str(error).splitlines()[0]}"
            ) from error

    def _sizes(self, copy: Mapping[str, Any], place: Any) -> dict[str, int | None]:
        """Path below the model -> size in bytes, of what is there."""
        if self.is_entity(copy["model_id"]):
            return dict(_files(place))
        # Among the artifacts of its run, in a folder of its name.
        below = f"{copy['name']}/"
        held = tracking.artifacts(self._target.workspace, copy["source_run_id"], sys.maxsize)
        return {item.path.removeprefix(below): item.size_bytes for item in held if item.path.startswith(below)}

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (Refused, Unreachable) as error:
            raise self._target.failed(error) from error


def _files(place: Any) -> Iterator[tuple[str, int | None]]:
    folders = [""]
    while folders:
        for item in place.list_artifacts(folders.pop() or None):
            if item.is_dir:
                folders.append(item.path)
            else:
                yield item.path, item.file_size
