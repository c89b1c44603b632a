"""CSV and TSV as tables, streamed block by block: the types of the columns are guessed from the file's beginning."""

from __future__ import annotations

import io
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from amlflow.errors import NotFound
from amlflow.monitoring.parts import Part, Spill, check_names

# A pyarrow type or batch; pyarrow is imported by the functions that need it.
Arrow = Any

# What types are guessed from.
_GUESSED_BYTES = 8 * 2**20
# Small enough for a processor's cache, and the most that a row may have.
_BLOCK_BYTES, _MOST_BLOCK_BYTES = 2**20, 2**28
# So often a file is begun anew with another type for one column; then all of it is read as bytes, which any value is.
_MOST_WIDENED = 3
_MISFIT = re.compile(r"In CSV column #(\d+): CSV conversion error")
_LONG_ROW, _NO_TEXT = "straddling object", "invalid UTF8"


@dataclass(frozen=True, slots=True)
class _Layout:
    """The columns' names, what parts them, their types as far as they are known, and how much is parsed at once."""

    names: Sequence[str]
    delimiter: str
    block_bytes: int
    types: Mapping[str, Arrow] = field(default_factory=dict)
    widened: int = 0


def read(file: Path, suffix: str, scratch: Path, stop: threading.Event) -> list[Part]:
    """The file's rows, below the folder `scratch`. A column with a value far down that does not fit its first ones is read as
    decimal numbers where it began with whole ones, else as text, of which `columns` makes what it can. Raises `NotFound` for a
    file without a heading, `UsageError` for one with a name twice, pyarrow's errors for one that does not parse."""
    import pyarrow as pa

    names, delimiter, is_alone = _heading(file, suffix)
    if is_alone:
        return []
    layout = _Layout(names, delimiter, _GUESSED_BYTES)
    while True:
        try:
            layout = layout if layout.types else _guessed(file, layout)
            return _spilled(file, layout, scratch, stop)
        except pa.ArrowInvalid as error:
            layout = _mended(layout, error)


def _spilled(file: Path, layout: _Layout, scratch: Path, stop: threading.Event) -> list[Part]:
    import pyarrow as pa

    with Spill(scratch, stop) as spill:
        for batch in _batches(file, layout):
            spill.write(pa.Table.from_batches([batch]))
    return spill.parts


def _guessed(file: Path, layout: _Layout) -> _Layout:
    """A column without a value at the beginning is text: anything may come."""
    import pyarrow as pa

    first = next(_batches(file, layout), None)
    found = {entry.name: entry.type for entry in first.schema} if first is not None else {}
    types = {name: pa.string() if pa.types.is_null(kind) else kind for name, kind in found.items()}
    return replace(layout, block_bytes=_BLOCK_BYTES, types=types or dict.fromkeys(layout.names, pa.string()))


def _mended(layout: _Layout, error: Exception) -> _Layout:
    """How to read the file after that error, which is raised where nothing helps."""
    import pyarrow as pa

    if _LONG_ROW in str(error) and layout.block_bytes < _MOST_BLOCK_BYTES:
        return replace(layout, block_bytes=layout.block_bytes * 4)
    found = _MISFIT.search(str(error))
    if not found or layout.widened > _MOST_WIDENED:
        raise error
    widened = layout.widened + 1
    if widened > _MOST_WIDENED:
        return replace(layout, types=dict.fromkeys(layout.names, pa.binary()), widened=widened)
    name = layout.names[int(found[1])]
    if _NO_TEXT in str(error):
        wider = pa.binary()
    else:
        wider = pa.float64() if pa.types.is_integer(layout.types[name]) else pa.string()
    return replace(layout, types={**layout.types, name: wider}, widened=widened)


def _batches(file: Path, layout: _Layout) -> Iterator[Arrow]:
    from pyarrow import csv

    with csv.open_csv(
        file,
        csv.ReadOptions(block_size=layout.block_bytes, column_names=list(layout.names), skip_rows_after_names=1),
        csv.ParseOptions(delimiter=layout.delimiter, newlines_in_values=True),
        csv.ConvertOptions(strings_can_be_null=True, column_types=dict(layout.types)),
    ) as reader:
        yield from reader


def _heading(file: Path, suffix: str) -> tuple[list[str], str, bool]:
    """The names in the first row, what parts them, and whether not even a line's end follows."""
    import csv

    import pyarrow as pa

    with pa.input_stream(str(file), compression="detect") as stream:
        text = stream.read(2**20).decode("utf-8-sig", errors="replace")
    line, *rest = re.split(r"[\r\n]", text, maxsplit=1)
    if not line.strip():
        why = "begins with an empty line" if text.strip() else "is empty"
        raise NotFound(f"{str(file)!r} has no heading row: it {why}.", "Give a file with the columns' names and data.")
    delimiter = "\t" if suffix == ".tsv" else ";" if line.count(";") > line.count(",") else ","
    names = next(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))
    check_names(file, names)
    return names, delimiter, not rest
