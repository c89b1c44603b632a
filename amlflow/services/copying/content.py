"""What a copy of a run lacks of its source, read from both and written to the journal of the target."""

from __future__ import annotations

import contextlib
import json
import math
import re
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from amlflow.journal import records
from amlflow.journal.batches import Point, identity
from amlflow.journal.router import Router
from amlflow.journal.sinks import DAMAGED
from amlflow.services import recording, references, tracking
from amlflow.services.copying.ends import FROM_TAG, RUN_TAG, End, Ledger
from amlflow.services.copying.files import Comparison, Side
from amlflow.services.copying.models import ModelCopies, RefusedFile
from amlflow.services.execution import PARENT_TAG
from amlflow.workspaces.base import Run
from amlflow.workspaces.server.client import API, pairs
from amlflow.workspaces.server.runs import number

# What a workspace says of a run itself, or the journal does of its own sending.
_NOT_COPIED = (RUN_TAG, FROM_TAG, PARENT_TAG, "mlflow.rootRunId", "mlflow.runName", "mlflow.user", "amlflow.key")
# Where the journal keeps what a workspace cannot hold: values that are too long, what was refused, what has no route.
_ASIDE = re.compile(
    r"amlflow/(?:(?P<long>long_values)|(?P<refused>refused)|unsupported/(?P<route>[\w-]+?))(?:-\d+)?(?:\.\d+)?\.jsonl?"
)
_POINTS_A_RECORD = 1000


@dataclass(frozen=True, slots=True)
class Added:
    """How much of each kind the copy lacked. `models` are those that are new or lacked something; `changes` are those of the
    copy's name, status and end."""

    points: int = 0
    params: int = 0
    tags: int = 0
    inputs: int = 0
    files: int = 0
    models: int = 0
    changes: int = 0

    @property
    def anything(self) -> bool:
        return bool(self.points or self.params or self.tags or self.inputs or self.files or self.models or self.changes)


@dataclass(slots=True)
class _Aside:
    """What a copy has in its artifacts, because the workspace does not hold it otherwise."""

    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    points: set[tuple[Any, ...]] = field(default_factory=set)
    routes: set[str] = field(default_factory=set)
    files: set[RefusedFile] = field(default_factory=set)


