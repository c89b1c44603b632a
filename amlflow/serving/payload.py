"""A request's body as a table: every form that MLflow's and Azure ML's scoring servers take.

This file runs in a model's environment: it needs the standard library alone.
"""

from __future__ import annotations

import csv
import io
import json
from typing import Any, NamedTuple, Optional

FORMS = ("dataframe_split", "dataframe_records", "inputs", "instances", "input_data")


class Refused(Exception):
    """A request that is at fault: an HTTP status of 4xx, a code for programs and a sentence for people."""

    def __init__(self, message: str, status: int = 400, code: str = "BadRequest") -> None:
        super().__init__(message)
        self.message, self.status, self.code = message, status, code


class Payload(NamedTuple):
    """`columns` is None where the form names none; then `rows` may be any array of JSON. `text` is true where every value is
    text that stands for something else (CSV)."""

    columns: Optional[list[str]]
    rows: list[Any]
    params: Optional[dict[str, Any]] = None
    text: bool = False


def parse(body: bytes, content_type: str) -> Payload:
    """Raises `Refused` naming what cannot be read."""
    kind = content_type.split(";")[0].strip().lower()
    if kind in ("text/csv", "application/csv"):
        return _csv(body)
    if kind not in ("application/json", "text/json", ""):
        raise Refused(
            f"The content type {kind!r} is not taken; it is application/json or text/csv.", 415, "UnsupportedMediaType"
        )
    try:
        content = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Refused(f"The body is not valid JSON: {error}.") from None
    if not isinstance(content, dict):
        raise Refused(f"The body must be a JSON object with one of {', '.join(FORMS)}.")
    given = [form for form in FORMS if form in content]
    if len(given) != 1:
        what = "none of" if not given else "more than one of"
        raise Refused(f"The body has {what} {', '.join(FORMS)}; it must have exactly one.")
    unknown = sorted(set(content) - {given[0], "params"})
    if unknown:
        raise Refused(f"The body has {unknown[0]!r}, which means nothing beside {given[0]!r}.")
    params = content.get("params")
    if params is not None and not isinstance(params, dict):
        raise Refused("'params' must be an object of names and values.")
    columns, rows = _table(given[0], content[given[0]])
    return Payload(columns, rows, params)


def _table(form: str, value: Any) -> tuple[Optional[list[str]], list[Any]]:
    if form == "dataframe_split" or (form == "input_data" and isinstance(value, dict) and "data" in value):
        return _split(form, value)
    if form == "dataframe_records":
        if not isinstance(value, list) or not all(isinstance(row, dict) for row in value):
            raise Refused(f"'{form}' must be a list of objects, one a row.")
        return _records(value)
    if isinstance(value, dict):
        return _by_column(form, value)
    if not isinstance(value, list):
        raise Refused(f"'{form}' must be a list or an object, not {_kind(value)}.")
    if value and all(isinstance(row, dict) for row in value):
        return _records(value)
    return None, value


def _split(form: str, value: Any) -> tuple[Optional[list[str]], list[Any]]:
    if not isinstance(value, dict) or not isinstance(value.get("data"), list):
        raise Refused(f"'{form}' must be an object with 'columns' and 'data', a list of rows.")
    columns, rows = value.get("columns"), value["data"]
    if columns is None:
        return None, rows
    if not isinstance(columns, list):
        raise Refused(f"'columns' of '{form}' must be a list of names.")
    for number, row in enumerate(rows):
        if not isinstance(row, list) or len(row) != len(columns):
            have = len(row) if isinstance(row, list) else _kind(row)
            raise Refused(f"Row {number} of '{form}' has {have} values for {len(columns)} columns.")
    return [str(column) for column in columns], rows


def _records(records: list[dict[str, Any]]) -> tuple[list[str], list[Any]]:
    if not records:
        return [], []
    columns = list(dict.fromkeys(key for record in records for key in record))
    return columns, [[record.get(column) for column in columns] for record in records]


def _by_column(form: str, value: dict[str, Any]) -> tuple[list[str], list[Any]]:
    columns = list(value)
    lines = [item if isinstance(item, list) else [item] for item in value.values()]
    lengths = {len(line) for line in lines}
    if len(lengths) > 1:
        raise Refused(f"The columns of '{form}' have different lengths: {', '.join(map(str, sorted(lengths)))}.")
    return columns, [list(row) for row in zip(*lines)]  # noqa: B905 - Python 3.9 has no strict


def _csv(body: bytes) -> Payload:
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Refused(f"The CSV is not UTF-8 text: {error.reason} at byte {error.start}.") from None
    try:
        lines = [line for line in csv.reader(io.StringIO(text), strict=True) if line]
    except csv.Error as error:
        raise Refused(f"The CSV cannot be read: {error}.") from None
    if not lines:
        raise Refused("The CSV is empty; it needs a heading row.")
    columns, rows = lines[0], lines[1:]
    for number, row in enumerate(rows, 2):
        if len(row) != len(columns):
            raise Refused(f"Line {number} of the CSV has {len(row)} values for {len(columns)} columns.")
    return Payload(columns, rows, None, True)


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    names = {bool: "true/false", int: "a number", float: "a number", str: "text", list: "a list", dict: "an object"}
    return names.get(type(value), type(value).__name__)
