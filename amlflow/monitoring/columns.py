"""A column's kind, its values as that kind, and what a window of them holds.

A column is numeric, categorical, boolean, a time or text. Times are compared as seconds since 1970, texts by their length in
characters, booleans as categories.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from functools import cached_property
from typing import Any, Literal

from amlflow.monitoring import labels, metrics
from amlflow.monitoring.labels import Form, Labels

Kind = Literal["numeric", "categorical", "boolean", "time", "text"]
KINDS: Sequence[Kind] = ("numeric", "categorical", "boolean", "time", "text")
Array = Any
Arrow = Any

# As in Azure ML's monitors, an integer column of which so small a share of the values is distinct holds categories. Azure takes
# any number of them; a column of ages or amounts with many rows would count as categories too.
_DISTINCT_SHARE = 0.05
_MOST_INTEGER_CATEGORIES = 50
# A text column with so many distinct values, and so large a share of them, holds no categories.
_TEXT_DISTINCT, _TEXT_SHARE = 50, 0.5
# Where zeros stand before no more of the whole numbers, they were written so by chance.
_FEW_PADDED = 0.01
_HEAD = 1000
_NUMBER = r"^\s*[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?\s*$"
_NOT_FINITE = r"^\s*[-+]?(?i:inf|infinity|nan)\s*$"
_WHOLE, _PADDED = r"^\s*[-+]?\d+\s*$", r"^\s*0\d"


@dataclass(frozen=True, slots=True)
class Values:
    """A whole column as one kind, an entry a row. `numbers` (NaN for none) or `codes` into `labels` (-1 for none) hold the
    values; `nulls` and `errors` say why there is none: nothing there, or something of another kind."""

    kind: Kind
    nulls: Array
    errors: Array
    numbers: Array = None
    codes: Array = None
    labels: Sequence[str] = ()
    form: Form = "text"

    def taken(self, places: Array) -> Values:
        """The rows at those places, in their order."""
        nulls, errors, numbers, codes = (
            None if part is None else part[places] for part in (self.nulls, self.errors, self.numbers, self.codes)
        )
        return replace(self, nulls=nulls, errors=errors, numbers=numbers, codes=codes)

    def sample(self, rows: slice = slice(None)) -> Sample:
        import numpy as np

        nulls, errors = self.nulls[rows], self.errors[rows]
        counted = len(nulls), int(np.count_nonzero(nulls)), int(np.count_nonzero(errors))
        if self.codes is not None:
            codes = self.codes[rows]
            counts = np.bincount(codes[codes >= 0])
            return Sample(*counted, counts={self.labels[i]: int(counts[i]) for i in np.flatnonzero(counts).tolist()})
        numbers = np.sort(self.numbers[rows])
        # NaN are sorted behind all others.
        low, high = np.searchsorted(numbers, -np.inf, side="right"), np.searchsorted(numbers, np.inf, side="left")
        infinite = low + np.searchsorted(numbers, np.inf, side="right") - high
        return Sample(*counted, infinite=int(infinite), sorted=numbers[low:high])

    def spelling(self, known: Values) -> dict[str, str]:
        """What those of its categories that the other column writes in another way are called there."""
        if self.codes is None or known.codes is None:
            return {}
        return labels.spelled(Labels(known.form, known.labels), Labels(self.form, self.labels))

    def spelled_as(self, known: Values) -> Values:
        """With its categories called as in the other column."""
        import numpy as np

        renamed = self.spelling(known)
        if not renamed:
            return self
        names = [renamed.get(name, name) for name in self.labels]
        place = {name: index for index, name in enumerate(dict.fromkeys(names))}
        codes = np.array([*(place[name] for name in names), -1], dtype=np.int64)[self.codes]
        return replace(self, codes=codes, labels=[*place], form=known.form)


@dataclass(frozen=True)
class Sample:
    """What some rows of a column hold: how many rows, nulls, values of another kind and infinities, and either the finite
    numbers, sorted, or the count of each category."""

    rows: int
    nulls: int
    errors: int
    infinite: int = 0
    sorted: Array = None
    counts: Mapping[str, int] | None = None

    @property
    def size(self) -> int:
        """How many values there are to compare."""
        return len(self.sorted) if self.counts is None else sum(self.counts.values())

    @cached_property
    def spread(self) -> metrics.Spread:
        """Of its numbers: a baseline's is asked for by each window."""
        return metrics.spread(self.sorted)


def kind_of(column: Arrow) -> Kind:
    """What the values of a baseline's column are, by their type, and by how many are distinct."""
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = column.type
    if pa.types.is_boolean(kind):
        return "boolean"
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        return "time"
    if pa.types.is_integer(kind):
        # Most columns of many values show as much in their first rows.
        head = pc.count_distinct(column.slice(0, _HEAD)).as_py()
        distinct = head if head > _MOST_INTEGER_CATEGORIES else pc.count_distinct(column).as_py()
        few = distinct <= _MOST_INTEGER_CATEGORIES and distinct < _DISTINCT_SHARE * (len(column) - column.null_count)
        return "categorical" if few else "numeric"
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return "numeric"
    if pa.types.is_string(kind):
        return _kind_of_text(column)
    return "categorical"