class Contents:
    """`settle(run ids)` returns when the target has all that was written for these runs."""

    def __init__(
        self,
        source: End,
        target: End,
        recorder: recording.Recorder,
        ledger: Ledger,
        settle: Callable[[Sequence[str]], None],
    ) -> None:
        self._source, self._target, self._recorder, self._ledger = source, target, recorder, ledger
        router = Router(recorder.journal, target.client.behind)
        self._models = ModelCopies(source, target, router, ledger, settle)

    def bring(self, run: Run, copy_id: str, parent_id: str, is_new: bool) -> Added:
        """Write to the journal what the copy lacks; `parent_id` is the copy of the run that it is nested in. Returns before all
        of it was sent."""
        here, there = self._source.run(run.id), self._target.run(copy_id)
        wanted = self._files(self._source, run.id)
        held = {} if is_new else self._files(self._target, copy_id)
        aside = self._aside(copy_id, [path for path in held if path not in wanted])
        models = self._models.bring(run, there, aside.files)
        history = self._history(self._source, run.id)
        linked = self._linked_points(run.id, here, aside, {identity(point) for point in history})
        held_points = [] if is_new else self._history(self._target, copy_id)
        known = aside.points | {identity(point) for point in (*linked, *held_points)}
        points = [point for point in history if identity(point) not in known]
        params = self._params(here, there, aside)
        tags = self._tags(run, copy_id, parent_id, here, there, aside)
        requests = [*self._inputs(here, there, copy_id, aside), *self._outputs(here, there, copy_id, aside)]
        self._write(copy_id, [*_batches([*linked, *points], params, tags), *requests])
        files = self._bring_files(here["info"], there["info"], wanted, held, aside)
        ending = _ending(here["info"], there["info"])
        self._write(copy_id, ending)
        return Added(len(points) + len(linked), len(params), len(tags), len(requests), files, models, len(ending))

    def _write(self, copy_id: str, lines: Sequence[list[Any]]) -> None:
        if not lines:
            return
        with self._recorder.writing():
            opened = self._recorder.open(copy_id)
            try:
                opened.writer.extend(lines)
            finally:
                opened.writer.close()

    # ------------------------------------------------------------------ values

    @staticmethod
    def _history(end: End, run_id: str) -> list[Point]:
        lines = end.workspace.metric_histories([run_id]).get(run_id, {})
        return [[key, point.value, point.step, point.timestamp_ms] for key, line in lines.items() for point in line]

    def _linked_points(
        self, run_id: str, here: Mapping[str, Any], aside: _Aside, history: set[tuple[Any, ...]]
    ) -> list[Point]:
        """The points of the run that are linked to a logged model whose copy does not have them."""
        found: list[Point] = []
        for model_id in _model_ids(here):
            copy_id = self._models.of_copy(model_id)
            if not copy_id or not self._models.is_entity(copy_id):
                continue
            held = {_linked(metric) for metric in self._models.metrics(self._target, copy_id)}
            for metric in self._models.metrics(self._source, model_id):
                linked = _linked(metric)
                if metric.get("run_id") != run_id or linked in held:
                    continue
                value = number(metric.get("value", 0.0))
                if linked[:4] not in history:
                    # A model has 0 where its run has NaN, for which MLflow's table of model metrics has no place.
                    value = math.nan
                extra = {name: metric[name] for name in ("dataset_name", "dataset_digest") if metric.get(name)}
                found.append([metric["key"], value, *linked[2:4], {"model_id": copy_id, **extra}])
        return [point for point in found if identity(point) in history and identity(point) not in aside.points]

    @staticmethod
    def _params(here: Mapping[str, Any], there: Mapping[str, Any], aside: _Aside) -> dict[str, str]:
        known = _values(there, "params")
        return {
            key: value
            for key, value in _values(here, "params").items()
            if key not in known and aside.params.get(key) != value
        }

    @staticmethod
    def _tags(
        run: Run, copy_id: str, parent_id: str, here: Mapping[str, Any], there: Mapping[str, Any], aside: _Aside
    ) -> dict[str, str]:
        """The source's tags where they differ. What names the run itself names the copy."""
        known = _values(there, "tags")
        wanted = {key: value for key, value in _values(here, "tags").items() if key not in _NOT_COPIED}
        if references.is_id(run.id):
            wanted = {key: value.replace(run.id, copy_id) for key, value in wanted.items()}
        if parent_id:
            wanted[PARENT_TAG] = parent_id
        return {key: value for key, value in wanted.items() if known.get(key) != value and aside.tags.get(key) != value}

    # ------------------------------------------------------------------ datasets and models

    def _inputs(
        self, here: Mapping[str, Any], there: Mapping[str, Any], copy_id: str, aside: _Aside
    ) -> list[list[Any]]:
        given, held = here.get("inputs") or {}, there.get("inputs") or {}
        known = {_dataset(item) for item in held.get("dataset_inputs") or []}
        linked = {item.get("model_id") for item in held.get("model_inputs") or []}
        datasets = [item for item in given.get("dataset_inputs") or [] if _dataset(item) not in known]
        copies = [self._models.of_copy(str(item.get("model_id"))) for item in given.get("model_inputs") or []]
        models = [{"model_id": item} for item in copies if item and item not in linked and self._models.is_entity(item)]
        if not (datasets or models) or "runs-log-inputs" in aside.routes:
            return []
        body = {"run_id": copy_id, "datasets": datasets, "models": models}
        return [[records.REQUEST, "POST", f"{API}/runs/log-inputs", {key: item for key, item in body.items() if item}]]

    def _outputs(
        self, here: Mapping[str, Any], there: Mapping[str, Any], copy_id: str, aside: _Aside
    ) -> list[list[Any]]:
        held = (there.get("outputs") or {}).get("model_outputs") or []
        known = {(item.get("model_id"), int(item.get("step") or 0)) for item in held}
        models = [
            {"model_id": copy, "step": int(item.get("step") or 0)}
            for item in (here.get("outputs") or {}).get("model_outputs") or []
            if (copy := self._models.of_copy(str(item.get("model_id")))) and self._models.is_entity(copy)
        ]
        models = [item for item in models if (item["model_id"], item["step"]) not in known]
        if not models or "runs-outputs" in aside.routes:
            return []
        return [[records.REQUEST, "POST", f"{API}/runs/outputs", {"run_id": copy_id, "models": models}]]

    # ------------------------------------------------------------------ files

    def _bring_files(
        self,
        here: Mapping[str, Any],
        there: Mapping[str, Any],
        wanted: Mapping[str, int | None],
        held: Mapping[str, int | None],
        aside: _Aside,
    ) -> int:
        """Files that are not there with the same content. They are fetched to a folder of this machine first. `here` and `there`
        are the two runs' "info"."""
        copy_id = there["run_id"]
        refused = {(path, size) for place, path, size in aside.files if not place}
        source, target = self._side(self._source, here, wanted), self._side(self._target, there, held)
        compared = Comparison(source, target, refused, self._ledger, copy_id)
        missing = compared.lacking()
        if not missing:
            return 0
        with tempfile.TemporaryDirectory(prefix="amlflow-") as temporary:
            folder = Path(temporary)
            fetched = source.fetch(missing, folder)
            for entry in sorted(folder.iterdir()):
                self._recorder.keep(copy_id, entry)
            compared.note(fetched)
        return len(missing)

    @staticmethod
    def _side(end: End, info: Mapping[str, Any], sizes: Mapping[str, int | None]) -> Side:
        def fetch(paths: Sequence[str], folder: Path) -> Mapping[str, Path]:
            if len(paths) == len(sizes):
                # For most services one folder is fewer requests than its files.
                end.workspace.download_artifacts(info["run_id"], "", folder)
            else:
                end.workspace.download_files(info["run_id"], paths, folder)
            return {path: file for path in paths if (file := folder / path).is_file()}

        return Side(sizes, end.folder(str(info.get("artifact_uri") or "")), fetch)

    @staticmethod
    def _files(end: End, run_id: str) -> dict[str, int | None]:
        """Path -> size in bytes of every file of a run."""
        return {item.path: item.size_bytes for item in tracking.artifacts(end.workspace, run_id, sys.maxsize)}

    def _aside(self, copy_id: str, files: Sequence[str]) -> _Aside:
        """From the files of the copy that are not the source's."""
        found = _Aside()
        for path in files:
            match = _ASIDE.fullmatch(path)
            if match is None:
                continue
            if match["route"]:
                found.routes.add(match["route"])
                continue
            with tempfile.TemporaryDirectory(prefix="amlflow-") as temporary:
                file = self._target.workspace.download_artifacts(copy_id, path, Path(temporary))
                text = file.read_text(encoding="utf-8")
            # Somebody else's file under that name is none of the journal's.
            with contextlib.suppress(ValueError, KeyError, TypeError, IndexError, AttributeError):
                _read_aside(found, text, bool(match["long"]))
        return found


