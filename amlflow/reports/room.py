"""What a page holds of the words of its runs: where there is no room for all, long values are cut and whole columns left out."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

# Below the 20 MB that a page may have, as some browsers and most mail servers take it, with room for what is not counted.
MOST_BYTES = 19_500_000
MOST_OF_A_VALUE = 200

Column = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Fitted:
    """The columns that fit, of each kind the first ones; `notes` are sentences on what was left out."""

    metrics: Sequence[Column]
    params: Sequence[Column]
    tags: Sequence[Column]
    notes: Sequence[str]


def fitted(metrics: Sequence[Column], params: Sequence[Column], tags: Sequence[Column], room_bytes: int) -> Fitted:
    """Metrics come before params and those before tags. Values are cut only where they would not fit as they are."""
    notes: list[str] = []
    if sum(weight(column) for columns in (metrics, params, tags) for column in columns) > room_bytes:
        shorter = [[_cut(column) for column in columns] for columns in (params, tags)]
        if [list(params), list(tags)] != shorter:
            notes.append(f"Cut after {MOST_OF_A_VALUE} characters: long params and tags, which would not fit.")
        params, tags = shorter
    kept: list[Sequence[Column]] = []
    for name, columns in (("metrics", metrics), ("params", params), ("tags", tags)):
        count = 0
        while count < len(columns) and weight(columns[count]) <= room_bytes:
            room_bytes -= weight(columns[count])
            count += 1
        if count < len(columns):
            notes.append(
                f"Left out, being too large for the page: the last {len(columns) - count} of {len(columns)} {name}."
            )
            room_bytes = 0
        kept.append(columns[:count])
    return Fitted(kept[0], kept[1], kept[2], notes)


def weight(value: Any) -> int:
    """The bytes of the value in a page, which writes three signs as six characters each."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return len(text.encode("utf-8", "replace")) + 5 * sum(map(text.count, "<>&"))


def shortened(value: str, most: int = MOST_OF_A_VALUE) -> str:
    return value if len(value) <= most else f"{value[: most - 1]}…"


def _cut(column: Column) -> Column:
    def cut(value: str | None) -> str | None:
        return None if value is None else shortened(value)

    return {key: [cut(one) for one in value] if key == "values" else value for key, value in column.items()} | (
        {"same": cut(column["same"])} if "same" in column else {}
    )
