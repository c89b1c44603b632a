"""Which requests are answered from SQL here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import unquote

from amlflow.workspaces.local.rest import experiments, files, logging, models, registered, runs, versions
from amlflow.workspaces.local.rest.call import Handler, Route

# The same routes stand under both; the second is the web interface's.
_PREFIX = re.compile(r"/(?:ajax-)?api/2\.0/mlflow/")


def _reads(handler: Handler) -> Route:
    return Route(handler, "read")


def _writes(handler: Handler) -> Route:
    return Route(handler, "write")


def _notifies(handler: Handler) -> Route:
    return Route(handler, "write", notifies=True)


# By method and path below /api/2.0/mlflow/; a place in braces is one part of the path.
ROUTES: Mapping[str, Route] = {
    "POST experiments/create": _writes(experiments.create),
    "GET experiments/get": _reads(experiments.get),
    "GET experiments/get-by-name": _reads(experiments.get_by_name),
    "GET experiments/search": _reads(experiments.search),
    "POST experiments/search": _reads(experiments.search),
    "POST experiments/update": _writes(experiments.update),
    "POST experiments/delete": _writes(experiments.delete),
    "POST experiments/restore": _writes(experiments.restore),
    "POST experiments/set-experiment-tag": _writes(experiments.set_tag),
    "POST experiments/delete-experiment-tag": _writes(experiments.delete_tag),
    "POST runs/create": _writes(runs.create),
    "GET runs/get": _reads(runs.get),
    "POST runs/update": _writes(runs.update),
    "POST runs/delete": _writes(runs.delete),
    "POST runs/restore": _writes(runs.restore),
    "POST runs/search": _reads(runs.search),
    "POST runs/set-tag": _writes(runs.set_tag),
    "POST runs/delete-tag": _writes(runs.delete_tag),
    "POST runs/log-batch": _writes(logging.log_batch),
    "POST runs/log-metric": _writes(logging.log_metric),
    "POST runs/log-parameter": _writes(logging.log_param),
    "POST runs/log-model": _writes(logging.log_model),
    "POST runs/log-inputs": _writes(logging.log_inputs),
    "POST runs/outputs": _writes(logging.log_outputs),
    "GET metrics/get-history": _reads(logging.metric_history),
    "GET artifacts/list": _reads(files.of_run),
    "POST logged-models": _writes(models.create),
    "POST logged-models/search": _reads(models.search),
    "GET logged-models/{model_id}": _reads(models.get),
    "PATCH logged-models/{model_id}": _writes(models.finalize),
    "DELETE logged-models/{model_id}": _writes(models.delete),
    "POST logged-models/{model_id}/params": _writes(models.log_params),
    "PATCH logged-models/{model_id}/tags": _writes(models.set_tags),
    "DELETE logged-models/{model_id}/tags/{tag_key}": _writes(models.delete_tag),
    "GET logged-models/{model_id}/artifacts/directories": _reads(files.of_model),
    "POST registered-models/create": _notifies(registered.create),
    "GET registered-models/get": _reads(registered.get),
    "GET registered-models/search": _reads(registered.search),
    "PATCH registered-models/update": _notifies(registered.update),
    "DELETE registered-models/delete": _notifies(registered.delete),
    "GET registered-models/get-latest-versions": _reads(registered.latest),
    "POST registered-models/get-latest-versions": _reads(registered.latest),
    "POST registered-models/set-tag": _notifies(registered.set_tag),
    "DELETE registered-models/delete-tag": _notifies(registered.delete_tag),
    "POST registered-models/alias": _notifies(registered.set_alias),
    "GET registered-models/alias": _reads(registered.get_alias),
    "DELETE registered-models/alias": _notifies(registered.delete_alias),
    "POST model-versions/create": _notifies(versions.create),
    "GET model-versions/get": _reads(versions.get),
    "GET model-versions/search": _reads(versions.search),
    "GET model-versions/get-download-uri": _reads(versions.download_uri),
    "PATCH model-versions/update": _notifies(versions.update),
    "DELETE model-versions/delete": _notifies(versions.delete),
    "POST model-versions/transition-stage": _notifies(versions.transition),
    "POST model-versions/set-tag": _notifies(versions.set_tag),
    "DELETE model-versions/delete-tag": _notifies(versions.delete_tag),
}


class Table:
    """Routes by method and path."""

    def __init__(self, routes: Mapping[str, Route]) -> None:
        self._plain = {key: route for key, route in routes.items() if "{" not in key}
        self._placed = [
            (re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", key)), route)
            for key, route in routes.items()
            if "{" in key
        ]

    def find(self, method: str, path: str) -> tuple[Route, Mapping[str, str]] | None:
        """The route of a quoted path such as `/api/2.0/mlflow/runs/get`, and the values of its places; None for another."""
        prefix = _PREFIX.match(path)
        if prefix is None:
            return None
        key = f"{method} {path[prefix.end() :]}"
        route = self._plain.get(key)
        if route is not None:
            return route, {}
        for pattern, placed in self._placed:
            match = pattern.fullmatch(key)
            if match:
                return placed, {name: unquote(value) for name, value in match.groupdict().items()}
        return None
