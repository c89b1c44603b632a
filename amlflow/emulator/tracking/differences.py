"""What Azure ML's MLflow server refuses that the open-source one takes: routes that it has not, and its limits."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from amlflow.errors import UsageError
from amlflow.workspaces.local import filters
from amlflow.workspaces.local.rest import BatchLimits

BATCH_LIMITS = BatchLimits(metrics=250, params=100, tags=100, together=1000)
PARAMS_A_RUN, TAGS_A_RUN = 200, 50
TAG_KEY, TAG_VALUE, METRIC_NAME, NAME, DESCRIPTION = 100, 1000, 255, 256, 5000
HISTORY_PAGE = 1000
# What the server has of the API, below /api/2.0/mlflow/: everything else is a 404 without a body.
KNOWN = re.compile(
    r"(?:experiments/(?:create|get|get-by-name|search|list|update|delete|restore|set-experiment-tag)"
    r"|runs/(?:create|get|update|delete|restore|search|set-tag|delete-tag|log-batch|log-metric|log-parameter|log-model|log-inputs)"
    r"|runs/(?:log-batch-async|get-run-data-status)"
    r"|metrics/get-history|artifacts/list"
    r"|registered-models/(?:create|get|search|list|update|get-latest-versions|set-tag|delete-tag|delete|rename|alias)"
    r"|model-versions/(?:create|get|search|get-download-uri|update|delete|transition-stage|set-tag|delete-tag))"
)
_SORT = re.compile(r"\s*(?P<key>.*?)(?:\s+(?:asc|desc))?\s*", re.IGNORECASE | re.DOTALL)
_DATA_KEY = re.compile(r"(?:metrics?|params?|parameters?|tags?)\s*\.", re.IGNORECASE)
_CLAUSE = re.compile(
    r"(?P<entity>params?|parameters?|tags?|attributes?|attr|run)\.\S+?\s*(?P<operator>!=|>=|<=|=|>|<|ilike\b|like\b)",
    re.IGNORECASE,
)
_STATUS = re.compile(r"((?:attributes?|attr|run)\.)?status\s*(=|!=)\s*'(\w+)'", re.IGNORECASE)


class Refusal(Exception):
    """Invalid, by the server's rules."""


def check(path: str, body: Mapping[str, Any]) -> None:
    """Raises the refusal of a request that is beyond what the server takes."""
    if path == "experiments/create":
        _length(body.get("name"), NAME, "experiment name")
    elif path == "experiments/update" and body.get("new_name"):
        raise Refusal("Renaming an experiment is not supported.")
    elif path == "runs/search":
        _check_search(body)
    elif path in ("registered-models/rename", "registered-models/delete"):
        what = path.rpartition("/")[2]
        raise Refusal(f"The operation '{what}' of a registered model is not supported.")
    elif path in ("registered-models/search", "model-versions/search"):
        _check_registry_search(body)
    elif path in ("registered-models/create", "registered-models/set-tag", "model-versions/create"):
        if any(str(tag).startswith("mlflow.prompt") for tag in _tag_keys(body)):
            raise Refusal("Prompts are not supported.")
    elif path.startswith("runs/"):
        _check_names(body)
        _check_tags(path, body)


def normalized_filter(text: str) -> str:
    """The statuses of the filter as MLflow writes them: the server takes «Finished» for FINISHED."""
    return _STATUS.sub(lambda match: f"{match[1] or ''}status {match[2]} '{match[3].upper()}'", text)


def _check_search(body: Mapping[str, Any]) -> None:
    wanted = body.get("order_by") or []
    for item in [wanted] if isinstance(wanted, str) else wanted:
        match = _SORT.fullmatch(str(item))
        key = match["key"] if match else str(item)
        if _DATA_KEY.match(key.strip("`\"' ")):
            raise Refusal(f"Ordering by '{key}' is not supported: runs are ordered by attributes only.")
    text = str(body.get("filter") or "")
    try:
        filters.conditions(normalized_filter(text))
    except UsageError as error:
        raise Refusal(f"Invalid filter string '{text}': {error.message.splitlines()[0]}") from error
    for match in _CLAUSE.finditer(text):
        entity, operator = match["entity"].lower(), match["operator"].lower()
        if entity.startswith("tag") and operator == "!=":
            raise Refusal(f"Invalid filter string '{text}': the operator != is not supported for tags.")
        if entity.startswith("param") and operator not in ("=", "!=", "like"):
            raise Refusal(f"Invalid filter string '{text}': the operator {operator} is not supported for params.")


def _check_registry_search(body: Mapping[str, Any]) -> None:
    text = str(body.get("filter") or "")
    # MLflow's own client adds a clause that leaves prompts out.
    plain = re.sub(r"tags?\.`?mlflow\.prompt\.is_prompt`?\s*(?:!=|=)\s*'\w+'", "", text)
    if re.search(r"\btags?\s*\.|\bi?like\b", plain, re.IGNORECASE):
        raise Refusal(f"Invalid filter string '{text}': search by tags or LIKE is not supported for models.")


def _check_names(body: Mapping[str, Any]) -> None:
    _length(body.get("run_name"), NAME, "run name")
    for metric in body.get("metrics") or []:
        _length(metric.get("key"), METRIC_NAME, "metric name")


def _check_tags(path: str, body: Mapping[str, Any]) -> None:
    given = [(tag.get("key"), tag.get("value")) for tag in body.get("tags") or [] if isinstance(tag, Mapping)]
    if path == "runs/set-tag":
        given.append((body.get("key"), body.get("value")))
    for key, value in given:
        _length(key, TAG_KEY, "tag key")
        if key == "mlflow.note.content":
            _length(value, DESCRIPTION, "description")
        else:
            _length(value, TAG_VALUE, f"value of the tag '{key}'")
        if key == "mlflow.user" and path != "runs/create":
            raise Refusal("The tag 'mlflow.user' is set by the service and cannot be changed.")


def _length(value: Any, most: int, what: str) -> None:
    if value is not None and len(str(value)) > most:
        raise Refusal(f"The {what} has {len(str(value))} characters; at most {most} are allowed.")


def _tag_keys(body: Mapping[str, Any]) -> list[Any]:
    return [body.get("key"), *(tag.get("key") for tag in body.get("tags") or [] if isinstance(tag, Mapping))]
