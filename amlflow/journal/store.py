"""MLflow's tracking store for the scheme `amlflow`: what MLflow's client calls, led to the router.

It is MLflow's own REST store with another end: each of its methods builds a request of MLflow's REST API, and instead of the
network the router gets it. The few methods that training loops call are answered without building one.
"""

from __future__ import annotations

import base64
import contextlib
import json
import logging
import os
import re
from typing import Any, Dict, List, Optional

from mlflow.exceptions import MlflowException, RestException
from mlflow.protos.databricks_pb2 import INTERNAL_ERROR, INVALID_PARAMETER_VALUE, TEMPORARILY_UNAVAILABLE
from mlflow.store.tracking import rest_store
from mlflow.tracking._tracking_service import client as tracking_client
from mlflow.utils import validation
from mlflow.utils.proto_json_utils import parse_dict

from . import datasets as dataset_rows
from . import records
from .errors import Refused, Unreachable
from .router import Router

_MOST_KEY = 250
_LOST_MODEL = re.compile(r"unexpected error during .*autologging|failed when saving model|exception .*logging .*model")


class JournalStore(rest_store.RestStore):  # type: ignore[misc]
    """Raises `MlflowException` wherever MLflow's own stores do, with the error codes that they use."""

    def __init__(self, router: Router) -> None:
        super().__init__(_no_host)
        self.router = router
        self._rows_kept = dataset_rows.most_rows()
        if self._rows_kept:
            dataset_rows.remember()
        _print_no_address()
        _note_lost_models(router)

    def _call_endpoint(
        self,
        api: Any,
        json_body: Optional[str] = None,
        endpoint: Optional[str] = None,
        retry_timeout_seconds: Optional[int] = None,
        response_proto: Any = None,
    ) -> Any:
        path, method = self._route(api)
        path = endpoint or path
        body = json.loads(json_body) if json_body else {}
        if method == "GET" and "?" in path:
            path, _, query = path.partition("?")
            body.update(dict(pair.split("=", 1) for pair in query.split("&")))
        answer = response_proto if response_proto is not None else api.Response()
        parse_dict(asked(self.router, method, path, body), answer)
        return answer

    def _route(self, api: Any) -> Any:
        newer = getattr(self, "_V3_APIS", ())
        if api in newer:
            return self._V3_METHOD_TO_INFO[api]
        known = getattr(self, "_METHOD_TO_INFO", None) or rest_store._METHOD_TO_INFO
        return known[api]

    def log_inputs(self, run_id: str, datasets: Any = None, *rest: Any, **others: Any) -> None:
        """As MLflow does; and the rows are kept where that is asked for, or a warning says why they are not."""
        super().log_inputs(run_id, datasets, *rest, **others)
        if not self._rows_kept or not datasets:
            return
        warn = logging.getLogger("mlflow").warning
        try:
            dataset_rows.keep(datasets, self.get_run(run_id).info.artifact_uri, self._rows_kept, warn)
        except Exception as error:
            warn("The rows of the run's datasets could not be kept: %s", error)

    # What follows is called in loops.

    def log_metric(self, run_id: str, metric: Any) -> None:
        self._checked(validation._validate_metric_name, metric.key)
        extra = _extra(metric)
        record = [records.METRIC, metric.key, _float(metric), int(metric.step), int(metric.timestamp)]
        self._write(run_id, [*record, extra] if extra else record)

    def log_param(self, run_id: str, param: Any) -> None:
        self._checked(validation._validate_param_name, param.key)
        value = _text("param", param.key, param.value, validation.MAX_PARAM_VAL_LENGTH)
        for key, new in translated(lambda: self.router.params(run_id, [[param.key, value]])):
            self._write(run_id, [records.PARAM, key, new])

    def set_tag(self, run_id: str, tag: Any) -> None:
        self._checked(validation._validate_tag_name, tag.key)
        most = getattr(validation, "MAX_TAG_VAL_LENGTH", 8000)
        self._write(run_id, [records.TAG, tag.key, _text("tag", tag.key, tag.value, most)])

    def log_batch(self, run_id: str, metrics: Any, params: Any, tags: Any) -> None:
        points: List[List[Any]] = []
        for metric in metrics:
            self._checked(validation._validate_metric_name, metric.key)
            extra = _extra(metric)
            found = [metric.key, _float(metric), int(metric.step), int(metric.timestamp)]
            points.append([*found, extra] if extra else found)
        for param in params:
            self._checked(validation._validate_param_name, param.key)
        for tag in tags:
            self._checked(validation._validate_tag_name, tag.key)
        most = getattr(validation, "MAX_TAG_VAL_LENGTH", 8000)
        pairs = [[p.key, _text("param", p.key, p.value, validation.MAX_PARAM_VAL_LENGTH)] for p in params]
        marks = [[tag.key, _text("tag", tag.key, tag.value, most)] for tag in tags]
        translated(lambda: self.router.batch(run_id, points, pairs, marks))

    def log_spans(self, location: str, spans: Any, tracking_uri: Any = None) -> Any:
        """Keep spans as MLflow would send them: an OpenTelemetry request, to be sent when the workspace can be reached."""
        if not spans:
            return []
        from mlflow.tracing.utils.otlp import MLFLOW_EXPERIMENT_ID_HEADER, OTLP_TRACES_PATH, resource_to_otel_proto
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

        request = ExportTraceServiceRequest()
        added = request.resource_spans.add()
        added.resource.CopyFrom(resource_to_otel_proto(getattr(spans[0]._span, "resource", None)))
        added.scope_spans.add().spans.extend(span.to_otel_proto() for span in spans)
        raw = {
            "raw": base64.b64encode(request.SerializeToString()).decode("ascii"),
            "headers": {"Content-Type": "application/x-protobuf", MLFLOW_EXPERIMENT_ID_HEADER: location},
        }
        translated(lambda: self.router.general().append([records.REQUEST, "POST", OTLP_TRACES_PATH, raw]))
        return spans

    def _write(self, run_id: str, record: List[Any]) -> None:
        try:
            self.router.open(run_id).append(record)
        except OSError as error:
            raise _unwritable(error) from error

    def _checked(self, check: Any, name: str) -> None:
        check(name)
        if len(name) > _MOST_KEY:
            raise MlflowException(
                f"The name {name[:40]!r}… has {len(name)} characters; at most {_MOST_KEY} are allowed.",
                error_code=INVALID_PARAMETER_VALUE,
            )


