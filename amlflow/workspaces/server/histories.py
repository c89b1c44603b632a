"""Every logged value of metrics, read for many runs at once where the service can."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from amlflow.journal.errors import Refused
from amlflow.workspaces.base import MetricPoint
from amlflow.workspaces.server.client import NOT_THERE, Client
from amlflow.workspaces.server.runs import number

# The route that MLflow's own pages use; it takes so many runs and gives so many points, without a next page.
_BULK = "/ajax-api/2.0/mlflow/metrics/get-history-bulk"
_BULK_RUNS = 100
_BULK_POINTS = 25_000

_Lines = dict[str, dict[str, list[MetricPoint]]]


class Histories:
    def __init__(self, client: Client) -> None:
        self._client = client
        self._bulk = client.limits.bulk_history

    def read(self, run_ids: Sequence[str], keys: Sequence[str] = ()) -> Mapping[str, Mapping[str, list[MetricPoint]]]:
        """Run id -> metric -> points by step, then time; a run that does not exist has none."""
        unique = list(dict.fromkeys(run_ids))
        logged = dict(zip(unique, self._client.each(self._keys, unique), strict=True)) if not keys else {}
        wanted = list(dict.fromkeys(keys)) or sorted({key for known in logged.values() for key in known})
        parts = [
            (key, having[start : start + _BULK_RUNS])
            for key in wanted
            for having in [[run_id for run_id in unique if keys or key in logged[run_id]]]
            for start in range(0, len(having), _BULK_RUNS)
        ]
        found: _Lines = {run_id: {} for run_id in unique}
        for (key, _), lines in zip(parts, self._client.each(lambda part: self._of_key(*part), parts), strict=True):
            for run_id, points in lines.items():
                if points:
                    found[run_id][key] = sorted(points, key=lambda point: (point.step, point.timestamp_ms))
        return {run_id: dict(sorted(lines.items())) for run_id, lines in found.items()}

    def _keys(self, run_id: str) -> set[str]:
        try:
            answer = self._client.ask("GET", "runs/get", {"run_id": run_id})
        except Refused as error:
            if error.code == NOT_THERE:
                return set()
            raise self._client.refused(error) from error
        return {str(metric["key"]) for metric in (answer["run"].get("data") or {}).get("metrics") or []}

    def _of_key(self, key: str, run_ids: Sequence[str]) -> dict[str, list[MetricPoint]]:
        if self._bulk and len(run_ids) > 1:
            lines = self._in_bulk(key, run_ids)
            if lines is not None:
                return lines
        return {run_id: self._one(run_id, key) for run_id in run_ids}

    def _in_bulk(self, key: str, run_ids: Sequence[str]) -> dict[str, list[MetricPoint]] | None:
        """None where the service has no such route, or the answer was cut at its limit."""
        try:
            answer = self._client.ask("GET", _BULK, {"run_id": list(run_ids), "metric_key": key})
        except Refused:
            self._bulk = False
            return None
        points = answer.get("metrics") or []
        if len(points) >= _BULK_POINTS:
            return None
        lines: dict[str, list[MetricPoint]] = {run_id: [] for run_id in run_ids}
        for item in points:
            lines[str(item["run_id"])].append(_point(item))
        return lines

    def _one(self, run_id: str, key: str) -> list[MetricPoint]:
        try:
            points = self._client.pages(
                "GET",
                "metrics/get-history",
                {"run_id": run_id, "metric_key": key},
                "metrics",
                self._client.limits.history_page,
            )
        except Refused as error:
            if error.code == NOT_THERE:
                return []
            raise self._client.refused(error) from error
        return [_point(item) for item in points]


def _point(item: Mapping[str, Any]) -> MetricPoint:
    return MetricPoint(number(item.get("value", 0.0)), int(item.get("step") or 0), int(item.get("timestamp") or 0))
