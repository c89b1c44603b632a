"""Tables from files, read a column at a time, so that no table need fit into memory.

Parquet is read where it lies; CSV and JSON are streamed once into Parquet in a scratch folder.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from amlflow.errors import AmlflowError, NotFound, UsageError
from amlflow.monitoring import records

# A pyarrow table, column or type; pyarrow is imported by the functions that need it.
Arrow = Any

SUFFIXES = (".csv", ".tsv", ".parquet", ".jsonl", ".ndjson", ".json")
# Small enough for a processor's cache; what is written is gathered to larger pieces, which are faster to read.
_BLOCK_BYTES = 4 * 2**20
_PIECE_BYTES = 64 * 2**20


@dataclass(frozen=True, slots=True)
class Part:
    """A Parquet file with some of a table's rows; `metadata` is its footer."""

    path: Path
    metadata: Any
    names: frozenset[str]

    @property
    def rows(self) -> int:
        return int(self.metadata.num_rows)


@dataclass(frozen=True, slots=True)
class Frame:
    """A table. `label` is what to call it in a message; `names` are its columns, in the order of their first file."""

    label: str
    parts: Sequence[Part]
    names: Sequence[str]

    @property
    def rows(self) -> int:
        return sum(part.rows for part in self.parts)

    def column(self, name: str) -> Arrow:
        """All its values, as pyarrow's chunked array of the narrowest type that holds those of every file; nulls for the rows of
        files without it."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        found = []
        for part in self.parts:
            if name in part.names:
                with pq.ParquetFile(part.path, metadata=part.metadata) as file:
                    found.append(_decoded(file.read(columns=[name], use_threads=False).column(0)))
            else:
                found.append(pa.chunked_array([pa.nulls(part.rows)]))
        wanted = _common_type([column.type for column in found])
        chunks = [chunk for column in found for chunk in _as(column, wanted).chunks]
        return pa.chunked_array(chunks, type=wanted)


def read(files: Sequence[Path], scratch: Path, label: str) -> Frame:
    """The rows of all the files together. Raises `NotFound` for a file that is not there, `UsageError` for one of no known kind,
    `AmlflowError` for one that does not parse."""
    parts: list[Part] = []
    # Collectors write a file for each hour or request: all of them go to one.
    with _Spill(scratch / "json") as spill:
        for index, file in enumerate(files):
            if not file.is_file():
                raise NotFound(f"There is no file {str(file)!r}.", "Check the path of the data.")
            with _translated(file):
                if (suffix := _suffix(file)) in (".csv", ".tsv"):
                    parts += _of_csv(file, suffix, scratch / str(index))
                elif suffix == ".parquet":
                    parts.append(_part(file))
                else:
                    for table in records.tables(file, whole=suffix == ".json"):
                        spill.write(table)
    parts += spill.parts
    names = dict.fromkeys(name for part in parts for name in part.metadata.schema.to_arrow_schema().names)
    return Frame(label, parts, list(names))


def of_table(table: Arrow, scratch: Path, label: str) -> Frame:
    """The frame of a table in memory."""
    with _Spill(scratch / "table") as spill:
        spill.write(table)
    return Frame(label, spill.parts, table.schema.names)


def _suffix(file: Path) -> str:
    suffixes = [suffix.lower() for suffix in file.suffixes]
    suffix = suffixes[-2] if suffixes[-1:] == [".gz"] and len(suffixes) > 1 else (suffixes or [""])[-1]
    if suffix not in SUFFIXES:
        raise UsageError(
            f"{str(file)!r} is no table that amlflow reads.", f"Give one of {', '.join(SUFFIXES)} (or .gz)."
        )
    return suffix


def _of_csv(file: Path, suffix: str, scratch: Path) -> list[Part]:
    """Types are guessed from the first block; a file whose later blocks do not fit them is read again as text, of which each
    column then makes what it can."""
    import pyarrow as pa

    names, delimiter = _heading(file, suffix)
    for as_text in (False, True):
        try:
            with _Spill(scratch.with_name(f"{scratch.name}-{int(as_text)}")) as spill:
                for batch in _csv_batches(file, names, delimiter, as_text):
                    spill.write(pa.Table.from_batches([batch]))
            return spill.parts
        except pa.ArrowInvalid as error:
            spill.discard()
            if as_text or "conversion error" not in str(error):
                raise
    raise AssertionError


def _csv_batches(file: Path, names: Sequence[str], delimiter: str, as_text: bool) -> Iterator[Arrow]:
    import pyarrow as pa
    from pyarrow import csv

    with csv.open_csv(
        file,
        csv.ReadOptions(block_size=_BLOCK_BYTES, column_names=list(names), skip_rows_after_names=1),
        csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
        csv.ConvertOptions(
            strings_can_be_null=True, column_types=dict.fromkeys(names, pa.string()) if as_text else None
        ),
    ) as reader:
        yield from reader


def _heading(file: Path, suffix: str) -> tuple[list[str], str]:
    """The names in the first row, and what parts them."""
    import csv

    import pyarrow as pa

    with pa.input_stream(str(file), compression="detect") as stream:
        text = stream.read(2**20).decode("utf-8-sig", errors="replace")
    line = text.splitlines()[0] if text.strip() else ""
    if not line:
        raise NotFound(f"{str(file)!r} is empty: it has no heading row.", "Give a file with data.")
    delimiter = "\t" if suffix == ".tsv" else ";" if line.count(";") > line.count(",") else ","
    names = next(csv.reader([line], delimiter=delimiter))
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UsageError(f"{str(file)!r} names the column {twice[0]!r} twice.", "Give each column a name of its own.")
    return names, delimiter


class _Spill:
    """Writes tables as Parquet files, a new one whenever the columns or their types change."""

    def __init__(self, stem: Path) -> None:
        self._stem = stem
        self._paths: list[Path] = []
        self._writer: Any = None
        self._waiting: list[Arrow] = []

    def __enter__(self) -> _Spill:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    @property
    def parts(self) -> list[Part]:
        return [_part(path) for path in self._paths]

    def write(self, table: Arrow) -> None:
        table = _flat(table)
        if self._writer is None or not self._writer.schema.equals(table.schema):
            self._open(table.schema)
        self._waiting.append(table)
        if sum(waiting.nbytes for waiting in self._waiting) >= _PIECE_BYTES:
            self._flush()

    def _open(self, schema: Arrow) -> None:
        import pyarrow.parquet as pq

        self._close()
        self._stem.parent.mkdir(parents=True, exist_ok=True)
        self._paths.append(self._stem.with_name(f"{self._stem.name}.{len(self._paths)}.parquet"))
        # Read back once and soon: neither compressed nor encoded.
        self._writer = pq.ParquetWriter(
            self._paths[-1], schema, compression="none", use_dictionary=False, write_statistics=False
        )

    def _flush(self) -> None:
        import pyarrow as pa

        if self._waiting:
            self._writer.write_table(pa.concat_tables(self._waiting))
        self._waiting = []

    def _close(self) -> None:
        if self._writer is not None:
            self._flush()
            self._writer.close()
            self._writer = None

    def discard(self) -> None:
        for path in self._paths:
            path.unlink(missing_ok=True)


def _part(path: Path) -> Part:
    import pyarrow.parquet as pq

    metadata = pq.read_metadata(path)
    return Part(path, metadata, frozenset(metadata.schema.to_arrow_schema().names))


def _flat(table: Arrow) -> Arrow:
    """The table without types that the comparison has no use for: what is nested becomes its JSON text."""
    import pyarrow as pa

    for index, field in enumerate(table.schema):
        if pa.types.is_nested(field.type):
            texts = [records.text(value) for value in table.column(index).to_pylist()]
            table = table.set_column(index, field.name, pa.array(texts, pa.string()))
    return table


def _common_type(types: Sequence[Arrow]) -> Arrow:
    import pyarrow as pa

    known = {kind for kind in types if not pa.types.is_null(kind)}
    if len(known) < 2:
        return next(iter(known), pa.null())
    if all(pa.types.is_integer(kind) for kind in known):
        return pa.int64()
    if all(pa.types.is_integer(kind) or pa.types.is_floating(kind) for kind in known):
        return pa.float64()
    if all(pa.types.is_timestamp(kind) or pa.types.is_date(kind) for kind in known):
        return pa.timestamp("us", tz="UTC" if any(getattr(kind, "tz", None) for kind in known) else None)
    return pa.string()


def _decoded(column: Arrow) -> Arrow:
    """Values instead of codes, as which pandas writes its categories, and text of the usual size of offsets."""
    import pyarrow as pa

    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    return column.cast(pa.string()) if pa.types.is_large_string(column.type) else column


def _as(column: Arrow, wanted: Arrow) -> Arrow:
    import pyarrow as pa

    if column.type.equals(wanted):
        return column
    try:
        return column.cast(wanted, safe=False)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        texts = [None if value is None else str(value) for value in column.to_pylist()]
        return pa.chunked_array([pa.array(texts, pa.string())])


@contextlib.contextmanager
def _translated(file: Path) -> Iterator[None]:
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise AmlflowError(
            f"{str(file)!r} cannot be read: {reason}.", "Check that it is what its name says."
        ) from error
