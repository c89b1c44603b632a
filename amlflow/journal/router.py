"""What becomes of each call of MLflow's tracking interface: written to the journal, answered from it, or passed on.

Calls come in the form of MLflow's REST API (method, path, body), so one place serves every version of MLflow's client. Writes of
a run are appended and answered at once. Reads of a run that is written here are answered from its journal. Any other read waits
until what was written has been sent, and goes to the workspace behind.
"""

from __future__ import annotations

import re
import threading
import time
from typing import Any, Callable, Dict, Iterable, List, Mapping, Optional

from . import beginnings, emulated, records, view
from .errors import Refused, Unreachable
from .folder import GENERAL, Journal, RunFolder
from .locations import Locations
from .rest import Behind

_ROUTE = re.compile(r"/(?:ajax-)?api/\d\.\d/mlflow/(.+)")
FLUSH_TIMEOUT_S = 60.0


class OpenRun:
    """A run that this process writes to."""

    def __init__(self, folder: RunFolder, durability: str) -> None:
        self.folder = folder
        self.writer = folder.writer(durability)
        self.append = self.writer.append
        self._view: Optional[view.RunView] = None
        self._lock = threading.Lock()

    def view(self) -> view.RunView:
        with self._lock:
            if self._view is None:
                self._view = view.RunView(self.folder)
            return self._view.refresh()


