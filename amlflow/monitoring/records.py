"""JSON as tables: a record a line, MLflow's `log_table`, and the records of Azure ML's data collector.

A collected record is a CloudEvent whose `data` is a list of rows; each row gets the record's time and correlation id as the
columns `TIME` and `CORRELATION`, the latter with `_0`, `_1`… behind it where the record has several rows.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from amlflow.errors import AmlflowError

TIME = "time"
CORRELATION = "correlationid"
_BLOCK_BYTES = 32 * 2**20
# Some thousands take pyarrow's reader, and the process with it, down.
_MOST_NESTED = 500
_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"')
# A pyarrow table.
Arrow = Any


def tables(file: Path, whole: bool) -> Iterator[Arrow]:
    """The rows of the file, in tables of a block each. `whole` is for a file that is one JSON document. Raises `AmlflowError`
    naming the line that does not parse, or nests its values too deep."""
    if whole:
        yield from _of_document(file)
        return
    line = 1
    for block in _blocks(file):
        _check_nesting(file, block, line)
        yield _of_block(file, block, line)
        line += block.count(b"\n")


def of_rows(rows: Iterable[Mapping[str, Any]]) -> Arrow:
    """Rows as a table; a column whose values are of several kinds becomes text."""
    import pyarrow as pa

    rows = list(rows)
    names = list(dict.fromkeys(name for row in rows for name in row))
    columns = [_column([row.get(name) for row in rows]) for name in names]
    if not names and rows:
        raise AmlflowError("The rows have no columns.", "Give records with named values.")
    return pa.table(columns, names=names)


def text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, default=str)


def _blocks(file: Path) -> Iterator[bytes]:
    """Whole lines, of about a block's size together."""
    import pyarrow as pa

    rest = b""
    with pa.input_stream(str(file), compression="detect") as stream:
        while chunk := stream.read(_BLOCK_BYTES):
            head, separator, tail = (rest + chunk).rpartition(b"\n")
            if head.strip():
                yield head + separator
            rest = tail if separator else head + tail
    if rest.strip():
        yield rest


def _of_block(file: Path, block: bytes, line: int) -> Arrow:
    """By pyarrow's own reader, which takes no column of several kinds, else line by line."""
    import pyarrow as pa
    from pyarrow import json as arrow_json

    try:
        if not block.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"{"):
            # Of nothing but `null`, pyarrow's reader takes the whole process down.
            raise pa.ArrowInvalid
        options = arrow_json.ReadOptions(block_size=len(block) + 1)
        table = arrow_json.read_json(pa.BufferReader(block), options)
        # Its strings may be of bytes that are no text, which would be found out only when they are looked at.
        table.validate(full=True)
        return _collected(table) if _is_collected(table.schema) else table
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError):
        return of_rows(_flattened(_objects(file, block, line)))


def _check_nesting(file: Path, block: bytes, line: int) -> None:
    for number, content in enumerate(block.split(b"\n"), line):
        if content.count(b"[") + content.count(b"{") > _MOST_NESTED and _depth(content) > _MOST_NESTED:
            raise AmlflowError(
                f"{str(file)!r} line {number} has values within more than {_MOST_NESTED} others.",
                "Each line must be one record as a JSON object.",
            )


def _depth(content: bytes) -> int:
    import numpy as np

    signs = np.frombuffer(_STRING.sub(b"", content), np.uint8)
    opened = (signs == ord("[")) | (signs == ord("{"))
    closed = (signs == ord("]")) | (signs == ord("}"))
    return int(np.cumsum(opened.astype(np.int32) - closed).max(initial=0))


def _is_collected(schema: Arrow) -> bool:
    import pyarrow as pa

    if "data" not in schema.names or TIME not in schema.names:
        return False
    kind = schema.field("data").type
    return bool(pa.types.is_list(kind) and pa.types.is_struct(kind.value_type))


