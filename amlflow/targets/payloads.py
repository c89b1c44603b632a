"""Requests as each target wants them, and the input example of a model as one."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from amlflow.errors import UsageError
from amlflow.serving import payload

_FORMS = frozenset(payload.FORMS)


def is_payload(content: Any) -> bool:
    return isinstance(content, dict) and bool(_FORMS & set(content))


def of_example(folder: Path, info: dict[str, Any]) -> bytes | None:
    """The model's input example as a request body; None without one. `info` is `saved_input_example_info` of its MLmodel file."""
    served = folder / str(info.get("serving_input_path") or "serving_input_example.json")
    if served.is_file():
        return served.read_bytes()
    path = folder / str(info.get("artifact_path") or "input_example.json")
    if not path.is_file():
        return None
    example = json.loads(path.read_text(encoding="utf-8"))
    if isinstance(example, dict) and set(example) <= {"columns", "data", "index"} and "data" in example:
        return json.dumps({"dataframe_split": example}).encode()
    return json.dumps(example if is_payload(example) else {"inputs": example}).encode()


def as_input_data(body: bytes, content_type: str) -> bytes:
    """Any form as Azure ML's scorer takes it. Raises `UsageError` naming what cannot be read."""
    try:
        table = payload.parse(body, content_type)
    except payload.Refused as error:
        raise UsageError(
            f"The request cannot be read: {error.message}", "`amlflow endpoint invoke --help` says what is taken."
        ) from error
    rows = [[_value(cell) for cell in row] for row in table.rows] if table.text else table.rows
    data: Any = rows
    if table.columns is not None:
        data = {"columns": table.columns, "index": list(range(len(rows))), "data": rows}
    content: dict[str, Any] = {"input_data": data}
    if table.params:
        content["params"] = table.params
    return json.dumps(content).encode()


def _value(cell: Any) -> Any:
    """A cell of CSV as the number that it may stand for: JSON tells numbers from text, CSV does not."""
    if cell == "":
        return None
    for kind in (int, float):
        try:
            number = kind(cell)
        except (TypeError, ValueError):
            continue
        return number if math.isfinite(number) else None
    return cell