class Router:
    """One journal and the workspace behind it. `wake` sees to it that somebody sends what is written."""

    def __init__(
        self,
        journal: Journal,
        behind: Optional[Behind],
        *,
        offline: bool = False,
        durability: str = "process",
        wake: Callable[[], None] = lambda: None,
    ) -> None:
        self.journal, self.behind, self._wake = journal, behind, wake
        self.locations = Locations(journal)
        self.offline = offline or behind is None
        self._durability = durability
        self._runs: Dict[str, OpenRun] = {}
        self._lock = threading.Lock()
        self._lacks_models: Optional[bool] = None
        self._woken = False

    # ------------------------------------------------------------------ writes of a run

    def open(self, run_id: str) -> OpenRun:
        """The run to write to; one that has no journal yet gets one, begun with what the workspace knows of it."""
        found = self._runs.get(run_id)
        if found is None:
            with self._lock:
                found = self._runs.get(run_id)
                if found is None:
                    folder = self.journal.run(run_id)
                    if not folder.exists():
                        folder.begin(self._base(run_id))
                    found = self._runs[run_id] = OpenRun(folder, self._durability)
            self._awake()
        return found

    def params(self, run_id: str, pairs: Iterable[List[str]]) -> List[List[str]]:
        """Those that are new. Raises `Refused` for a param that was logged before with another value."""
        known = self.open(run_id).view().params
        new: Dict[str, str] = {}
        for key, value in pairs:
            before = known.get(key, new.get(key))
            if before is not None and before != value:
                raise Refused(
                    400,
                    "INVALID_PARAMETER_VALUE",
                    f"The param {key!r} of run {run_id} is {before!r} and cannot become {value!r}: params never change. "
                    "Log it under another name, or as a tag.",
                )
            if before is None:
                new[key] = value
        return [[key, value] for key, value in new.items()]

    def call(self, method: str, path: str, body: Mapping[str, Any]) -> Dict[str, Any]:
        """Answer one call. Raises `Refused` or `Unreachable`."""
        match = _ROUTE.fullmatch(path.split("?")[0])
        route = match.group(1) if match else path
        handler = _HANDLERS.get((method, route))
        if handler is not None:
            return handler(self, method, path, dict(body))
        if route.startswith("logged-models"):
            return self._logged_model(method, path, route, dict(body))
        if method == "POST" and route == "traces" and "trace" in body:
            return self._start_trace(path, dict(body))
        return self.pass_on(method, path, body)

    def pass_on(
        self, method: str, path: str, body: Mapping[str, Any], flush: bool = True, timeout_s: Optional[float] = None
    ) -> Dict[str, Any]:
        """Ask the workspace, after it has all that was written here."""
        if flush:
            self.flush()
        return self.ask(method, path, body, timeout_s=timeout_s)

    def ask(
        self,
        method: str,
        path: str,
        body: Optional[Mapping[str, Any]] = None,
        *,
        timeout_s: Optional[float] = None,
        retry: bool = True,
    ) -> Dict[str, Any]:
        """Ask the workspace at once, in its own ids and addresses. Raises `Refused` or `Unreachable`."""
        if self.behind is None or self.offline:
            raise Unreachable("this program works offline, and what it asks for is in the workspace alone")
        inward = self.locations.inward(dict(body or {}))
        answer = self.behind.request(method, self.locations.inward_text(path), inward, timeout_s=timeout_s, retry=retry)
        return self.locations.outward(answer)

    def ask_once(self, method: str, path: str, body: Mapping[str, Any], timeout_s: float) -> Dict[str, Any]:
        """Ask without patience, and get the answer as the workspace gave it."""
        if self.behind is None or self.offline:
            raise Unreachable("this program works offline")
        return self.behind.request(method, path, self.locations.inward(dict(body)), timeout_s=timeout_s, retry=False)

    def flush(self, run_ids: Optional[Iterable[str]] = None, timeout_s: float = FLUSH_TIMEOUT_S) -> bool:
        """Wait until what this process wrote has been sent. False where it has not: the time is up, or it cannot be sent now."""
        folders = [self.journal.run(run_id) for run_id in (list(run_ids) if run_ids is not None else list(self._runs))]
        waiting = [folder for folder in folders if folder.pending_bytes()]
        if not waiting or self.offline:
            return not waiting
        self._awake(again=True)
        deadline = time.monotonic() + timeout_s
        pause = 0.002
        while waiting:
            waiting = [folder for folder in waiting if folder.pending_bytes()]
            if any(folder.problem() for folder in waiting) or (waiting and time.monotonic() > deadline):
                return False
            if waiting:
                time.sleep(pause)
                pause = min(0.05, pause * 1.5)
        return True

    def sync(self) -> None:
        """Make the disk have what was written, at the end of a program."""
        for run in list(self._runs.values()):
            run.writer.flush()

    # ------------------------------------------------------------------ handlers

    def _log_metric(self, method: str, path: str, body: Dict[str, Any]) -> Dict[str, Any]:
        self.open(_run_id(body)).append([records.METRIC, *point(body)])
        return {}

    def _log_param(self, method: str, path: str, body: Dict[str, Any]) -> Dict[str, Any]:
        run_id = _run_id(body)
        for key, value in self.params(run_id, [[body["key"], body.get("value", "")]]):
            self.open(run_id).append([records.PARAM, key, value])
        return {}

    def _set_tag(self, method: str, path: str, body: Dict[str, Any]) -> Dict[str, Any]:
        self.open(_run_id(body)).append([records.TAG, body["key"], body.get("value", "")])
        return {}

    def _delete_tag(self, method: str, path: str, body: Dict[str, Any]) -> Dict[str, Any]:
        run = self.open(_run_id(body))
        if body["key"] not in run.view().tags:
            raise Refused(404, "RESOURCE_DOES_NOT_EXIST", f"Run {run.folder.id} has no tag {body['key']!r}.")
        run.append([records.DELETED_TAG, body["key"]])
        return {}

    def _log_batch(self, method: str, path: str, body: Dict[str, Any]) -> Dict[str, Any]:
        points = [point(item) for item in body.get("metrics", [])]
        params = [[item["key"], item.get("value", "")] for item in body.get("params", [])]
        tags = [[item["key"], item.get("value", "")] for item in body.get("tags", [])]
        self.batch(_run_id(body), points, params, tags)
        return {}

    def batch(
        self, run_id: str, points: List[List[Any]], params: List[List[str]], tags: List[List[str]], most: int = 1000
    ) -> None:
        """Many writes as one: all of them or, where a param contradicts, none. At most `most` points become one record."""
        new = self.params(run_id, params) if params else []
        parts = [points[start : start + most] for start in range(0, len(points), most)] or [[]]
        lines: List[List[Any]] = [[records.BATCH, part, [], []] for part in parts[:-1]]
        if parts[-1] or new or tags:
            lines.append([records.BATCH, parts[-1], new, tags])
        self.open(run_id).writer.extend(lines)

    def _request(self, method: str, path: str, body: Dict[str, Any]) -> Dict[str, Any]:
        self.open(_run_id(body)).append([records.REQUEST, method, path, body])
        return {}

    def _update_run(self, method: str, path: str, body: Dict[str, Any]) -> Dict[str, Any]:
        run = self.open(_run_id(body))
        change = {key: body[key] for key in ("status", "end_time", "run_name") if body.get(key) not in (None, "")}
        if "run_name" in change:
            run.append([records.TAG, "mlflow.runName", change["run_name"]])
        run.append([records.UPDATED, change])
        if change.get("status") in ("FINISHED", "FAILED", "KILLED"):
            run.writer.flush()
        return {"run_info": self.locations.outward_run({"info": run.view().info})["info"]}

    def _get_run(self, method: str, path: str, body: Dict[str, Any]) -> Dict[str, Any]:
        run_id = _run_id(body)
        if run_id in self._runs or self.journal.run(run_id).exists():
            return {"run": self.locations.outward_run(self.open(run_id).view().run())}
        return self.pass_on(method, path, {**body, "run_id": self.journal.real_id(run_id)}, flush=False)

    def _history(self, method: str, path: str, body: Dict[str, Any]) -> Dict[str, Any]:
        run_id = _run_id(body)
        if self.journal.run(run_id).exists():
            seen = self.open(run_id).view()
            if seen.whole or self.offline:
                return {"metrics": seen.history(body["metric_key"])}
            self.flush([run_id])
        return self.pass_on(method, path, body, flush=False)

    def _create_run(self, method: str, path: str, body: Dict[str, Any]) -> Dict[str, Any]:
        return {"run": beginnings.run(self, path, body)}

    def _experiment(self, method: str, path: str, body: Dict[str, Any]) -> Dict[str, Any]:
        return beginnings.experiment(self, method, path, body)

    # ------------------------------------------------------------------ logged models and traces

    def _logged_model(self, method: str, path: str, route: str, body: Dict[str, Any]) -> Dict[str, Any]:
        """Where the workspace has no logged models, or cannot be asked, they are kept here and in the run's artifacts."""
        kept = emulated.Models(self)
        model_id = route.split("/")[1] if "/" in route else ""
        if kept.has(model_id):
            return kept.call(method, route, body)
        if method == "POST" and route == "logged-models" and self._lacks_models:
            return kept.create(body)
        if route == "logged-models/search":
            return kept.search(self, method, path, body)
        try:
            if method == "POST" and route == "logged-models":
                answer = self.ask(method, path, body, timeout_s=None, retry=False)
            else:
                answer = self.pass_on(method, path, body)
        except Unreachable:
            if method == "POST" and route == "logged-models":
                return kept.create(body)
            raise
        except Refused as error:
            if not error.lacks_route:
                raise
            self._lacks_models = True
            if method == "POST" and route == "logged-models":
                return kept.create(body)
            if model_id and kept.find(model_id):
                return kept.call(method, route, body)
            raise Refused(404, "RESOURCE_DOES_NOT_EXIST", f"There is no logged model {model_id!r}.") from error
        return answer

    def _start_trace(self, path: str, body: Dict[str, Any]) -> Dict[str, Any]:
        info = body["trace"].setdefault("trace_info", {})
        self.general(info.get("trace_metadata", {}).get("mlflow.sourceRun", "")).append(
            [records.REQUEST, "POST", path, body]
        )
        # The spans come by a call of their own; MLflow is not to look for a folder to put them into.
        tags = {"mlflow.trace.spansLocation": "TRACKING_STORE", **info.get("tags", {})}
        return {"trace": {**body["trace"], "trace_info": {**info, "tags": tags}}}

    def general(self, run_id: str = "") -> OpenRun:
        """The journal of a run, or of what belongs to none."""
        if run_id and (run_id in self._runs or self.journal.run(run_id).exists()):
            return self.open(run_id)
        folder = self.journal.run(GENERAL)
        if not folder.exists():
            folder.begin({"run": {"info": {"run_id": GENERAL}}, "fresh": True, "offline": False})
        return self.open(GENERAL)

    # ------------------------------------------------------------------ helpers

    def _base(self, run_id: str) -> Dict[str, Any]:
        try:
            body = {"run_id": self.journal.real_id(run_id), "run_uuid": self.journal.real_id(run_id)}
            answer = self.ask_once("GET", "/api/2.0/mlflow/runs/get", body, beginnings.TIMEOUT_S)
        except Unreachable:
            # What is logged is kept all the same; whether there is such a run is seen when it is sent.
            info = {"run_id": run_id, "run_uuid": run_id, "status": "RUNNING", "lifecycle_stage": "active"}
            return {"run": {"info": {**info, "artifact_uri": ""}}, "fresh": False, "offline": False}
        return {"run": answer["run"], "fresh": False, "offline": False}

    def _awake(self, again: bool = False) -> None:
        if not self.offline and (again or not self._woken):
            self._woken = True
            self._wake()


