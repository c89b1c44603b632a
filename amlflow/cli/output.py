"""The one sink for results. stdout carries what a command found and nothing else."""

from __future__ import annotations

import json
import math
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from amlflow.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

Record = Mapping[str, Any]

_MANY = 500


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table: its heading, and what it shows of a record (a key, or a function of the record)."""

    heading: str
    value: str | Callable[[Record], Any]
    right: bool = False
    style: str = ""

    def of(self, record: Record) -> str:
        found = self.value(record) if callable(self.value) else record.get(self.value)
        return text(found)


class Output:
    """Prints records as a table, tab-separated text, JSON or YAML. Without a format named, a terminal gets a table and
    a pipe gets tab-separated text."""

    def __init__(self, format: str = "", query: str = "", quiet: bool = False) -> None:
        self.format = format or ("table" if sys.stdout.isatty() else "tsv")
        self.query = query
        self.quiet = quiet

    def many(self, records: Sequence[Record], columns: Sequence[Column], identifier: str, empty: str = "") -> None:
        """A list. `identifier` is the key that -q prints; `empty` is said on stderr when there is nothing."""
        if self.query:
            self._queried(list(records))
        elif self.quiet:
            _lines(text(record.get(identifier)) for record in records)
        elif self.format in ("json", "yaml"):
            self._dump(list(records))
        elif not records:
            if empty:
                print(empty, file=sys.stderr)  # noqa: T201
        elif self.format == "tsv":
            print_rows([column.of(record) for column in columns] for record in records)
        else:
            print_table(
                [[column.of(record) for column in columns] for record in records],
                columns,
            )

    def one(self, record: Record, identifier: str, rows: Sequence[tuple[str, Any]] | None = None) -> None:
        """One thing. `rows` are the name-value pairs for people; without them, those of the record."""
        if self.query:
            self._queried(dict(record))
        elif self.quiet:
            _lines([text(record.get(identifier))])
        elif self.format in ("json", "yaml"):
            self._dump(dict(record))
        else:
            pairs = [(name, text(value)) for name, value in (rows if rows is not None else record.items())]
            if self.format == "tsv":
                print_rows(pairs)
            else:
                print_table(
                    [[name, value] for name, value in pairs], [Column("", "", style="bold"), Column("", "")], False
                )

    def wants_document(self) -> bool:
        """Whether the full record is asked for, rather than the rows for people."""
        return bool(self.query) or self.format in ("json", "yaml")

    def _dump(self, value: Any) -> None:
        if self.format == "yaml":
            import yaml

            dumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
            yaml.dump(
                _plain(value), sys.stdout, Dumper=dumper, sort_keys=False, allow_unicode=True, default_flow_style=False
            )
        else:
            sys.stdout.write(to_json(value, indent=2 if sys.stdout.isatty() else None) + "\n")

    def _queried(self, value: Any) -> None:
        import jmespath
        from jmespath.exceptions import JMESPathError

        try:
            found = jmespath.search(self.query, _plain(value))
        except JMESPathError as error:
            reason = str(error).replace("\n", " ")
            raise UsageError(
                f"--query {self.query!r} is not a JMESPath expression: {reason}.", "See https://jmespath.org."
            ) from error
        if self.format in ("json", "yaml"):
            self._dump(found)
        elif isinstance(found, list):
            _lines("\t".join(_one_line(text(cell)) for cell in _cells(item)) for item in found)
        elif isinstance(found, dict):
            _lines(f"{_one_line(str(name))}\t{_one_line(text(item))}" for name, item in found.items())
        elif found is not None:
            _lines([text(found)])


def to_json(value: Any, indent: int | None = None) -> str:
    """Strict JSON: NaN and the infinities, which JSON has no number for, become strings, as in MLflow's REST API."""
    try:
        dumped = json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False)
    except (ValueError, TypeError):
        dumped = json.dumps(_plain(value), indent=indent, ensure_ascii=False, allow_nan=False)
    # The same text to any reader but a CI service, which takes `##[` and `##vso[` for commands.
    return re.sub("#(?=#)", r"\\u0023", dumped) if "##" in dumped else dumped


