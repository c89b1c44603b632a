"""Reading a request. What is missing is refused in MLflow's words; what has another type than MLflow documents is
`Unusual`."""

from __future__ import annotations

import base64
import binascii
import json
import os
from collections.abc import Mapping
from typing import Any

from amlflow.errors import UsageError
from amlflow.journal.errors import Refused
from amlflow.workspaces.local import writes
from amlflow.workspaces.local.rest.call import Unusual

_ACTIVE, _DELETED = ["active"], ["deleted"]
_BOTH = [*_ACTIVE, *_DELETED]
_STAGES = {"ACTIVE_ONLY": _ACTIVE, "1": _ACTIVE, "DELETED_ONLY": _DELETED, "2": _DELETED, "ALL": _BOTH, "3": _BOTH}


def invalid(message: str) -> Refused:
    return Refused(400, "INVALID_PARAMETER_VALUE", message)


def missing(message: str) -> Refused:
    return Refused(404, "RESOURCE_DOES_NOT_EXIST", message)


def required(body: Mapping[str, Any], name: str) -> str:
    found = text(body, name)
    if not found:
        raise invalid(
            f"Missing value for required parameter '{name}'. See the API docs for more information about request parameters."
        )
    return found


def run_id(body: Mapping[str, Any]) -> str:
    """The run's id, also under the name that MLflow once gave it."""
    return required(body, "run_id") if "run_uuid" not in body else text(body, "run_id") or required(body, "run_uuid")


def text(body: Mapping[str, Any], name: str) -> str:
    """Empty where it is absent."""
    found = body.get(name)
    if found is None:
        return ""
    if not isinstance(found, str):
        raise Unusual(f"The parameter '{name}' is not text.")
    return found


def integer(body: Mapping[str, Any], name: str, default: int = 0) -> int:
    """A 64-bit number, or the text of one."""
    found = body.get(name)
    if found is None:
        return default
    if isinstance(found, bool) or not isinstance(found, (int, str)):
        raise Unusual(f"The parameter '{name}' is not a whole number.")
    try:
        number = int(found)
    except ValueError:
        raise Unusual(f"The parameter '{name}' is not a whole number.") from None
    if not -(1 << 63) <= number < 1 << 63:
        raise Unusual(f"The parameter '{name}' is not a 64-bit number.")
    return number


def boolean(body: Mapping[str, Any], name: str) -> bool:
    found = body.get(name, False)
    if isinstance(found, str) and found.lower() in ("true", "false"):
        return found.lower() == "true"
    if not isinstance(found, bool):
        raise Unusual(f"The parameter '{name}' is not true or false.")
    return found


def texts(body: Mapping[str, Any], name: str) -> list[str]:
    """A list of texts; a query has one that occurs once as the text alone."""
    found = body.get(name)
    if found is None:
        return []
    if isinstance(found, str):
        return [found]
    if not isinstance(found, list) or not all(isinstance(item, str) for item in found):
        raise Unusual(f"The parameter '{name}' is not a list of texts.")
    return found


def objects(body: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    found = body.get(name)
    if found is None:
        return []
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
        raise Unusual(f"The parameter '{name}' is not a list of objects.")
    return found


def pairs(body: Mapping[str, Any], name: str) -> list[tuple[str, str]]:
    """What is given as `[{"key": …, "value": …}]`. A missing value is the empty text; a missing key is `Unusual`."""
    found = []
    for item in objects(body, name):
        key = text(item, "key")
        if not key:
            raise Unusual(f"An item of '{name}' has no key.")
        found.append((key, text(item, "value")))
    return found


def checked_name(key: str, what: str, most: int = writes.KEY_LENGTH) -> str:
    """A key that MLflow takes for a metric, param or tag."""
    try:
        writes.check_name(key, what)
    except UsageError as error:
        raise Unusual(error.message) from error
    if len(key) > most:
        raise Unusual(f"The {what} name {key[:40]!r}… is longer than {most} characters.")
    return key


def checked_length(value: str, most: int, what: str) -> str:
    if len(value) > most:
        raise Unusual(f"A {what} is longer than {most} characters.")
    return value


def experiment_number(text_id: str) -> int:
    try:
        return int(text_id)
    except ValueError:
        raise invalid(f"Invalid experiment ID '{text_id}'. Experiment ID must be a valid integer.") from None


def offset(body: Mapping[str, Any]) -> int:
    """Where the page starts that `page_token` stands for."""
    token = text(body, "page_token")
    if not token:
        return 0
    try:
        found = json.loads(base64.b64decode(token))["offset"]
    except (ValueError, KeyError, TypeError, binascii.Error):
        raise Unusual("The page token is not one of ours.") from None
    if isinstance(found, bool) or not isinstance(found, int) or found < 0:
        raise Unusual("The page token is not one of ours.")
    return found


def token(start: int, **more: Any) -> str:
    return base64.b64encode(json.dumps({**more, "offset": start}).encode()).decode()


def page(rows: list[Any], most: int, start: int) -> tuple[list[Any], dict[str, Any]]:
    """Of one row more than asked for: the page, and the token of the next where there is one."""
    return rows[:most], {"next_page_token": token(start + most)} if len(rows) > most else {}


def page_size(body: Mapping[str, Any], default: int, most: int = 50_000) -> int:
    size = integer(body, "max_results", default)
    if not 1 <= size <= most:
        raise Unusual(f"The parameter 'max_results' is not between 1 and {most}.")
    return size


def view(body: Mapping[str, Any], name: str) -> list[str]:
    """The lifecycle stages that a view type shows: `ACTIVE_ONLY` (1, the default), `DELETED_ONLY` (2), `ALL` (3)."""
    found = str(body.get(name, "ACTIVE_ONLY"))
    if found not in _STAGES:
        raise Unusual(f"There is no view type {found!r}.")
    return _STAGES[found]


def cut(value: str, most: int, what: str) -> str:
    """A value of a param or tag as MLflow keeps it: cut at the limit, unless it was told not to."""
    if len(value) > most and os.environ.get("MLFLOW_TRUNCATE_LONG_VALUES", "true").lower() not in ("true", "1"):
        raise Unusual(f"The value of a {what} is longer than {most} characters.")
    return value[:most]