def _read_aside(found: _Aside, text: str, is_long: bool) -> None:
    if is_long:
        kept = json.loads(text)
        found.params.update(kept.get("params") or {})
        found.tags.update(kept.get("tags") or {})
        return
    for line in text.splitlines():
        refusal = json.loads(line)
        record = refusal["record"]
        if record[0] == records.PARAM:
            found.params[record[1]] = record[2]
        elif record[0] == records.TAG:
            found.tags[record[1]] = record[2]
        elif record[0] == records.METRIC:
            found.points.add(identity(record[1:]))
        elif record[0] == records.FILE and refusal.get("code") != DAMAGED:
            found.files.add((record[5] if len(record) > 5 else "", record[1], record[3]))


def _batches(points: Sequence[Point], params: Mapping[str, str], tags: Mapping[str, str]) -> list[list[Any]]:
    """Params and tags first: a copy that is cut can be told what it is."""
    values = [[key, value] for key, value in params.items()], [[key, value] for key, value in tags.items()]
    lines: list[list[Any]] = [[records.BATCH, [], *values]] if params or tags else []
    for start in range(0, len(points), _POINTS_A_RECORD):
        lines.append([records.BATCH, list(points[start : start + _POINTS_A_RECORD]), [], []])
    return lines


def _ending(here: Mapping[str, Any], there: Mapping[str, Any]) -> list[list[Any]]:
    """The change that makes name, status and end those of the source. A run that still runs has no end."""
    change = {
        name: int(here[name]) if name == "end_time" else here[name]
        for name in ("run_name", "status", "end_time")
        if here.get(name) not in (None, "") and str(here[name]) != str(there.get(name) or "")
    }
    if set(change) & {"status", "end_time"}:
        # Some services set an end of their own with a status that comes alone.
        change["status"] = here["status"]
    return [[records.UPDATED, change]] if change else []


def _values(run: Mapping[str, Any], kind: str) -> dict[str, str]:
    return pairs((run.get("data") or {}).get(kind))


def _model_ids(run: Mapping[str, Any]) -> list[str]:
    """The logged models that a run has made or used."""
    made = (run.get("outputs") or {}).get("model_outputs") or []
    used = (run.get("inputs") or {}).get("model_inputs") or []
    return list(dict.fromkeys(str(item["model_id"]) for item in [*made, *used] if item.get("model_id")))


def _linked(metric: Mapping[str, Any]) -> tuple[Any, ...]:
    """A point of a logged model: key, value, step, time, and the dataset that it was measured on."""
    point = [metric["key"], metric.get("value", 0.0), int(metric.get("step") or 0), int(metric.get("timestamp") or 0)]
    return (*identity(point), metric.get("dataset_name") or "", metric.get("dataset_digest") or "")


def _dataset(item: Mapping[str, Any]) -> tuple[Any, ...]:
    dataset = item.get("dataset") or {}
    return dataset.get("name"), dataset.get("digest")