def asked(router: Router, method: str, path: str, body: Dict[str, Any]) -> Dict[str, Any]:
    """The router's answer, its refusals in MLflow's own exceptions."""
    found: Dict[str, Any] = translated(lambda: router.call(method, path, body))
    return found


def translated(act: Any) -> Any:
    try:
        return act()
    except Refused as error:
        raise RestException({"error_code": error.code or "INTERNAL_ERROR", "message": error.message}) from error
    except Unreachable as error:
        raise MlflowException(
            f"The workspace cannot be asked: {error.reason}. What was logged is kept here; `amlflow sync` sends it.",
            error_code=TEMPORARILY_UNAVAILABLE,
        ) from error
    except OSError as error:
        raise _unwritable(error) from error


def _unwritable(error: OSError) -> MlflowException:
    return MlflowException(
        f"The journal cannot be written: {error.strerror or error} ({error.filename or 'its folder'}). Free some space; what was "
        "logged before is kept.",
        error_code=INTERNAL_ERROR,
    )


def _float(metric: Any) -> float:
    try:
        value = float(metric.value)
    except (TypeError, ValueError):
        raise MlflowException(
            f"Got invalid value {metric.value!r} for metric {metric.key!r}: a metric is a number.",
            error_code=INVALID_PARAMETER_VALUE,
        ) from None
    if metric.timestamp is None or metric.timestamp < 0:
        raise MlflowException(
            f"Got invalid timestamp {metric.timestamp!r} for metric {metric.key!r}.", error_code=INVALID_PARAMETER_VALUE
        )
    return value


def _extra(metric: Any) -> Dict[str, Any]:
    if getattr(metric, "model_id", None) is None and getattr(metric, "dataset_name", None) is None:
        return {}
    found = {key: getattr(metric, key, None) for key in ("model_id", "dataset_name", "dataset_digest")}
    return {key: value for key, value in found.items() if value}


def _text(what: str, key: str, value: Any, most: int) -> str:
    text = str(value)
    if len(text) > most:
        raise MlflowException(
            f"The {what} {key!r} has a value of {len(text)} characters; at most {most} are allowed. Keep longer text as a file: "
            f"mlflow.log_text(text, '{key}.txt').",
            error_code=INVALID_PARAMETER_VALUE,
        )
    return text


class _LostModels(logging.Handler):
    """MLflow's autologging says that it could not log a model by a warning alone, which is soon out of sight. It is noted in the
    journal, so that whoever ends the run can say it aloud."""

    def __init__(self, router: Router) -> None:
        super().__init__(logging.WARNING)
        self._router = router

    def emit(self, record: logging.LogRecord) -> None:
        text = " ".join(record.getMessage().split())
        if _LOST_MODEL.search(text):
            with contextlib.suppress(Exception):
                self._router.general(os.environ.get("AMLFLOW_RUN", "")).append([records.NOTE, text[:2000]])


def _note_lost_models(router: Router) -> None:
    logger = logging.getLogger("mlflow")
    if not any(isinstance(handler, _LostModels) for handler in logger.handlers):
        logger.addHandler(_LostModels(router))


def _no_host() -> Any:
    raise MlflowException("The amlflow store was asked for a host: this call of MLflow is not led through the journal.")


def _print_no_address() -> None:
    """MLflow prints where a run can be seen in a browser when it ends in a REST store; an address of the journal is none."""
    client = tracking_client.TrackingServiceClient
    original = getattr(client, "_log_url", None)
    if original is None or getattr(original, "by_amlflow", False):
        return

    def _log_url(self: Any, run_id: str) -> None:
        if not isinstance(self.store, JournalStore):
            original(self, run_id)

    _log_url.by_amlflow = True  # type: ignore[attr-defined]
    client._log_url = _log_url
