"""CSV and TSV as tables, streamed block by block: the types of the columns are guessed from the file's beginning.

Whole numbers are read as text first, because zeros before them may make names of them, such as postcodes.
"""

from __future__ import annotations

import io
import re
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
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
_WHOLE, _PADDED = r"^-?\d+$", r"^0\d"
_COMMA, _THOUSANDS = r"^\s*[-+]?\d+,\d+([eE][-+]?\d+)?\s*$", r"^\s*[-+]?[1-9]\d{0,2},\d{3}\s*$"
_HUNDREDS = r"^\s*[-+]?[1-9]\d\d\s*$"


@dataclass(frozen=True, slots=True)
class _Layout:
    """The columns' names, what parts them, their types as far as they are known, which are text whatever they hold, the decimal
    sign, in which columns commas may part thousands, and how much is parsed at once."""

    names: Sequence[str]
    delimiter: str
    texts: Collection[str]
    block_bytes: int
    types: Mapping[str, Arrow] = field(default_factory=dict)
    decimal: str = "."
    thousands: Sequence[str] = ()
    widened: int = 0


@dataclass(frozen=True, slots=True)
class Table:
    """`thousands` are columns that are text because their commas may part thousands."""

    parts: Sequence[Part]
    has_decimal_commas: bool = False
    thousands: Sequence[str] = ()


class _Misfit(Exception):
    """A value that is no whole number, in a column of them."""

    def __init__(self, name: str, value: str) -> None:
        super().__init__(f"{name}: {value}")
        self.name, self.value = name, value


def read(file: Path, suffix: str, scratch: Path, stop: threading.Event, texts: Collection[str] = ()) -> Table:
    """The file's rows, below the folder `scratch`; the columns `texts` as text. A column with a value far down that does not fit
    its first ones is read as decimal numbers where it began with whole ones, else as text, of which `columns` makes what it
    can; one with a zero before a whole number is text. Where no comma parts the columns, it is the decimal sign unless it may
    part thousands. Raises `NotFound` for a file without a heading, `UsageError` for one with a name twice, pyarrow's errors for
    one that does not parse."""
    import pyarrow as pa

    names, delimiter, is_alone = _heading(file, suffix)
    if is_alone:
        return Table([])
    layout = _Layout(names, delimiter, texts, _GUESSED_BYTES)
    while True:
        try:
            layout = layout if layout.types else _guessed(file, layout)
            return Table(_spilled(file, layout, scratch, stop), layout.decimal == ",", layout.thousands)
        except (pa.ArrowInvalid, _Misfit) as error:
            layout = _mended(layout, error)


def _spilled(file: Path, layout: _Layout, scratch: Path, stop: threading.Event) -> list[Part]:
    """From the first zero before a whole number on its column is put down as text; `Frame` makes text of what came before."""
    import pyarrow as pa

    whole = {place for place, name in enumerate(layout.names) if pa.types.is_integer(layout.types[name])}
    with Spill(scratch, stop) as spill:
        for batch in _batches(file, layout):
            columns = batch.columns
            for place in sorted(whole):
                numbers = _whole_numbers(layout.names[place], columns[place])
                if numbers is None:
                    whole.remove(place)
                else:
                    columns[place] = numbers
            spill.write(pa.Table.from_arrays(columns, layout.names))
    return spill.parts


def _whole_numbers(name: str, column: Arrow) -> Arrow | None:
    """None where zeros stand before some. Raises `_Misfit` where some are none."""
    import pyarrow as pa
    import pyarrow.compute as pc

    try:
        return None if _is_padded(column) else column.cast(pa.int64())
    except pa.ArrowInvalid:
        column = pc.utf8_trim_whitespace(column)
    try:
        return None if _is_padded(column) else column.cast(pa.int64())
    except pa.ArrowInvalid:
        strange = column.filter(pc.invert(pc.match_substring_regex(column, _WHOLE)))
        raise _Misfit(name, strange[0].as_py() if len(strange) else "") from None


def _is_padded(column: Arrow) -> bool:
    """By the few that begin with a zero: a search in all would cost ten times as much."""
    import pyarrow.compute as pc

    some = column.filter(pc.starts_with(column, "0"))
    if not len(some) or pc.max(pc.binary_length(some)).as_py() == 1:
        return False
    return bool(pc.any(pc.match_substring_regex(some, _PADDED)).as_py())


