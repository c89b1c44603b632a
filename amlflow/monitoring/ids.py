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
_TIME = r"^(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d)(?:\.0+|(\.\d*[1-9])0*)?(?:Z|[+-]00(?::?00)?)?$"
_MIDNIGHT = r"^(\d{4}-\d\d-\d\d) 00:00:00$"
_WITHOUT_SECONDS = r"^(\d{4}-\d\d-\d\d[T ]\d\d:\d\d)(Z|[+-]\d\d(?::?\d\d)?)?$"
_ZONED = (
    r"^(?P<day>\d{4}-\d\d-\d\d)[T ](?P<clock>\d\d:\d\d:\d\d)(?P<fraction>\.\d+)?"
    r"(?P<sign>[+-])(?P<hours>\d\d):?(?P<minutes>\d\d)?$"
)
_UTC, _MOMENT = r"[+-]00(:?00)?$", "%Y-%m-%d %H:%M:%S"
_WHOLE, _PADDED = r"^-?\d+$", r"^(-?)0+(\d)"
_WHOLE_OR_POINT, _POINT = r"^[-+]?\d+(\.0+)?$", r"\.0+$"
# A part behind the point that is not nought: of a fraction or of a version.
_PART = r"^[-+]?\d+\.(.*[^0].*)?$"
_NUMBER, _IDLE_ZEROS = r"^[-+]?\d+(\.\d+)?$", r"(?:\.0+|(\.\d*[1-9])0+)$"


@dataclass(frozen=True, slots=True)
class Ids:
    """An id a row of the data and of the truth, null where there is none."""

    data: Arrow
    truth: Arrow
    notes: Sequence[str] = ()


def of(data: Frame, name: str, truth: Frame, truth_name: str) -> Ids:
    """7, 7.0 and '7' are one id where no id has another part behind its point; so are a moment in two zones, and a day and its
    midnight. '07' and '7' are two, unless zeros stand before the ids of one side alone. Raises `AmlflowError` where an id has two
    truths, or is a number that its file does not hold exactly."""
    sides = [(data.label, name, data.column(name)), (truth.label, truth_name, truth.column(truth_name))]
    are_numbers = any(_is_fraction_type(column.type) for _, _, column in sides)
    ids, truth_ids = _without_idle_zeros([_text(*side) for side in sides], are_numbers)
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


def _text(label: str, name: str, column: Arrow) -> Arrow:
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = column.type
    if pa.types.is_floating(kind):
        return _of_doubles(label, name, column)
    if pa.types.is_timestamp(kind) and kind.tz:
        column = column.cast(pa.timestamp(kind.unit, "UTC"))
    text = column.cast(pa.string())
    if pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        return text
    text = pc.utf8_trim_whitespace(text)
    text = pc.if_else(pc.equal(text, ""), pa.scalar(None, pa.string()), text)
    text = _in_utc(pc.replace_substring_regex(text, _WITHOUT_SECONDS, r"\1:00\2"))
    if _is_any(text, _TIME):
        text = pc.replace_substring_regex(text, _TIME, r"\1 \2\3")
        return pc.replace_substring_regex(text, _MIDNIGHT, r"\1")
    return text


def _in_utc(text: Arrow) -> Arrow:
    """Times with an offset, in UTC; what is no time as it is."""
    import pyarrow as pa
    import pyarrow.compute as pc

    zoned = pc.and_not(pc.match_substring_regex(text, _ZONED), pc.match_substring_regex(text, _UTC))
    zoned = pc.fill_null(zoned, False)
    if not pc.any(zoned).as_py():
        return text
    found = text.filter(zoned).combine_chunks()
    parts = pc.extract_regex(found, _ZONED)
    day, clock, fraction, sign, hours, minutes = (parts.field(i) for i in range(6))
    there = pc.strptime(pc.binary_join_element_wise(day, clock, " "), _MOMENT, "s", error_is_null=True)
    ahead = pc.add(pc.multiply(_whole(hours), 3600), pc.multiply(_whole(minutes), 60))
    ahead = pc.if_else(pc.equal(sign, "-"), pc.negate(ahead), ahead)
    moved = pc.subtract(there, ahead.cast(pa.duration("s"))).cast(pa.string())
    moved = pc.coalesce(pc.binary_join_element_wise(moved, fraction, ""), found)
    return pa.chunked_array([pc.replace_with_mask(text.combine_chunks(), zoned.combine_chunks(), moved)])


def _whole(digits: Arrow) -> Arrow:
    import pyarrow as pa
    import pyarrow.compute as pc

    return pc.if_else(pc.equal(digits, ""), "0", digits).cast(pa.int64())


def _is_fraction_type(kind: Arrow) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def _without_idle_zeros(sides: Sequence[Arrow], are_numbers: bool) -> Sequence[Arrow]:
    """Without the zeros behind the point that pandas writes of whole numbers of which one is missing. Where another part stands
    behind the point of any, they are names, as of versions, unless a side has them as numbers."""
    import pyarrow.compute as pc

    if not any(pc.any(pc.match_substring(side, ".")).as_py() for side in sides):
        return sides
    if not any(_is_any(side, _PART) for side in sides):
        return [
            pc.replace_substring_regex(side, _POINT, "") if _is_all(side, _WHOLE_OR_POINT) else side for side in sides
        ]
    if are_numbers and all(_is_all(side, _NUMBER) for side in sides):
        return [pc.replace_substring_regex(side, _IDLE_ZEROS, r"\1") for side in sides]
    return sides


def _of_doubles(label: str, name: str, column: Arrow) -> Arrow:
    import pyarrow as pa
    import pyarrow.compute as pc

    column = pc.if_else(pc.is_nan(column), pa.scalar(None, column.type), column)
    if not pc.all(pc.equal(pc.floor(column), column)).as_py():
        return column.cast(pa.string())
    large = column.filter(pc.greater_equal(pc.abs(column), _EXACT_BELOW))
    if len(large):
        raise AmlflowError(
            f"The ids {name!r} of {label} are read as floating-point numbers, which do not tell whole numbers beyond 2^53 "
            f"apart, for example {large[0].as_py():.0f}.",
            "Write the ids as text (in quotes), or as whole numbers of 64 bits.",
        )
    return column.cast(pa.int64()).cast(pa.string())


def _unpadded(padded: Arrow, plain: Arrow) -> Arrow | None:
    """Numbers without the zeros before them, None where those tell ids apart or both sides have them."""
    import pyarrow.compute as pc

    if (
        not _is_any(padded, _PADDED)
        or _is_any(plain, _PADDED)
        or not _is_all(padded, _WHOLE)
        or not _is_all(plain, _WHOLE)
    ):
        return None
    stripped = pc.replace_substring_regex(padded, _PADDED, r"\1\2")
    return stripped if pc.count_distinct(stripped).as_py() == pc.count_distinct(padded).as_py() else None


def _is_any(ids: Arrow, pattern: str) -> bool:
    import pyarrow.compute as pc

    return bool(pc.any(pc.match_substring_regex(ids, pattern)).as_py())


def _is_all(ids: Arrow, pattern: str) -> bool:
    import pyarrow.compute as pc

    return bool(pc.all(pc.match_substring_regex(ids, pattern)).as_py())


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
