"""What the service already holds of a batch: read before anything is sent a second time."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Set, Tuple

from .batches import Batch, Limits, Point, comparable, identity
from .errors import Refused
from .rest import Behind
from .stuck import Stuck, stuck_by

_HISTORY = "/api/2.0/mlflow/metrics/get-history"


def read_run(behind: Behind, run_id: str) -> Dict[str, Any]:
    """The run as the service shows it. Raises `Stuck` where it is unknown or deleted there."""
    try:
        run: Dict[str, Any] = behind.request("GET", "/api/2.0/mlflow/runs/get", {"run_id": run_id})["run"]
    except Refused as refused:
        if refused.code == "RESOURCE_DOES_NOT_EXIST":
            raise Stuck("gone", f"The workspace has no run {run_id}.") from refused
        raise stuck_by(refused) or refused from refused
    if run["info"].get("lifecycle_stage") == "deleted":
        raise Stuck("gone", f"Run {run_id} was deleted in the workspace.")
    return run


def missing(behind: Behind, limits: Limits, run_id: str, batch: Batch, run: Mapping[str, Any]) -> Batch:
    """What of the batch the service does not hold; every part is looked at by itself, for a batch may arrive in part."""
    data = run.get("data", {})
    params, tags = _pairs(data.get("params", [])), _pairs(data.get("tags", []))
    return batch.holding(
        _missing_points(behind, limits, run_id, batch.points, data.get("metrics", [])),
        {key: value for key, value in batch.params.items() if params.get(key) != value},
        {key: value for key, value in batch.tags.items() if tags.get(key) != value},
    )


def conflicting(batch: Batch, run: Mapping[str, Any]) -> Dict[str, str]:
    """The params of the batch that the run has with another value: key -> that value."""
    params = _pairs(run.get("data", {}).get("params", []))
    return {key: params[key] for key, value in batch.params.items() if params.get(key, value) != value}


def _missing_points(
    behind: Behind, limits: Limits, run_id: str, points: List[Point], latest: List[Mapping[str, Any]]
) -> List[Point]:
    """The run shows the last point of each metric, which settles most; only for the other metrics is the history read."""
    last = {metric["key"]: _identity(metric) for metric in latest}
    settled: Dict[str, Set[Tuple[Any, ...]]] = {}
    wanted: Dict[str, Set[Tuple[Any, ...]]] = {}
    for point in points:
        wanted.setdefault(point[0], set()).add(identity(point))
    for key, identities in wanted.items():
        if key not in last:
            settled[key] = set()
        elif identities == {last[key]}:
            settled[key] = identities
        else:
            settled[key] = _history(behind, limits, run_id, key)
    return [point for point in points if identity(point) not in settled[point[0]]]


def _history(behind: Behind, limits: Limits, run_id: str, key: str) -> Set[Tuple[Any, ...]]:
    found: Set[Tuple[Any, ...]] = set()
    query: Dict[str, Any] = {"run_id": run_id, "metric_key": key, "max_results": limits.history_page}
    seen: Set[str] = set()
    while True:
        answer = behind.request("GET", _HISTORY, query)
        found.update(_identity(metric) for metric in answer.get("metrics", []))
        token = answer.get("next_page_token") or ""
        if not token or token in seen:
            return found
        seen.add(token)
        query["page_token"] = token


def _identity(metric: Mapping[str, Any]) -> Tuple[Any, ...]:
    value = comparable(metric.get("value", 0.0))
    return (metric["key"], value, int(metric.get("step", 0)), int(metric.get("timestamp", 0)))


def _pairs(items: List[Mapping[str, Any]]) -> Dict[str, str]:
    return {item["key"]: item.get("value", "") for item in items}
