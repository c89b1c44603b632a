"""Logged models of MLflow 3, which are entities of their own beside the run that made them. The models of older programs are
folders of a run's artifacts, and are copied with these."""

from __future__ import annotations

import contextlib
import posixpath
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from pathlib import Path
from typing import Any

from amlflow.errors import AmlflowError
from amlflow.journal import emulated
from amlflow.journal.creation import KEY_TAG
from amlflow.journal.errors import Refused, Unreachable
from amlflow.journal.router import Router
from amlflow.services import tracking
from amlflow.services.copying.ends import MODEL_TAG, End, Ledger
from amlflow.services.copying.files import Comparison, Side
from amlflow.workspaces.base import Run
from amlflow.workspaces.local import artifacts
from amlflow.workspaces.server.client import API, named, pairs, quoted

_READY = "LOGGED_MODEL_READY"
_PAGE = 50
# A file that the target did not take: the address of its root, empty for the artifacts of its run; its path; its size in bytes.
RefusedFile = tuple[str, str, int]


class ModelCopies:
    """`settle(run ids)` returns when the target has all that was written for these runs."""

    def __init__(
        self, source: End, target: End, router: Router, ledger: Ledger, settle: Callable[[Sequence[str]], None]
    ) -> None:
        self._source, self._target, self._router = source, target, router
        self._ledger, self._settle = ledger, settle

    def bring(self, run: Run, copy: Mapping[str, Any], refused: Set[RefusedFile]) -> int:
        """Make the models that the run has made, and bring them what they lack; how many lacked something, or are new. `copy` is
        the run's copy as the target's REST API shows it. Raises `AmlflowError`."""
        models = self._made_by(run)
        if not models:
            return 0
        with self._explained():
            there = self._there(copy)
            return sum(
                self._one(model, there.get(model["info"]["model_id"]), copy["info"], refused) for model in models
            )

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

    def _one(
        self,
        model: Mapping[str, Any],
        found: Mapping[str, Any] | None,
        run: Mapping[str, Any],
        refused: Set[RefusedFile],
    ) -> bool:
        """Whether the copy is new or lacked something."""
        info = model["info"]
        copy = found or self._make(model, run)
        copy_id = copy["info"]["model_id"]
        self._ledger.note_model(info["model_id"], copy_id)
        has_brought = self._bring_files(info, copy["info"], found is None, refused)
        if found is not None:
            has_brought = self._bring_values(model, found) or has_brought
        was_ready = copy["info"].get("status") == _READY
        if not was_ready:
            if self.is_entity(copy_id):
                # Whoever sees it ready may load it at once.
                self._settle([run["run_id"]])
            self._router.call("PATCH", f"{API}/logged-models/{copy_id}", {"model_id": copy_id, "status": _READY})
        return found is None or has_brought or not was_ready

    def _make(self, model: Mapping[str, Any], run: Mapping[str, Any]) -> dict[str, Any]:
        info = model["info"]
        body = {
            "experiment_id": run["experiment_id"],
            "name": info.get("name"),
            "model_type": info.get("model_type") or None,
            "source_run_id": run["run_id"],
            "params": (model.get("data") or {}).get("params") or [],
            "tags": named({**_own_tags(info), MODEL_TAG: info["model_id"]}),
        }
        body = {key: value for key, value in body.items() if value is not None}
        made: dict[str, Any] = self._router.call("POST", f"{API}/logged-models", body)["model"]
        return made

    def _bring_values(self, model: Mapping[str, Any], copy: Mapping[str, Any]) -> bool:
        """Tags and params that the copy lacks; whether there were any. Where both have a tag, the source's value stands."""
        copy_id = copy["info"]["model_id"]
        address = f"{API}/logged-models/{copy_id}"
        held = pairs(copy["info"].get("tags"))
        tags = {key: value for key, value in _own_tags(model["info"]).items() if held.get(key) != value}
        if tags:
            self._router.call("PATCH", f"{address}/tags", {"model_id": copy_id, "tags": named(tags)})
        known = pairs((copy.get("data") or {}).get("params"))
        given = pairs((model.get("data") or {}).get("params"))
        params = {key: value for key, value in given.items() if key not in known}
        if params:
            self._router.call("POST", f"{address}/params", {"model_id": copy_id, "params": named(params)})
        return bool(tags or params)

    def _bring_files(
        self, model: Mapping[str, Any], copy: Mapping[str, Any], is_new: bool, refused: Set[RefusedFile]
    ) -> bool:
        """Whether there were any that the copy lacks. `model` and `copy` are the "info" of the two."""
        address = copy["artifact_uri"]
        root = artifacts.local_folder(address)
        if root is not None:
            # Without MLflow, whose import takes longer than most copies.
            target = Side(_sizes_below(root), root, lambda paths, folder: {below: root / below for below in paths})
            keep = lambda file, folder: artifacts.keep(root, file, folder)  # noqa: E731
            return self._bring_lacking(model, copy["model_id"], target, frozenset(), keep)
        from mlflow.exceptions import MlflowException

        from amlflow.journal.artifacts import repository

        try:
            place = repository(address, self._router)
            sizes = {} if is_new else self._sizes(copy, place)

            def fetch(paths: Sequence[str], folder: Path) -> Mapping[str, Path]:
                return {below: Path(place.download_artifacts(below, str(folder))) for below in paths}

            target = Side(sizes, None, fetch)
            taken = self._refused_of(address, refused)
            keep = lambda file, folder: place.log_artifact(str(file), folder or None)  # noqa: E731
            return self._bring_lacking(model, copy["model_id"], target, taken, keep)
        except MlflowException as error:
            raise AmlflowError(
                f"The files of the model {model['model_id']} cannot be copied: {str(error).splitlines()[0]}"
            ) from error

    def _bring_lacking(
        self,
        model: Mapping[str, Any],
        copy_id: str,
        target: Side,
        refused: Set[tuple[str, int | None]],
        keep: Callable[[Path, str], None],
    ) -> bool:
        workspace, address = self._source.workspace, str(model.get("artifact_uri") or "")
        folder = workspace.fetch(f"models:/{model['model_id']}")
        is_here = self._source.folder(address) is not None

        def fetch(paths: Sequence[str], destination: Path) -> Mapping[str, Path]:
            return {below: workspace.fetch_file(address, below, destination) for below in paths}

        source = Side(_sizes_below(folder), folder if is_here else None, fetch)
        compared = Comparison(source, target, refused, self._ledger, copy_id)
        lacking = compared.lacking()
        with tempfile.TemporaryDirectory(prefix="amlflow-") as temporary:
            # What is kept of another machine's files is taken for the same while their sizes are.
            stale = [below for below in lacking if not is_here and target.sizes.get(below) == source.sizes[below]]
            files = {below: folder / below for below in lacking} | dict(fetch(stale, Path(temporary)))
            for below in lacking:
                keep(files[below], posixpath.dirname(below))
            compared.note(files)
        return bool(lacking)

    def _refused_of(self, address: str, refused: Set[RefusedFile]) -> Set[tuple[str, int | None]]:
        """Path below the model and size in bytes of those of its files that the target did not take."""
        place = self._router.locations.place(address)
        if place is None:
            return frozenset()
        root, prefix = "" if place.of_run else place.real, f"{place.path}/" if place.path else ""
        return {
            (path.removeprefix(prefix), size)
            for where, path, size in refused
            if where == root and path.startswith(prefix)
        }

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


def _own_tags(info: Mapping[str, Any]) -> dict[str, str]:
    """The tags of a model, without those by which copies and journals know theirs."""
    return {key: value for key, value in pairs(info.get("tags")).items() if key not in (MODEL_TAG, KEY_TAG)}


def _sizes_below(folder: Path) -> dict[str, int | None]:
    return {
        path.relative_to(folder).as_posix(): path.stat().st_size for path in sorted(folder.rglob("*")) if path.is_file()
    }
