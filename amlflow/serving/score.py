"""The scoring script of online endpoints, for Azure ML's inference server, which calls `init` once and `run` for each request.

A request may have any form that the scoring app takes; the answer is the predictions alone, as the service's own script for
MLflow models answers. This file lies beside the folder `amlflow_serving` with the loader."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from pathlib import Path
from typing import Any, Optional

from azureml_inference_server_http.api.aml_request import rawhttp
from azureml_inference_server_http.api.aml_response import AMLResponse

PACKAGE = "amlflow_serving"
# What the service sets where it collects data.
_COLLECTING = ("AZUREML_MDC_CONFIG_PATH", "AZUREML_MDC_ENABLED")

_model: Any = None
_collected: Optional[_Collected] = None


def init() -> None:
    """Load the model; what it raises ends the server, and stands in its log."""
    global _model, _collected
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    _model = importlib.import_module(f"{PACKAGE}.loader").load(_model_folder())
    _collected = _Collected() if any(os.environ.get(name) for name in _COLLECTING) else None
    print(f"The model is loaded ({_model.how}).", flush=True)  # noqa: T201 - the server's log


@rawhttp  # type: ignore[untyped-decorator]
def run(request: Any) -> Any:
    """The answer to one request, a Flask one."""
    payload = importlib.import_module(f"{PACKAGE}.payload")
    if request.method != "POST":
        return _error(405, "MethodNotAllowed", f"/score takes POST, not {request.method}.")
    try:
        asked = payload.parse(request.get_data(), request.content_type or "")
        # The model may convert the rows in place.
        rows = [list(row) if isinstance(row, list) else row for row in asked.rows] if _collected else []
        predictions = _model.predict(asked)
    except payload.Refused as error:
        return _error(error.status, error.code, error.message)
    except Exception as error:
        traceback.print_exc()
        reason = " ".join(str(error).split())[:300]
        return _error(500, "ModelError", f"The model failed: {type(error).__name__}{': ' + reason if reason else ''}.")
    if _collected is not None:
        _collected.keep(asked.columns, rows, predictions)
    return AMLResponse(predictions, 200, json_str=True)


class _Collected:
    """Requests and answers on their way to the service's data collector. Its failures are no request's."""

    def __init__(self) -> None:
        from azureml.ai.monitoring import Collector

        self._inputs = Collector(name="model_inputs", on_error=self._note)
        self._outputs = Collector(name="model_outputs", on_error=self._note)

    def keep(self, columns: Optional[list[str]], rows: list[Any], predictions: Any) -> None:
        import pandas

        try:
            context = self._inputs.collect(pandas.DataFrame(rows, columns=columns))
            named = bool(predictions) and isinstance(predictions, list) and isinstance(predictions[0], dict)
            answer = pandas.DataFrame(predictions) if named else pandas.DataFrame({"output": predictions})
            self._outputs.collect(answer, context)
        except Exception as error:
            self._note(error)

    @staticmethod
    def _note(error: Exception) -> None:
        print(f"The data collector took nothing: {error}", file=sys.stderr, flush=True)  # noqa: T201


def _model_folder() -> Path:
    """Where the MLmodel file is: the service keeps a model below a folder of the name that it was uploaded as."""
    root = Path(os.environ["AZUREML_MODEL_DIR"])
    for pattern in ("MLmodel", "*/MLmodel", "*/*/MLmodel"):
        for file in sorted(root.glob(pattern)):
            return file.parent
    raise FileNotFoundError(f"There is no MLmodel file in {root}.")


def _error(status: int, code: str, message: str) -> Any:
    return AMLResponse({"error": {"code": code, "message": message}}, status, json_str=True)
