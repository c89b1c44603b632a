"""A model's signature, and the check of a table against it.

The rules are those of MLflow's schema enforcement (docs: «Model signatures»), on the strict side for JSON: a required column
must be there, more columns are dropped, their order is the signature's; a whole number is good for a `double`, but text is
never good for a number, nor a fraction for an `integer`; a number may be missing only in `float` and `double`.
"""

from __future__ import annotations

import contextlib
import json
import math
import struct
from typing import Any, NamedTuple, Optional

from .payload import Payload, Refused, _kind

INTEGERS = {"integer": (-(2**31), 2**31 - 1), "long": (-(2**63), 2**63 - 1)}
FLOATS = ("float", "double")
SCALARS = (*INTEGERS, *FLOATS, "boolean", "string", "datetime")


class Column(NamedTuple):
    name: Optional[str]
    type: str
    required: bool


class Signature(NamedTuple):
    columns: list[Column]

    @property
    def names(self) -> list[str]:
        return [column.name or str(index) for index, column in enumerate(self.columns)]


def read(signature: Optional[dict[str, Any]]) -> Optional[Signature]:
    """The signature's columns, or None for one that only MLflow itself understands: tensors, nested types, params."""
    if not signature or not signature.get("inputs") or signature.get("params"):
        return None
    columns = []
    for field in json.loads(signature["inputs"]):
        if field.get("type") not in SCALARS:
            return None
        columns.append(Column(field.get("name"), field["type"], field.get("required", True)))
    named = {column.name is not None for column in columns}
    return Signature(columns) if len(named) == 1 else None


def input_names(signature: Optional[dict[str, Any]]) -> list[str]:
    """What the collector calls the columns, whatever is in them; none where the signature does not tell."""
    fields = json.loads((signature or {}).get("inputs") or "[]")
    names = [field.get("name") for field in fields]
    if None not in names:
        return [str(name) for name in names]
    # Columns of a table have their places for names; what a tensor without a name has is as its rows are.
    found = read({"inputs": json.dumps(fields)})
    return found.names if found else []


def enforce(signature: Signature, payload: Payload) -> list[list[Any]]:
    """The rows in the signature's order, every value of its column's type. Raises `Refused` naming the column and row."""
    order = _order(signature, payload)
    straight = payload.columns is None or (len(payload.columns) == len(order) and order == list(range(len(order))))
    rows = _ordered(signature, payload.rows, order, straight)
    convert = from_text if payload.text else None
    for index, column in enumerate(signature.columns):
        check = _CHECKS[column.type]
        for number, row in enumerate(rows):
            value = row[index]
            if convert is not None:
                value = convert(column, value)
            elif type(value) is float and column.type in INTEGERS and value.is_integer():
                # JSON has one kind of number: 1.0 is a whole one.
                value = int(value)
            if value is None:
                row[index] = _missing(column, number, order[index] is None)
            elif check(value):
                row[index] = value
            else:
                raise Refused(
                    f"Column {column.name or index!r} is {_article(column.type)}, and row {number} has "
                    f"{_kind(value)} there: {_short(value)}."
                )
    return rows


def _order(signature: Signature, payload: Payload) -> list[Optional[int]]:
    names = signature.names
    if payload.columns is None:
        return list(range(len(names)))
    if payload.columns == names:
        return list(range(len(names)))
    where = {name: index for index, name in enumerate(payload.columns)}
    if signature.columns[0].name is None:
        if len(payload.columns) != len(names):
            raise Refused(f"The model takes {len(names)} columns, and the request has {len(payload.columns)}.")
        return list(range(len(names)))
    missing = [column.name for column in signature.columns if column.required and column.name not in where]
    if missing:
        extra = [name for name in payload.columns if name not in names]
        hint = f" It has {', '.join(map(repr, extra[:5]))} instead." if extra else ""
        raise Refused(f"The request lacks the column{'s' * (len(missing) > 1)} {', '.join(map(repr, missing))}.{hint}")
    return [where.get(name) for name in names]


def _ordered(signature: Signature, rows: list[Any], order: list[Optional[int]], straight: bool) -> list[list[Any]]:
    width = len(signature.columns)
    if rows and width == 1 and not any(isinstance(row, list) for row in rows):
        rows = [[row] for row in rows]
    found = []
    for number, row in enumerate(rows):
        if not isinstance(row, list):
            raise Refused(f"Row {number} must be a list of {width} values, not {_kind(row)}.")
        if straight:
            if len(row) != width:
                raise Refused(f"Row {number} has {len(row)} values; the model takes {width} columns.")
            found.append(row)
        else:
            found.append([None if index is None else row[index] for index in order])
    return found


def _missing(column: Column, number: int, absent: bool) -> Any:
    if column.type in FLOATS:
        return math.nan
    if column.type in ("string", "datetime") or (absent and not column.required):
        return None
    raise Refused(
        f"Column {column.name!r} is {_article(column.type)}, which cannot be missing, and row {number} has null there."
    )


def from_text(column: Column, value: str) -> Any:
    if column.type in ("string", "datetime"):
        return value
    text = value.strip()
    if not text:
        return None
    if column.type == "boolean":
        return {"true": True, "false": False, "1": True, "0": False}.get(text.lower(), value)
    try:
        return int(text) if column.type in INTEGERS else float(text)
    except ValueError:
        return value


def typed(column: Column, value: Any) -> Any:
    """A number as the column's type holds it, however a client has written it; anything else as it is."""
    if type(value) is float and column.type in INTEGERS and value.is_integer():
        return int(value)
    if column.type not in FLOATS or not _is_float(value):
        return value
    with contextlib.suppress(OverflowError):
        value = float(value)
        if column.type == "float":
            value = struct.unpack("f", struct.pack("f", value))[0]
    return value


def _is_float(value: Any) -> bool:
    return type(value) is float or type(value) is int


def _whole(low: int, high: int) -> Any:
    return lambda value: type(value) is int and low <= value <= high


_CHECKS: dict[str, Any] = {
    "double": _is_float,
    "float": _is_float,
    "integer": _whole(*INTEGERS["integer"]),
    "long": _whole(*INTEGERS["long"]),
    "boolean": lambda value: type(value) is bool,
    "string": lambda value: type(value) is str,
    "datetime": lambda value: type(value) is str,
}


def _article(kind: str) -> str:
    return f"an {kind}" if kind[0] in "aeiou" else f"a {kind}"


def _short(value: Any) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 60 else text[:57] + "…"