def print_rows(rows: Iterable[Sequence[str]]) -> None:
    """Tab-separated text, a line a row."""
    _lines("\t".join(map(_one_line, row)) for row in rows)


def print_table(rows: Sequence[Sequence[str]], columns: Sequence[Column], headings: bool = True) -> None:
    """A table for a person's eyes; plain and as wide as it needs to be where stdout is not a terminal."""
    out = console()
    # Rich takes more than a millisecond for a row of a dozen columns.
    lines = aligned(rows, columns, out.width) if headings and len(rows) > _MANY else None
    if lines is not None:
        _lines(lines)
    else:
        out.print(table(rows, columns, headings))


def aligned(rows: Sequence[Sequence[str]], columns: Sequence[Column], width: int) -> list[str] | None:
    """The lines of the same table without Rich; None where they need more than the width, or a style."""
    from rich.cells import cell_len

    def size_of(cell: str) -> int:
        return len(cell) if cell.isascii() else cell_len(cell)

    cells = [[_printable(column.heading) for column in columns], *([_printable(cell) for cell in row] for row in rows)]
    widths = [max(map(size_of, column)) for column in zip(*cells, strict=True)]
    if sum(widths) + 2 * len(widths) > width or any(column.style for column in columns):
        return None
    lines = []
    for row in cells:
        parts = []
        for cell, column, most in zip(row, columns, widths, strict=True):
            space = " " * (most - size_of(cell))
            parts.append(space + cell if column.right else cell + space)
        lines.append("  ".join(parts).rstrip())
    return lines


def table(rows: Sequence[Sequence[str]], columns: Sequence[Column], headings: bool = True) -> Table:
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=None, show_header=headings, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for column in columns:
        drawn.add_column(
            Text(_printable(column.heading)),
            justify="right" if column.right else "left",
            style=column.style,
            overflow="fold",
        )
    for row in rows:
        drawn.add_row(*(Text.from_ansi(cell) if "\x1b" in cell else Text(cell) for cell in row))
    return drawn


def console() -> Console:
    """stdout, as wide as the terminal, or as what is printed needs where it is none."""
    from rich.console import Console

    width = None if sys.stdout.isatty() or os.environ.get("COLUMNS") else 10_000
    return Console(width=width, no_color=True if os.environ.get("NO_COLOR") else None, highlight=False)


def text(value: Any) -> str:
    """A value as a person reads it."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return number(value)
    if isinstance(value, Mapping):
        return ", ".join(f"{name}={text(item)}" for name, item in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(text(item) for item in value)
    return str(value)


def number(value: float) -> str:
    """Six significant digits, which is more than two runs ever need to be told apart by eye."""
    if math.isfinite(value) and value == int(value) and abs(value) < 1e15:
        return str(int(value))
    return f"{value:.6g}"


def moment(epoch_ms: int | None) -> str:
    """Local time, to the second; empty for none."""
    if epoch_ms is None:
        return ""
    from datetime import datetime

    return datetime.fromtimestamp(epoch_ms / 1000).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def duration(start_ms: int | None, end_ms: int | None) -> str:
    if start_ms is None or end_ms is None:
        return ""
    seconds = max(0, end_ms - start_ms) / 1000
    if seconds < 60:
        return f"{seconds:.1f}s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02d}m" if hours else f"{minutes}m{rest:02d}s"


def size(count: int | None) -> str:
    if count is None:
        return ""
    amount = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} TB"


def _lines(lines: Iterable[str]) -> None:
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    sys.stdout.flush()


def _printable(cell: str) -> str:
    return cell if cell.isprintable() else "".join(sign if sign.isprintable() else " " for sign in cell)


def _one_line(value: str) -> str:
    if "\t" in value or "\n" in value or "\r" in value:
        return value.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")
    return value


def _cells(item: Any) -> Sequence[Any]:
    if isinstance(item, dict):
        return list(item.values())
    return item if isinstance(item, list) else [item]


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value
