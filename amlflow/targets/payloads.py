"""Requests as each target wants them, and the input example of a model as one."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from pathlib import Path
from typing import Any

from amlflow.errors import UsageError
from amlflow.serving import payload

_FORMS = frozenset(payload.FORMS)
_PADDED = re.compile(r"\s*[+-]?0\d")


def is_payload(content: Any) -> bool:
    return isinstance(content, dict) and bool(_FORMS & set(content))


def bare_form(content: Any) -> str:
    """Which of MLflow's forms a table is that stands without the name of one."""
    if isinstance(content, list) and content and all(isinstance(row, dict) for row in content):
        return "dataframe_records"
    if isinstance(content, dict) and "data" in content and set(content) <= {"columns", "data", "index"}:
        return "dataframe_split"
    return "inputs"


def of_example(folder: Path, info: dict[str, Any]) -> bytes | None:
    """The model's input example as a request body; None without one. `info` is `saved_input_example_info` of its MLmodel file."""
    served = folder / str(info.get("serving_input_path") or "serving_input_example.json")
    if served.is_file():
        return served.read_bytes()
    path = folder / str(info.get("artifact_path") or "input_example.json")
    if not path.is_file():
        return None
    example = json.loads(path.read_text(encoding="utf-8"))
    return json.dumps(example if is_payload(example) else {bare_form(example): example}).encode()


def as_input_data(body: bytes, content_type: str) -> bytes:
    """Any form as Azure ML's scorer takes it. Raises `UsageError` naming what cannot be read."""
    table = _parsed(body, content_type)
    rows: list[Any] = _numbers(table.rows) if table.text else table.rows
    data: Any = rows
    if table.columns is not None:
        data = {"columns": table.columns, "index": list(range(len(rows))), "data": rows}
    content: dict[str, Any] = {"input_data": data}
    if table.params:
        content["params"] = table.params
    return json.dumps(content).encode()


def as_mlflow(body: bytes, content_type: str) -> bytes:
    """Any form as MLflow's own scoring server takes it, which knows no `input_data`. Raises `UsageError`."""
    table = _parsed(body, content_type)
    content = {} if table.text else json.loads(body)
    if "input_data" not in content:
        return body
    named: dict[str, Any] = {"inputs": table.rows}
    if table.columns is not None:
        named = {"dataframe_split": {"columns": table.columns, "data": table.rows}}
    return json.dumps({**named, **({"params": table.params} if table.params else {})}).encode()


def as_csv(body: bytes, content_type: str) -> bytes:
    """Any form of a table as CSV with a heading row. Columns without names get their numbers. Raises `UsageError`, also for what
    no table of plain values is."""
    table = _parsed(body, content_type)
    if table.text:
        return body
    rows = [row if isinstance(row, list) else [row] for row in table.rows] if isinstance(table.rows, list) else []
    plain = rows and all(
        not isinstance(cell, (list, dict)) and len(row) == len(rows[0]) for row in rows for cell in row
    )
    if not plain or table.params:
        raise UsageError(
            f"{'Parameters' if table.params else 'This form of data'} cannot be written as CSV, which batch endpoints read.",
            "Send columns of numbers and texts, such as dataframe_split.",
        )
    sink = io.StringIO()
    writer = csv.writer(sink, lineterminator="\n")
    writer.writerow(table.columns if table.columns is not None else range(len(rows[0])))
    writer.writerows(rows)
    return sink.getvalue().encode()


def of_predictions(text: str) -> list[Any]:
    """The predictions of a batch endpoint's file, which has for each row of the input its number, what was predicted and the name
    of its file. Raises `ValueError` for what is no such file."""
    rows = [row for row in csv.reader(io.StringIO(text)) if row]
    if len({len(row) for row in rows}) > 1 or any(len(row) < 3 for row in rows):
        raise ValueError("its rows have not the same number of values")
    values = _numbers([row[1:-1] for row in rows])
    return [row[0] if len(row) == 1 else row for row in values]


def _parsed(body: bytes, content_type: str) -> payload.Payload:
    try:
        return payload.parse(body, content_type)
    except payload.Refused as error:
        raise UsageError(
            f"The request cannot be read: {error.message}", "`amlflow endpoint invoke --help` says what is taken."
        ) from error


def _numbers(rows: list[Any]) -> list[Any]:
    """Rows of CSV, with numbers in the columns that have nothing else: JSON tells numbers from text, CSV does not."""
    columns = [_column(cells) for cells in zip(*rows, strict=True)]
    return [list(row) for row in zip(*columns, strict=True)]


def _column(cells: tuple[str, ...]) -> list[Any]:
    # 01067 is a post code or the like, and no number: it would lose its zero.
    for kind in () if any(_PADDED.match(cell) for cell in cells) else (int, float):
        try:
            numbers = [None if cell == "" else kind(cell) for cell in cells]
        except ValueError:
            continue
        return [number if number is None or math.isfinite(number) else None for number in numbers]
    return [None if cell == "" else cell for cell in cells]
