"""The pieces that a table lies in: Parquet files of somebody's, and what was read from other files, put down uncompressed.

What is put down are Arrow's own files (its IPC format): a column of them is mapped into memory as it lies, without decoding.
"""

from __future__ import annotations

import contextlib
import csv
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from amlflow.errors import AmlflowError, UsageError

# A pyarrow table, schema or column; pyarrow is imported by the functions that need it.
Arrow = Any

# What is written is gathered to pieces of this size: of smaller ones a column would be read in many steps.
_PIECE_BYTES = 64 * 2**20
# What is read of a Parquet file at once, where that is several columns.
_READ_BYTES = 4 * 2**20
# Pages of a mapping that were looked at count as memory until it is dropped.
_MAPPED_BYTES = 64 * 2**20


class Part(Protocol):
    """Some of a table's rows. Columns may be asked for by several threads."""

    @property
    def rows(self) -> int: ...

    @property
    def names(self) -> Mapping[str, None]:
        """Its columns, in their order."""

    def column(self, name: str) -> Arrow:
        """Its values, as pyarrow's chunked array."""


class ParquetPart:
    """A Parquet file. Raises pyarrow's errors for one that is none, `UsageError` for one with a name twice."""

    def __init__(self, path: Path) -> None:
        import pyarrow.parquet as pq

        self._path = path
        self._metadata = pq.read_metadata(path)
        self.rows = int(self._metadata.num_rows)
        found = self._metadata.schema.to_arrow_schema().names
        check_names(path, found)
        self.names: Mapping[str, None] = dict.fromkeys(found)
        groups = (self._metadata.row_group(i).total_byte_size for i in range(self._metadata.num_row_groups))
        self._at_once = max(1, _READ_BYTES * len(found) // max(1, sum(groups)))
        self._places = {name: place for place, name in enumerate(found)}
        self._held: Mapping[str, Arrow] = {}
        self._lock = threading.Lock()

    def column(self, name: str) -> Arrow:
        if self._at_once == 1:
            return self._read([name])[name]
        # To open a file takes a time for each of its columns, and so narrow ones are read with their neighbours.
        with self._lock:
            if name not in self._held:
                start = self._places[name] // self._at_once * self._at_once
                self._held = self._read(list(self._places)[start : start + self._at_once])
            return self._held[name]

    def _read(self, names: list[str]) -> dict[str, Arrow]:
        import pyarrow.parquet as pq

        with translated(self._path), pq.ParquetFile(self._path, metadata=self._metadata) as file:
            columns = None if len(names) == len(self.names) else names
            table = file.read(columns=columns, use_threads=False)
        return {name: table.column(name) for name in names}


@contextlib.contextmanager
def translated(file: Path) -> Iterator[None]:
    """Raises what readers say of the content of a file as `AmlflowError`."""
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, UnicodeError, csv.Error, RecursionError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            # The system's own; pyarrow's, of content that does not unpack, has no number.
            raise
        reason = " ".join(str(error).split())[:300].rstrip(".")
        raise AmlflowError(
            f"{str(file)!r} cannot be read: {reason}.", "Check that it is what its name says."
        ) from error


def check_names(file: Path, names: Sequence[str]) -> None:
    """Raises `UsageError` for a name that stands there twice."""
    twice = [name for name, times in Counter(names).items() if times > 1]
    if twice:
        raise UsageError(f"{str(file)!r} names the column {twice[0]!r} twice.", "Give each column a name of its own.")


class _SpilledPart:
    def __init__(self, path: Path, rows: int, names: Sequence[str]) -> None:
        self._path, self.rows = path, rows
        self.names: Mapping[str, None] = dict.fromkeys(names)
        self._table: Arrow = None
        self._looked_at = 0
        self._lock = threading.Lock()

    def column(self, name: str) -> Arrow:
        import pyarrow as pa

        with self._lock:
            if self._table is None or self._looked_at > _MAPPED_BYTES:
                with pa.memory_map(str(self._path)) as source:
                    self._table = pa.ipc.open_file(source).read_all()
                self._looked_at = 0
            found = self._table.column(name)
            self._looked_at += found.nbytes
        return found


class Stopped(Exception):
    """What a reader ends with when nobody waits for it any more."""


class Spill:
    """Puts tables down, in a new file whenever the columns or their types change. Raises `Stopped` once `stop` is set."""

    def __init__(self, stem: Path, stop: threading.Event) -> None:
        self._stem = stem
        self._stop = stop
        self._found: list[tuple[Path, int, Sequence[str]]] = []
        self._schema: Arrow = None
        self._writer: Any = None
        self._rows = 0
        self._waiting: list[Arrow] = []
        self._waiting_bytes = 0

    def __enter__(self) -> Spill:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        """After an error, nothing is kept."""
        self._close()
        if kind is not None:
            for found in self._found:
                found[0].unlink(missing_ok=True)

    @property
    def parts(self) -> list[Part]:
        """Once it is closed."""
        return [_SpilledPart(*found) for found in self._found]

    def write(self, table: Arrow) -> None:
        if self._stop.is_set():
            raise Stopped
        if self._schema is None or not self._schema.equals(table.schema):
            self._open(table.schema)
        self._waiting.append(table)
        self._waiting_bytes += table.nbytes
        if self._waiting_bytes >= _PIECE_BYTES:
            self._flush()

    def _open(self, schema: Arrow) -> None:
        import pyarrow as pa

        self._close()
        self._stem.parent.mkdir(parents=True, exist_ok=True)
        self._path = self._stem.with_name(f"{self._stem.name}.{len(self._found)}.arrow")
        self._schema, self._rows = schema, 0
        self._writer = pa.ipc.new_file(str(self._path), schema)

    def _flush(self) -> None:
        import pyarrow as pa

        if self._waiting:
            table = pa.concat_tables(self._waiting).combine_chunks()
            self._rows += table.num_rows
            self._writer.write_table(table)
        self._waiting, self._waiting_bytes = [], 0

    def _close(self) -> None:
        if self._writer is not None:
            self._flush()
            self._writer.close()
            self._writer = None
            self._found.append((self._path, self._rows, self._schema.names))