def point(metric: Mapping[str, Any]) -> List[Any]:
    """A metric of MLflow's REST API as a record has it."""
    extra = {key: metric[key] for key in ("model_id", "dataset_name", "dataset_digest") if metric.get(key)}
    found = [
        metric["key"],
        view.number(metric.get("value", 0.0)),
        int(metric.get("step") or 0),
        int(metric["timestamp"]),
    ]
    return [*found, extra] if extra else found


def _run_id(body: Mapping[str, Any]) -> str:
    return str(body.get("run_id") or body.get("run_uuid") or "")


_Handler = Callable[[Router, str, str, Dict[str, Any]], Dict[str, Any]]
_HANDLERS: Dict[Any, _Handler] = {
    ("POST", "runs/log-metric"): Router._log_metric,
    ("POST", "runs/log-parameter"): Router._log_param,
    ("POST", "runs/set-tag"): Router._set_tag,
    ("POST", "runs/delete-tag"): Router._delete_tag,
    ("POST", "runs/log-batch"): Router._log_batch,
    ("POST", "runs/log-model"): Router._request,
    ("POST", "runs/log-inputs"): Router._request,
    ("POST", "runs/outputs"): Router._request,
    ("POST", "runs/update"): Router._update_run,
    ("GET", "runs/get"): Router._get_run,
    ("POST", "runs/create"): Router._create_run,
    ("GET", "metrics/get-history"): Router._history,
    ("GET", "experiments/get"): Router._experiment,
    ("GET", "experiments/get-by-name"): Router._experiment,
    ("POST", "experiments/create"): Router._experiment,
}