def values(column: Arrow, kind: Kind) -> Values:
    """The column as that kind, whatever its type: text is parsed, and what does not parse counts as an error."""
    import numpy as np
    import pyarrow as pa

    if kind == "numeric" and pa.types.is_floating(column.type):
        numbers = column.cast(pa.float64()).to_numpy()
        return Values(kind, np.isnan(numbers), np.zeros(len(numbers), bool), numbers=numbers)
    nulls = _mask(column.is_null(nan_is_null=pa.types.is_floating(column.type)))
    convert = {"numeric": _numbers, "time": _times, "text": _lengths}.get(kind)
    if convert is None:
        codes, names = _codes(column, kind == "boolean")
        codes = np.where(nulls, -1, codes) if nulls.any() else codes
        errors = (codes == -1) & ~nulls
        return Values(kind, nulls, errors, codes=codes, labels=names, form=_form(column))
    numbers, valid = convert(column)
    return Values(
        kind, nulls, ~valid & ~nulls, numbers=np.where(valid, numbers, np.nan) if not valid.all() else numbers
    )


def _kind_of_text(column: Arrow) -> Kind:
    import pyarrow.compute as pc

    known = column.drop_null()
    if not len(known):
        return "categorical"
    head = known.slice(0, _HEAD)
    if all(pc.all(pc.match_substring_regex(part, f"{_NUMBER}|{_NOT_FINITE}")).as_py() for part in (head, known)):
        return "categorical" if _are_codes(known) else "numeric"
    if all(_epoch_s(value) is not None for value in head.to_pylist()):
        return "time"
    return "text" if _is_mostly_distinct(known) else "categorical"


def _are_codes(numbers: Arrow) -> bool:
    """Whether texts of numbers are names, such as postcodes: whole ones with zeros before them, which come again."""
    import pyarrow.compute as pc

    padded = pc.sum(pc.match_substring_regex(numbers, _PADDED)).as_py()
    if padded <= _FEW_PADDED * len(numbers) or not pc.all(pc.match_substring_regex(numbers, _WHOLE)).as_py():
        return False
    return not _is_mostly_distinct(numbers)


def _is_mostly_distinct(known: Arrow) -> bool:
    import pyarrow.compute as pc

    distinct: int = pc.count_distinct(known).as_py()
    return distinct > _TEXT_DISTINCT and distinct > _TEXT_SHARE * len(known)


def _numbers(column: Arrow) -> tuple[Array, Array]:
    """The values as doubles, and where they are any."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_string(column.type):
        fits = pc.fill_null(pc.match_substring_regex(column, f"{_NUMBER}|{_NOT_FINITE}"), False)
        column = pc.utf8_trim_whitespace(pc.if_else(fits, column, pa.nulls(1, column.type)[0]))
    elif pa.types.is_boolean(column.type) or pa.types.is_temporal(column.type):
        return np.full(len(column), np.nan), np.zeros(len(column), bool)
    found = column.cast(pa.float64(), safe=False)
    valid = _mask(found.is_valid())
    return found.to_numpy(), valid


def _times(column: Arrow) -> tuple[Array, Array]:
    """Seconds since 1970."""
    import numpy as np
    import pyarrow as pa

    if pa.types.is_date(column.type) or pa.types.is_timestamp(column.type):
        whole = column.cast(pa.timestamp("us", tz=getattr(column.type, "tz", None)), safe=False)
        valid = _mask(whole.is_valid())
        return whole.cast(pa.int64()).fill_null(0).to_numpy() / 1e6, valid
    if not pa.types.is_string(column.type):
        return np.full(len(column), np.nan), np.zeros(len(column), bool)
    encoded = column.combine_chunks().dictionary_encode()
    known = np.array([_epoch_s(value) for value in encoded.dictionary.to_pylist()] + [np.nan], dtype=float)
    found = known[encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)]
    return found, ~np.isnan(found)


def _lengths(column: Arrow) -> tuple[Array, Array]:
    """Characters; a number's are those of its decimal form."""
    import pyarrow as pa
    import pyarrow.compute as pc

    found = pc.utf8_length(column.cast(pa.string())).cast(pa.float64())
    return found.to_numpy(), _mask(found.is_valid())


def _mask(flags: Arrow) -> Array:
    """Truths as numpy has them, without the slow way over an object each."""
    import pyarrow as pa

    return flags.cast(pa.uint8()).to_numpy().view(bool)


def _codes(column: Arrow, boolean: bool) -> tuple[Array, Sequence[str]]:
    """Each value's place among the labels, -1 for none."""
    import numpy as np

    encoded = column.combine_chunks().dictionary_encode()
    names = [labels.label(value) for value in encoded.dictionary.to_pylist()]
    if boolean:
        names = [labels.truth_of(name) for name in names]
    unique = [name for name in dict.fromkeys(names) if name or not boolean]
    place = {name: index for index, name in enumerate(unique)}
    known = np.array([place.get(name, -1) for name in names] + [-1], dtype=np.int64)
    return known[encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)], unique


def _form(column: Arrow) -> Form:
    import pyarrow as pa

    kind = column.type
    if pa.types.is_boolean(kind):
        return "boolean"
    return "number" if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind) else "text"


def _epoch_s(value: Any) -> float | None:
    """Of an ISO 8601 date or time; UTC where it names no zone."""
    if not isinstance(value, str) or len(value) < 8 or not value[:4].isdigit() or value.isdigit():
        return None
    try:
        found = datetime.fromisoformat(value.strip().replace("Z", "+00:00"))
    except ValueError:
        return None
    return (found if found.tzinfo else found.replace(tzinfo=timezone.utc)).timestamp()
