"""Text cells under headings, and what they have in common in a terminal and in a pull request."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Direction = Literal["higher", "lower", "unknown"]

# What would begin a link, an image, code or emphasis; an underscore within a word begins nothing.
_MARKS = re.compile(r"[\\|`*\[\]~]|(?<![^\W_])_|_(?![^\W_])")
METRICS_IN_ROWS = 6
BEST = "★"


@dataclass(frozen=True, slots=True)
class Grid:
    """`right` holds the positions of the columns of numbers, `left_out` what did not fit."""

    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    right: frozenset[int]
    left_out: str = ""


def arrow(direction: Direction) -> str:
    """The way to the better, after a metric's name."""
    return {"lower": " ↓", "higher": " ↑", "unknown": ""}[direction]


def markdown(table: Grid) -> str:
    """A GitHub-flavoured table; cells cannot break out of it."""
    head = "| " + " | ".join(escaped(cell) or " " for cell in table.headings) + " |"
    rule = "| " + " | ".join("---:" if index in table.right else "---" for index in range(len(table.headings))) + " |"
    body = ["| " + " | ".join(escaped(cell) for cell in row) + " |" for row in table.rows]
    note = ["", f"_{escaped(table.left_out)}_"] if table.left_out else []
    return "\n".join([head, rule, *body, *note]) + "\n"


def escaped(cell: str) -> str:
    """The text where Markdown would read signs of it as its own."""
    return _MARKS.sub(r"\\\g<0>", " ".join(cell.split())).replace("&", "&amp;").replace("<", "&lt;")


def code(text: str) -> str:
    """A code span of a table's cell; empty for no text. Its fence is longer than any run of backticks in it."""
    fence = "`" * (max((len(run) for run in re.findall("`+", text)), default=0) + 1)
    return f"{fence} {' '.join(text.split()).replace('|', chr(92) + '|')} {fence}" if text else ""