def _guessed(file: Path, layout: _Layout) -> _Layout:
    """A column without a value at the beginning is text: anything may come."""
    import pyarrow as pa

    first = next(_batches(file, layout), None)
    if first is not None and layout.delimiter != "," and layout.decimal != ",":
        decimals, thousands = _with_commas(first, layout.delimiter)
        if decimals:
            layout = replace(layout, decimal=",")
            first = next(_batches(file, layout))
        else:
            layout = replace(layout, thousands=thousands)
    found = {entry.name: entry.type for entry in first.schema} if first is not None else {}
    types = {
        name: pa.string() if pa.types.is_null(kind) or name in layout.texts else kind for name, kind in found.items()
    }
    return replace(layout, block_bytes=_BLOCK_BYTES, types=types or dict.fromkeys(layout.names, pa.string()))


def _with_commas(batch: Arrow, delimiter: str) -> tuple[list[str], list[str]]:
    """The columns of text whose commas are decimal signs, and those where they may part thousands: 1,234 between tabs, and
    anywhere beside 950, which would have a comma, too, as a number with three decimals."""
    import pyarrow as pa
    import pyarrow.compute as pc

    def fits(values: Arrow, pattern: str) -> Arrow:
        return pc.match_substring_regex(values, pattern)

    decimals: list[str] = []
    thousands: list[str] = []
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        known = column.drop_null()
        if not pa.types.is_string(column.type) or not len(known):
            continue
        with_comma = fits(known, _COMMA)
        if not pc.any(with_comma).as_py() or not pc.all(pc.or_(with_comma, fits(known, r"^\s*[-+]?\d+\s*$"))).as_py():
            continue
        may_be = pc.all(fits(known.filter(with_comma), _THOUSANDS)).as_py()
        as_thousands = may_be and (delimiter == "\t" or pc.any(fits(known, _HUNDREDS)).as_py())
        (thousands if as_thousands else decimals).append(name)
    return decimals, thousands


def _mended(layout: _Layout, error: Exception) -> _Layout:
    """How to read the file after that error, which is raised where nothing helps."""
    import pyarrow as pa

    if isinstance(error, _Misfit):
        return _widened(layout, error.name, pa.float64(), error.value)
    if _LONG_ROW in str(error) and layout.block_bytes < _MOST_BLOCK_BYTES:
        return replace(layout, block_bytes=layout.block_bytes * 4)
    found = _MISFIT.search(str(error))
    if not found or layout.widened > _MOST_WIDENED:
        raise error
    return _widened(layout, layout.names[int(found[1])], pa.binary() if _NO_TEXT in str(error) else pa.string())


def _widened(layout: _Layout, name: str, wider: Arrow, value: str = "") -> _Layout:
    """With that type for the column, whose whole numbers end with the value."""
    import pyarrow as pa

    widened = layout.widened + 1
    if widened > _MOST_WIDENED:
        return replace(layout, types=dict.fromkeys(layout.names, pa.binary()), widened=widened)
    if layout.decimal != "," and layout.delimiter != "," and re.match(_COMMA, value):
        if re.match(_THOUSANDS, value):
            types = {**layout.types, name: pa.string()}
            return replace(layout, types=types, thousands=[*layout.thousands, name], widened=widened)
        return replace(layout, block_bytes=_GUESSED_BYTES, types={}, decimal=",", thousands=(), widened=widened)
    return replace(layout, types={**layout.types, name: wider}, widened=widened)


def _batches(file: Path, layout: _Layout) -> Iterator[Arrow]:
    import pyarrow as pa
    from pyarrow import csv

    types = {name: pa.string() if pa.types.is_integer(kind) else kind for name, kind in layout.types.items()}
    with csv.open_csv(
        file,
        csv.ReadOptions(block_size=layout.block_bytes, column_names=list(layout.names), skip_rows_after_names=1),
        csv.ParseOptions(delimiter=layout.delimiter, newlines_in_values=True),
        csv.ConvertOptions(strings_can_be_null=True, column_types=types, decimal_point=layout.decimal),
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
