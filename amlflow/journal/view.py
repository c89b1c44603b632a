"""A run as its journal tells it: what it was when the journal was begun, and every record since."""

from __future__ import annotations

import math
from typing import Any, Dict, List, Optional, Tuple

from . import records, segments
from .folder import RunFolder

Point = Tuple[float, int, int]


class RunView:
    """Replays a run's journal as far as it has been written. Answers are in the form of MLflow's REST API."""

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder
        base = folder.base() or {}
        run = base.get("run", {})
        data = run.get("data", {})
        self.fresh = bool(base.get("fresh"))
        self.offline = bool(base.get("offline"))
        self.info: Dict[str, Any] = dict(run.get("info", {}))
        self.params: Dict[str, str] = {item["key"]: item.get("value", "") for item in data.get("params", [])}
        self.tags: Dict[str, str] = {item["key"]: item.get("value", "") for item in data.get("tags", [])}
        self.metrics: Dict[str, Point] = {
            item["key"]: (number(item.get("value", 0.0)), int(item.get("step", 0)), int(item.get("timestamp", 0)))
            for item in data.get("metrics", [])
        }
        self.inputs: Dict[str, List[Any]] = _copied(run.get("inputs"))
        self.outputs: Dict[str, List[Any]] = _copied(run.get("outputs"))
        # Path among the run's artifacts -> the file in the spool, its size in bytes.
        self.files: Dict[str, Tuple[str, int]] = {}
        # The same for files that belong elsewhere: the address of that place -> path below it -> the file.
        self.placed: Dict[str, Dict[str, Tuple[str, int]]] = {}
        # Whether a model was logged to the run that the journal knows to be whole, and what its user should be told.
        self.has_model = False
        self.notes: List[str] = []
        self._reader = segments.Reader(folder.path)

    @property
    def whole(self) -> bool:
        """Whether the journal still has everything that was ever logged to the run."""
        present = segments.numbers(self._folder.path)
        return self.fresh and (not present or present[0] == 1)

    def refresh(self) -> RunView:
        """Take in what was written since, by any process."""
        while True:
            found = self._reader.read()
            if not found:
                return self
            for record in records.decode([payload for _, payload in found]):
                self._apply(record)

    def run(self) -> Dict[str, Any]:
        """The run as `runs/get` answers it."""
        return {
            "info": self.info,
            "data": {
                "metrics": [
                    {"key": key, "value": quoted(value), "step": step, "timestamp": timestamp}
                    for key, (value, step, timestamp) in self.metrics.items()
                ],
                "params": _pairs(self.params),
                "tags": _pairs(self.tags),
            },
            "inputs": self.inputs,
            "outputs": self.outputs,
        }

    def history(self, key: str) -> List[Dict[str, Any]]:
        """Every point of a metric, in the order of writing; of points that are the same in all, one."""
        found: Dict[Tuple[Any, ...], Dict[str, Any]] = {}
        reader = segments.Reader(self._folder.path)
        while True:
            lines = reader.read()
            if not lines:
                return list(found.values())
            for record in records.decode([payload for _, payload in lines]):
                for point in _points(record):
                    if point[0] == key:
                        value = quoted(point[1])
                        found.setdefault(
                            (value, point[2], point[3]),
                            {"key": key, "value": value, "step": point[2], "timestamp": point[3]},
                        )

    def _apply(self, record: List[Any]) -> None:
        kind = record[0]
        for point in _points(record):
            self._metric(point[0], (point[1], point[2], point[3]))
        if kind == records.BATCH:
            self.params.update((item[0], item[1]) for item in record[2])
            for key, value in record[3]:
                self._tag(key, value)
        elif kind == records.PARAM:
            self.params[record[1]] = record[2]
        elif kind == records.TAG:
            self._tag(record[1], record[2])
        elif kind == records.DELETED_TAG:
            self.tags.pop(record[1], None)
        elif kind == records.UPDATED:
            self.info.update({key: value for key, value in record[1].items() if value is not None})
        elif kind == records.FILE:
            files = self.files if len(record) == 5 else self.placed.setdefault(record[5], {})
            files[record[1]] = (record[2], record[3])
        elif kind == records.REQUEST:
            self._request(record[2], record[3])
        elif kind == records.MODEL:
            self.has_model = self.has_model or record[1]["model"]["info"]["status"] == "LOGGED_MODEL_READY"
        elif kind == records.NOTE:
            self.notes.append(record[1])

    def _metric(self, key: str, point: Point) -> None:
        known = self.metrics.get(key)
        if known is None or _rank(point) >= _rank(known):
            self.metrics[key] = point

    def _tag(self, key: str, value: str) -> None:
        self.tags[key] = value
        if key == "mlflow.runName":
            self.info["run_name"] = value

    def _request(self, path: str, body: Dict[str, Any]) -> None:
        if path.endswith("/runs/log-inputs"):
            self.inputs.setdefault("dataset_inputs", []).extend(body.get("datasets", []))
            self.inputs.setdefault("model_inputs", []).extend(body.get("models", []))
        elif path.endswith("/runs/outputs"):
            self.outputs.setdefault("model_outputs", []).extend(body.get("models", []))
        elif path.endswith("/runs/log-model"):
            self.has_model = True


def quoted(value: float) -> Any:
    """A number as JSON can hold it: NaN and infinities as MLflow's REST API writes them."""
    if value != value:
        return "NaN"
    if value in (math.inf, -math.inf):
        return "Infinity" if value > 0 else "-Infinity"
    return value


def number(value: Any) -> float:
    """The float that `quoted` wrote."""
    return float(value)


def _points(record: List[Any]) -> List[List[Any]]:
    if record[0] == records.METRIC:
        return [record[1:]]
    if record[0] == records.BATCH:
        points: List[List[Any]] = record[1]
        return points
    return []


def _rank(point: Point) -> Tuple[int, int, float]:
    # MLflow's order of a metric's values: by step, then time, then value; NaN counts as the lowest.
    value, step, timestamp = point
    return step, timestamp, value if value == value else -math.inf


def _pairs(values: Dict[str, str]) -> List[Dict[str, str]]:
    return [{"key": key, "value": value} for key, value in values.items()]


def _copied(found: Optional[Dict[str, Any]]) -> Dict[str, List[Any]]:
    return {key: list(items) for key, items in (found or {}).items()}
