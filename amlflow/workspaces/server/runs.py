"""Runs of a service with MLflow's REST API: made, logged into, finished, read and searched."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from itertools import islice
from typing import Any, TypeVar

from amlflow.errors import AmlflowError, NotFound, UsageError
from amlflow.journal.errors import Refused
from amlflow.workspaces.base import Metric, Run, RunQuery, RunStatus
from amlflow.workspaces.local import filters
from amlflow.workspaces.local.reads import decoded
from amlflow.workspaces.local.writes import random_name
from amlflow.workspaces.server.client import NOT_THERE, Client, ServerLimits, named, pairs, quoted
from amlflow.workspaces.server.experiments import Experiments

_VIEWS = {"active": "ACTIVE_ONLY", "deleted": "DELETED_ONLY", "all": "ALL"}
_ID_LIKE = re.compile(r"[A-Za-z0-9_-]+")
# Runs that are looked at for a bound of the best ones.
_SAMPLE = 200
_REFUSED_VALUE = "INVALID_PARAMETER_VALUE"

_Item = TypeVar("_Item")


class Runs:
    def __init__(self, client: Client, experiments: Experiments) -> None:
        self._client, self._experiments = client, experiments

    def create(self, experiment_id: str, name: str, tags: Mapping[str, str], params: Mapping[str, str]) -> Run:
        """A run that is RUNNING, with its params; none is left behind when these are refused."""
        kept = {key: value for key, value in tags.items() if key != "mlflow.runName"}
        body = {
            "experiment_id": experiment_id,
            "run_name": name or tags.get("mlflow.runName", "") or random_name(),
            "user_id": tags.get("mlflow.user", ""),
            "start_time": _now_ms(),
            "tags": named(kept),
        }
        try:
            made = self._client.once(
                lambda: self._client.ask("POST", "runs/create", body, retry=False)["run"],
                lambda: self._made(body),
            )
        except Refused as error:
            if error.code == NOT_THERE:
                raise NotFound(f"There is no active experiment with the id {experiment_id!r}.") from error
            raise self._client.refused(error) from error
        run = self._run(made)
        if not params:
            return run
        try:
            self.log_batch(run.id, (), params, {})
        except AmlflowError:
            self.set_deleted(run.id, True)
            raise
        return self.get(run.id)

    def log_batch(
        self, run_id: str, metrics: Iterable[Metric], params: Mapping[str, str], tags: Mapping[str, str]
    ) -> None:
        """In as few requests as the service allows: params first, as they alone can be refused for what is there
        already. Raises `UsageError` for a param that would change."""
        points = [{"key": m.key, "value": m.value, "timestamp": m.timestamp_ms, "step": m.step} for m in metrics]
        batches = _batches(points, named(params), named(tags), self._client.limits)
        if len(batches) > 1 and params:
            self._check_unchanged(run_id, self.get(run_id), params)
        for batch in batches:
            # Params and tags that are sent twice are there once.
            repeatable = self._client.limits.batch_repeatable or not batch.get("metrics")
            try:
                self._client.ask("POST", "runs/log-batch", {"run_id": run_id, **batch}, retry=repeatable)
            except Refused as error:
                raise self._log_refused(run_id, params, error) from error

    def finish(self, run_id: str, status: RunStatus, end_time_ms: int | None) -> None:
        """A run that its own program has ended as FAILED or KILLED stays so when the program ends well."""
        if status == "FINISHED":
            before = self.get(run_id).status
            status = before if before in ("FAILED", "KILLED") else status
        ended = end_time_ms if end_time_ms is not None else _now_ms()
        try:
            self._client.ask("POST", "runs/update", {"run_id": run_id, "status": status, "end_time": ended})
        except Refused as error:
            raise self._log_refused(run_id, {}, error) from error

    def get(self, run_id: str) -> Run:
        try:
            return self._run(self._client.ask("GET", "runs/get", {"run_id": run_id})["run"])
        except Refused as error:
            if error.code == NOT_THERE:
                raise NotFound(f"There is no run {run_id!r}.", "`amlflow run list` shows them.") from error
            raise self._client.refused(error) from error

    def find_ids(self, text: str, limit: int, experiment_id: str) -> list[str]:
        """By exact name, in the experiment before all others, else by the beginning of the id; newest first."""
        named = RunQuery(filter=f"attributes.run_name = {quoted(text)}", limit=limit + 1)
        asked = [replace(named, experiment_ids=[experiment_id]), named] if experiment_id else [named]
        if _ID_LIKE.fullmatch(text):
            asked.append(RunQuery(filter=f"attributes.run_id LIKE '{text}%'", limit=limit + 1))
        for query, runs in zip(asked, self._client.each(self._found, asked), strict=True):
            # An underscore stands for any character there, and some databases do not tell a from A.
            by_name = query.filter == named.filter
            fit = [run for run in runs if (run.name == text if by_name else run.id.startswith(text))]
            if fit:
                newest = sorted(fit, key=lambda run: (-(run.start_time_ms or 0), run.id))
                return [run.id for run in newest[:limit]]
        return []

    def search(self, query: RunQuery) -> list[Run]:
        """Sorted by the service where it can, else here."""
        key = filters.parse_key(query.order_by) if query.order_by else None
        if key is None or key.entity == "attributes" or self._client.limits.order_by_data:
            return _missing_last(self._found(query), key)
        candidates = self._candidates(query, key) if query.limit and key.entity == "metrics" else query.filter
        runs = self._found(RunQuery(query.experiment_ids, candidates, lifecycle=query.lifecycle))
        return _sorted_here(runs, key, query.descending)[: query.limit]

    def set_deleted(self, run_id: str, deleted: bool) -> None:
        try:
            self._client.ask("POST", "runs/delete" if deleted else "runs/restore", {"run_id": run_id})
        except Refused as error:
            if error.code == _REFUSED_VALUE and (self.get(run_id).lifecycle_stage == "deleted") == deleted:
                # It is as it should be already: not an error here, as it is none in a local workspace.
                return
            if error.code == NOT_THERE:
                raise NotFound(f"There is no run {run_id!r}.", "`amlflow run list` shows them.") from error
            raise self._client.refused(error) from error

    def _made(self, body: Mapping[str, Any]) -> dict[str, Any] | None:
        """The run that an earlier attempt with this body has made: of that name, and begun in that millisecond."""
        asked = {"experiment_ids": [body["experiment_id"]], "order_by": ["attributes.start_time DESC"]}
        answer = self._client.ask("POST", "runs/search", {**asked, "max_results": self._client.limits.runs_page})
        for item in answer.get("runs") or []:
            info = item["info"]
            if (info.get("run_name"), int(info.get("start_time") or 0)) == (body["run_name"], body["start_time"]):
                return dict(item)
        return None

    def _candidates(self, query: RunQuery, key: filters.Key) -> str:
        """A filter that leaves few runs more than the best `limit`. Of any page the worst of so many bounds them all, and the
        runs within that bound have a page with a closer one: what is to be read shrinks with each request."""
        limit, sample = query.limit or 0, min(_SAMPLE, self._client.limits.runs_page)
        candidates, bound = query.filter, math.nan
        while limit < sample:
            body = {**self._search_body(query), "filter": candidates, "max_results": sample}
            try:
                answer = self._client.ask("POST", "runs/search", body)
            except Refused:
                # The whole search says what is wrong, or can be had without the bound.
                return query.filter
            if not answer.get("next_page_token"):
                return candidates
            metrics = [self._run(item).metrics.get(key.name) for item in answer.get("runs") or []]
            known = sorted(
                (value for value in metrics if value is not None and _rank(value) == 0), reverse=query.descending
            )
            if len(known) < limit or math.isinf(known[limit - 1]) or known[limit - 1] == bound:
                return candidates
            bound = known[limit - 1]
            # Without an exponent, which not every reader of filters knows.
            text = f"{_order(query.order_by)} {'>=' if query.descending else '<='} {Decimal(repr(bound)):f}"
            candidates = f"{query.filter} AND {text}" if query.filter.strip() else text
        return candidates

    def _search_body(self, query: RunQuery) -> dict[str, Any]:
        return {
            "experiment_ids": list(query.experiment_ids) or list(self._experiments.names()),
            "filter": query.filter,
            "run_view_type": _VIEWS[query.lifecycle],
        }

    def _found(self, query: RunQuery) -> list[Run]:
        body = self._search_body(query)
        if query.order_by:
            body["order_by"] = [f"{_order(query.order_by)} {'DESC' if query.descending else 'ASC'}"]
        try:
            found = self._client.pages("POST", "runs/search", body, "runs", self._client.limits.runs_page, query.limit)
        except Refused as error:
            if error.code == _REFUSED_VALUE and query.filter:
                # Our own reading shows the place at fault; what it can read, and the service cannot, is said as it says it.
                filters.conditions(query.filter)
            raise self._client.refused(error) from error
        self._experiments.names({str(item["info"]["experiment_id"]) for item in found})
        return [self._run(item, query.with_data) for item in found]

    def _run(self, item: Mapping[str, Any], with_data: bool = True) -> Run:
        info, data = item["info"], item.get("data") or {}
        tags = pairs(data.get("tags"))
        experiment_id = str(info["experiment_id"])
        return Run(
            str(info.get("run_id") or info.get("run_uuid")),
            str(info.get("run_name") or tags.get("mlflow.runName", "")),
            experiment_id,
            self._experiments.names({experiment_id}).get(experiment_id, ""),
            info.get("status", "RUNNING"),
            _time_ms(info.get("start_time")),
            _time_ms(info.get("end_time")),
            "deleted" if info.get("lifecycle_stage") == "deleted" else "active",
            str(info.get("artifact_uri", "")),
            str(info.get("user_id", "")),
            {str(m["key"]): number(m.get("value", 0.0)) for m in data.get("metrics") or []} if with_data else {},
            pairs(data.get("params")) if with_data else {},
            tags if with_data else {},
        )

    def _log_refused(self, run_id: str, params: Mapping[str, str], error: Refused) -> AmlflowError:
        """Why a write was refused, from what the run says of itself."""
        if error.code == NOT_THERE:
            return NotFound(f"There is no run {run_id!r}.", "`amlflow run list` shows them.")
        if error.code != _REFUSED_VALUE:
            return self._client.refused(error)
        run = self.get(run_id)
        if run.lifecycle_stage == "deleted":
            return AmlflowError(f"Run {run_id} was deleted.", f"Bring it back with `amlflow run restore {run_id}`.")
        try:
            self._check_unchanged(run_id, run, params)
        except UsageError as changed:
            return changed
        return self._client.refused(error)

    @staticmethod
    def _check_unchanged(run_id: str, run: Run, params: Mapping[str, str]) -> None:
        for key, value in params.items():
            if key in run.params and run.params[key] != str(value):
                raise UsageError(
                    f"The param {key!r} of run {run_id} is {run.params[key]!r} and cannot become {value!r}: params "
                    "never change.",
                    f"Log it under another name, or as a tag: `amlflow log tag {key}={value}`.",
                )


def number(value: float | str) -> float:
    """A metric as it was logged: NaN and the infinities come as words, or as the largest numbers that SQL holds."""
    found = float(value)
    return found if math.isnan(found) else decoded(found, 0)


def _batches(
    metrics: Sequence[Mapping[str, Any]],
    params: Sequence[Mapping[str, Any]],
    tags: Sequence[Mapping[str, Any]],
    limits: ServerLimits,
) -> list[dict[str, Any]]:
    """At least one, so that a run that does not exist is noticed."""
    apart = len(params) <= limits.params and len(tags) <= limits.tags and len(metrics) <= limits.metrics
    if apart and len(params) + len(tags) + len(metrics) <= limits.batch:
        return [{"metrics": metrics, "params": params, "tags": tags}]
    return [
        *({"params": part} for part in _parts(params, min(limits.params, limits.batch))),
        *({"metrics": part} for part in _parts(metrics, min(limits.metrics, limits.batch))),
        *({"tags": part} for part in _parts(tags, min(limits.tags, limits.batch))),
    ]


def _parts(items: Sequence[_Item], size: int) -> Iterable[list[_Item]]:
    remaining = iter(items)
    while part := list(islice(remaining, size)):
        yield part


def _order(text: str) -> str:
    key = filters.parse_key(text)
    quote = '"' if "`" in key.name else "`"
    return f"{key.entity}.{quote}{key.name}{quote}"


def _missing_last(runs: list[Run], key: filters.Key | None) -> list[Run]:
    """Numbers, then NaN, then runs without the metric: how a server's database sorts what is missing is its own affair."""
    if key is None or key.entity != "metrics":
        return runs
    return sorted(runs, key=lambda run: _rank(run.metrics.get(key.name))) if any(run.metrics for run in runs) else runs


def _rank(value: float | None) -> int:
    return 2 if value is None else 1 if math.isnan(value) else 0


def _sorted_here(runs: Sequence[Run], key: filters.Key, descending: bool) -> list[Run]:
    newest = sorted(runs, key=lambda run: (-(run.start_time_ms or 0), run.id))
    if key.entity == "metrics":
        known = [run for run in newest if _rank(run.metrics.get(key.name)) == 0]
        rest = sorted(
            (run for run in newest if _rank(run.metrics.get(key.name))), key=lambda r: _rank(r.metrics.get(key.name))
        )
        return [*sorted(known, key=lambda run: run.metrics[key.name], reverse=descending), *rest]
    texts = {run.id: (run.params if key.entity == "params" else run.tags).get(key.name) for run in newest}
    with_text = sorted(
        (run for run in newest if texts[run.id] is not None), key=lambda run: texts[run.id] or "", reverse=descending
    )
    return [*with_text, *(run for run in newest if texts[run.id] is None)]


def _time_ms(value: Any) -> int | None:
    return int(value) if value not in (None, "") else None


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
