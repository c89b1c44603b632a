"""The ids by which predictions and truths are joined: as text, in one spelling on both sides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from amlflow.errors import AmlflowError
from amlflow.monitoring.frames import Frame

# A pyarrow column; pyarrow is imported by the functions that need it.
Arrow = Any

_SHOWN = 3
# Doubles hold every whole number below.
_EXACT_BELOW = 2.0**53
_TIME = r"^(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d)(?:\.0+|(\.\d*[1-9])0*)?(?:Z|[+-]00:?00)?$"
_MIDNIGHT = r"^(\d{4}-\d\d-\d\d) 00:00:00$"
_WHOLE, _DECIMAL, _PADDED = r"^-?\d+$", r"^[-+]?\d+\.\d+$", r"^(-?)0+(\d)"


@dataclass(frozen=True, slots=True)
class Ids:
    """An id a row of the data and of the truth, null where there is none."""

    data: Arrow
    truth: Arrow
    notes: Sequence[str] = ()


def of(data: Frame, name: str, truth: Frame, truth_name: str) -> Ids:
    """7, 7.0 and '7' are one id, a day and its midnight, too; '07' and '7' are two, unless zeros stand before the ids of one
    side alone. Raises `AmlflowError` where an id has two truths, or is a number that its file does not hold exactly."""
    ids, truth_ids = _text(data, name), _text(truth, truth_name)
    notes = []
    for padded, plain, what in ((ids, truth_ids, "data"), (truth_ids, ids, "truth")):
        stripped = _unpadded(padded, plain)
        if stripped is not None:
            ids, truth_ids = (stripped, plain) if what == "data" else (plain, stripped)
            notes.append(f"The ids of the {what} begin with zeros, and the others do not: both are read as numbers.")
    _check_unique(truth, truth_name, truth_ids)
    return Ids(ids, truth_ids, notes)


def examples(ids: Arrow) -> str:
    shown = [value for value in ids.slice(0, 1000).to_pylist() if value is not None][:_SHOWN]
    return f"{', '.join(map(repr, shown))}…" if shown else "nothing"


def _text(frame: Frame, name: str) -> Arrow:
    import pyarrow as pa
    import pyarrow.compute as pc

    column = frame.column(name)
    kind = column.type
    if pa.types.is_floating(kind):
        return _of_doubles(frame, name, column)
    if pa.types.is_timestamp(kind) and kind.tz:
        column = column.cast(pa.timestamp(kind.unit, "UTC"))
    text = column.cast(pa.string())
    if pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        return text
    if pc.any(pc.match_substring_regex(text, _TIME)).as_py():
        text = pc.replace_substring_regex(text, _TIME, r"\1 \2\3")
        return pc.replace_substring_regex(text, _MIDNIGHT, r"\1")
    # As pandas writes whole numbers of which one is missing. Where only some have a point, they are names.
    if pc.all(pc.match_substring_regex(text, _DECIMAL)).as_py():
        return pc.replace_substring_regex(text, r"\.?0+$", "")
    return text


def _of_doubles(frame: Frame, name: str, column: Arrow) -> Arrow:
    import pyarrow as pa
    import pyarrow.compute as pc

    column = pc.if_else(pc.is_nan(column), pa.scalar(None, column.type), column)
    if not pc.all(pc.equal(pc.floor(column), column)).as_py():
        return column.cast(pa.string())
    large = column.filter(pc.greater_equal(pc.abs(column), _EXACT_BELOW))
    if len(large):
        raise AmlflowError(
            f"The ids {name!r} of {frame.label} are read as floating-point numbers, which do not tell whole numbers beyond 2^53 "
            f"apart, for example {large[0].as_py():.0f}.",
            "Write the ids as text (in quotes), or as whole numbers of 64 bits.",
        )
    return column.cast(pa.int64()).cast(pa.string())


def _unpadded(padded: Arrow, plain: Arrow) -> Arrow | None:
    """Numbers without the zeros before them, None where those tell ids apart or both sides have them."""
    import pyarrow.compute as pc

    def is_any(column: Arrow, pattern: str) -> bool:
        return bool(pc.any(pc.match_substring_regex(column, pattern)).as_py())

    def is_all(column: Arrow, pattern: str) -> bool:
        return bool(pc.all(pc.match_substring_regex(column, pattern)).as_py())

    if not is_any(padded, _PADDED) or is_any(plain, _PADDED) or not is_all(padded, _WHOLE) or not is_all(plain, _WHOLE):
        return None
    stripped = pc.replace_substring_regex(padded, _PADDED, r"\1\2")
    return stripped if pc.count_distinct(stripped).as_py() == pc.count_distinct(padded).as_py() else None


def _check_unique(truth: Frame, name: str, ids: Arrow) -> None:
    import pyarrow.compute as pc

    known = ids.drop_null()
    if pc.count_distinct(known).as_py() == len(known):
        return
    counted = pc.value_counts(known.combine_chunks()).to_pylist()
    twice = [item["values"] for item in counted if item["counts"] > 1]
    raise AmlflowError(
        f"{len(twice)} ids of {name!r} have several truths in {truth.label}, for example "
        f"{', '.join(map(repr, twice[:_SHOWN]))}.",
        "Keep one row an id, or join by another column.",
    )
