"""Tables from files, read a column at a time, so that no table need fit into memory.

Parquet is read where it lies; CSV and JSON are streamed once into a scratch folder.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from amlflow.errors import NotFound, UsageError
from amlflow.monitoring import delimited, records
from amlflow.monitoring.parts import ParquetPart, Part, Spill, translated

# A pyarrow table, column or type; pyarrow is imported by the functions that need it.
Arrow = Any

_INDEX = re.compile(r"|Unnamed: 0(\.\d+)?|__index_level_\d+__")
SUFFIXES = (".csv", ".tsv", ".parquet", ".jsonl", ".ndjson", ".json")


@dataclass(frozen=True, slots=True)
class Frame:
    """A table. `label` is what to call it in a message; `names` are its columns, in the order of their first file; `notes` say
    how it was read where that is not plain."""

    label: str
    parts: Sequence[Part]
    names: Sequence[str]
    notes: Sequence[str] = ()

    @property
    def rows(self) -> int:
        return sum(part.rows for part in self.parts)

    def column(self, name: str) -> Arrow:
        """All its values, as pyarrow's chunked array of the narrowest type that holds those of every file; nulls for the rows of
        files without it."""
        import pyarrow as pa

        found = [
            _decoded(part.column(name)) if name in part.names else pa.chunked_array([pa.nulls(part.rows)])
            for part in self.parts
        ]
        wanted = _common_type(found)
        chunks = [chunk for column in found for chunk in _as(column, wanted).chunks]
        return pa.chunked_array(chunks, type=wanted)


@dataclass(frozen=True, slots=True)
class Source:
    """Files whose rows together are a table, the folder that what is read of them may fill, what to call the table, and which
    columns of a CSV are text even where they look like numbers or times, as ids are."""

    files: Sequence[Path]
    scratch: Path
    label: str
    texts: Sequence[str] = ()


def read_all(sources: Sequence[Source]) -> list[Frame]:
    """A frame of each, read at the same time. Raises what `read` raises, for the first that cannot be read."""
    stop = threading.Event()
    with ThreadPoolExecutor(min(len(sources), os.cpu_count() or 1)) as pool:
        waiting = [pool.submit(read, source, stop) for source in sources]
        try:
            return [found.result() for found in waiting]
        except BaseException:
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def read(source: Source, stop: threading.Event | None = None) -> Frame:
    """Raises `NotFound` for a file that is not there, `UsageError` for one of no known kind, `AmlflowError` for one that does
    not parse; `Stopped` once `stop` is set."""
    parts: list[Part] = []
    with_commas = 0
    thousands: list[str] = []
    stop = stop or threading.Event()
    # Collectors write a file for each hour or request: all of them go to one.
    with Spill(source.scratch / "json", stop) as spill:
        for index, file in enumerate(source.files):
            if not file.is_file():
                raise NotFound(f"There is no file {str(file)!r}.", "Check the path of the data.")
            with translated(file):
                if (suffix := _suffix(file)) in (".csv", ".tsv"):
                    table = delimited.read(file, suffix, source.scratch / str(index), stop, source.texts)
                    parts += table.parts
                    with_commas += table.has_decimal_commas
                    thousands += table.thousands
                elif suffix == ".parquet":
                    parts.append(ParquetPart(file))
                else:
                    for rows in records.tables(file, whole=suffix == ".json"):
                        spill.write(rows)
    parts += spill.parts
    names = dict.fromkeys(name for part in parts for name in part.names)
    where = "" if with_commas == len(source.files) else f" in {with_commas} of {len(source.files)} files"
    notes = [f"{source.label}: commas in numbers are read as decimal signs{where}."] if with_commas else []
    notes += [
        f"{source.label}: the commas of {name!r} may part thousands, and it is read as text: leave them out."
        for name in dict.fromkeys(thousands)
    ]
    return Frame(source.label, parts, list(names), notes)


def of_table(table: Arrow, scratch: Path, label: str) -> Frame:
    """The frame of a table in memory."""
    with Spill(scratch / "table", threading.Event()) as spill:
        spill.write(table)
    return Frame(label, spill.parts, table.schema.names)


def is_index(name: str) -> bool:
    """Whether pandas calls a column of row numbers so: without a name in CSV, and by these in Parquet and where it reads such a
    CSV."""
    return bool(_INDEX.fullmatch(name))


def is_table(path: Path) -> bool:
    """Whether its name is one of a table that `read` knows."""
    return _kind(path) in SUFFIXES


def _kind(file: Path) -> str:
    suffixes = [suffix.lower() for suffix in file.suffixes]
    return suffixes[-2] if suffixes[-1:] == [".gz"] and len(suffixes) > 1 else (suffixes or [""])[-1]


def _suffix(file: Path) -> str:
    suffix = _kind(file)
    if suffix not in SUFFIXES:
        raise UsageError(
            f"{str(file)!r} is no table that amlflow reads.", f"Give one of {', '.join(SUFFIXES)} (or .gz)."
        )
    return suffix


def _common_type(found: Sequence[Arrow]) -> Arrow:
    import pyarrow as pa

    known = {column.type for column in found if not pa.types.is_null(column.type)}
    if len(known) < 2:
        return next(iter(known), pa.null())
    if all(pa.types.is_integer(kind) for kind in known):
        return pa.int64() if all(_fits_int64(column) for column in found) else pa.float64()
    if all(pa.types.is_integer(kind) or pa.types.is_floating(kind) for kind in known):
        return pa.float64()
    if all(pa.types.is_timestamp(kind) or pa.types.is_date(kind) for kind in known):
        return pa.timestamp("us", tz="UTC" if any(getattr(kind, "tz", None) for kind in known) else None)
    return pa.string()


def _fits_int64(column: Arrow) -> bool:
    import pyarrow as pa
    import pyarrow.compute as pc

    return not pa.types.is_uint64(column.type) or (pc.max(column).as_py() or 0) < 2**63


def _decoded(column: Arrow) -> Arrow:
    """Values of a type that comparisons know, instead of codes, as which pandas writes its categories; what is nested becomes its
    JSON text, bytes become text, and spans of time seconds. An extension's values are those that it is stored as."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if isinstance(column.type, pa.BaseExtensionType):
        column = pa.chunked_array([chunk.storage for chunk in column.chunks], column.type.storage_type)
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    kind = column.type
    if pa.types.is_nested(kind):
        return _texts(column, records.text)
    if any(is_bytes(kind) for is_bytes in _bytes_types()):
        return _texts(column, _text_of_bytes)
    if pa.types.is_duration(kind):
        return pc.divide(column.cast(pa.int64()).cast(pa.float64(), safe=False), _PARTS_OF_SECOND[kind.unit])
    if pa.types.is_float16(kind):
        return column.cast(pa.float32())
    return column.cast(pa.string()) if pa.types.is_large_string(kind) or pa.types.is_string_view(kind) else column


def _bytes_types() -> Sequence[Callable[[Arrow], bool]]:
    from pyarrow import types

    return types.is_binary, types.is_large_binary, types.is_fixed_size_binary, types.is_binary_view


_PARTS_OF_SECOND = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}


def _texts(column: Arrow, text: Callable[[Any], str | None]) -> Arrow:
    import pyarrow as pa

    return pa.chunked_array([pa.array([text(value) for value in column.to_pylist()], pa.string())])


def _text_of_bytes(value: bytes | None) -> str | None:
    return None if value is None else value.decode(errors="backslashreplace")


def _as(column: Arrow, wanted: Arrow) -> Arrow:
    import pyarrow as pa

    if column.type.equals(wanted):
        return column
    try:
        return column.cast(wanted, safe=False)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return _texts(column, lambda value: None if value is None else str(value))