def _collected(table: Arrow) -> Arrow:
    import pyarrow as pa
    import pyarrow.compute as pc

    table = table.combine_chunks()
    data = table.column("data")
    data = data.chunk(0) if data.num_chunks else pa.array([], data.type)
    parents = pc.list_parent_indices(data)
    rows = pa.Table.from_struct_array(pc.list_flatten(data))
    lengths = pc.list_value_length(data).fill_null(0).to_numpy(zero_copy_only=False)
    if CORRELATION in table.schema.names and CORRELATION not in rows.schema.names:
        ids = table.column(CORRELATION).take(parents)
        rows = rows.append_column(CORRELATION, pa.array(_numbered(ids.to_pylist(), lengths), pa.string()))
    if TIME not in rows.schema.names:
        rows = rows.append_column(TIME, table.column(TIME).take(parents))
    return rows


def _numbered(ids: Sequence[Any], lengths: Any) -> list[str | None]:
    """The ids of rows: their record's, with the row's place behind it where the record has several rows."""
    found: list[str | None] = []
    position = 0
    for length in lengths:
        for row in range(length):
            known = text(ids[position])
            found.append(known if known is None or length == 1 else f"{known}_{row}")
            position += 1
    return found


def _objects(file: Path, block: bytes, line: int) -> Iterator[dict[str, Any]]:
    for number, content in enumerate(block.splitlines(), line):
        if not content.strip():
            continue
        try:
            value = json.loads(content)
        except ValueError as error:
            raise AmlflowError(
                f"{str(file)!r} line {number} is not JSON: {error}.", "Each line must be one record as a JSON object."
            ) from error
        if not isinstance(value, dict):
            raise AmlflowError(
                f"{str(file)!r} line {number} is {str(value)[:40]!r}, not a record.",
                "Each line must be one record as a JSON object.",
            )
        yield value


def _flattened(found: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Collected records as their rows, others as they are."""
    for value in found:
        rows = value.get("data")
        if TIME not in value or not isinstance(rows, list):
            yield value
            continue
        for position, row in enumerate(rows):
            known = text(value.get(CORRELATION))
            numbered = known if known is None or len(rows) == 1 else f"{known}_{position}"
            own = row if isinstance(row, dict) else {"0": row}
            yield {CORRELATION: numbered, TIME: value[TIME], **own}


def _of_document(file: Path) -> Iterator[Arrow]:
    """A list of records, or columns and data as `mlflow.log_table` and pandas write them."""
    import pyarrow as pa

    try:
        with pa.input_stream(str(file), compression="detect") as stream:
            content = json.loads(stream.read())
    except ValueError as error:
        raise AmlflowError(
            f"{str(file)!r} is not JSON: {error}.", "Name it *.jsonl if each line is a record."
        ) from error
    if isinstance(content, dict) and isinstance(content.get("dataframe_split"), dict):
        content = content["dataframe_split"]
    if isinstance(content, dict) and isinstance(content.get("dataframe_records"), list):
        content = content["dataframe_records"]
    if isinstance(content, dict) and _is_split(content.get("columns"), content.get("data")):
        names = [str(name) for name in content["columns"]]
        content = [dict(zip(names, row, strict=False)) for row in content["data"]]
    if not isinstance(content, list) or not all(isinstance(row, dict) for row in content):
        raise AmlflowError(
            f"{str(file)!r} is no table.", "Give a list of records, or an object with `columns` and `data`."
        )
    yield of_rows(_flattened(content))


def _is_split(names: Any, rows: Any) -> bool:
    return isinstance(names, list) and isinstance(rows, list) and all(isinstance(row, list) for row in rows)


def _column(values: list[Any]) -> Arrow:
    import pyarrow as pa

    try:
        if any(isinstance(value, (dict, list)) for value in values):
            raise pa.ArrowTypeError
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError, UnicodeEncodeError):
        numbers = all(
            value is None or (isinstance(value, (int, float)) and not isinstance(value, bool)) for value in values
        )
        if numbers:
            return pa.array([None if value is None else _double(value) for value in values], pa.float64())
        # Half of a surrogate pair is a string to JSON, and no text.
        texts = (text(value) for value in values)
        return pa.array(
            [None if t is None else t.encode(errors="backslashreplace").decode() for t in texts], pa.string()
        )


def _double(value: float) -> float:
    """Of a whole number of any size; infinite where it is beyond what a double holds, as 1e400 is to JSON's readers."""
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf
