"""How categories are called, and which of two columns' categories are the same although they are written in other ways.

Only columns that differ in kind are matched: where both hold text, '01' and '1' are two categories.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

# What a column holds by its type.
Form = Literal["boolean", "number", "text"]
Key = Callable[[str], str]

BOOLEANS: Mapping[str, str] = {
    "true": "true",
    "false": "false",
    "1": "true",
    "0": "false",
    "yes": "true",
    "no": "false",
}
_NUMBER = re.compile(r"\s*([-+]?)(0*)(\d+)(?:\.(\d*?)0*)?\s*")


@dataclass(frozen=True, slots=True)
class Labels:
    """The categories of a column."""

    form: Form
    names: Sequence[str]


def label(value: Any) -> str:
    """A whole number is the same category whether it was read as 1, 1.0 or a decimal number 1.00."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, Decimal):
        return plain_number(f"{value:f}")
    return str(value)


def plain_number(text: str) -> str:
    """Without zeros that say nothing; text that is no number as it is."""
    found = _NUMBER.fullmatch(text)
    if not found:
        return text
    sign, _, whole, rest = found.groups()
    return f"{sign.strip('+')}{whole}{f'.{rest}' if rest else ''}"


def truth_of(text: str) -> str:
    """`true` or `false` of a word or number that says so, else empty."""
    return BOOLEANS.get(plain_number(text).strip().lower(), "")


def spelled(known: Labels, own: Labels) -> dict[str, str]:
    """What those of `own` that mean one of `known` in other words are called there."""
    key = _key(known, own)
    if key is None:
        return {}
    by_key: dict[str, str] = {}
    for name in known.names:
        by_key.setdefault(key(name), name)
    strange = {*own.names}.difference(known.names)
    return {name: by_key[key(name)] for name in strange if key(name) in by_key}


def _key(known: Labels, own: Labels) -> Key | None:
    """By what the two can be matched; None where they are of one kind."""
    forms = {known.form, own.form}
    every = [*known.names, *own.names]
    if all(map(truth_of, every)) and (("boolean" in forms and len(forms) == 2) or not {*known.names} & {*own.names}):
        return truth_of
    if forms == {"boolean", "text"}:
        return str.lower
    if forms == {"number", "text"}:
        text = known if known.form == "text" else own
        return plain_number if _is_padded_only(text.names) else _without_padding
    return None


def _is_padded_only(names: Sequence[str]) -> bool:
    """Whether zeros before a number tell none of the names from another."""
    padded = [name for name in names if _is_padded(name)]
    others = {plain_number(name) for name in names if not _is_padded(name)}
    return len(others.union(map(plain_number, padded))) == len(others) + len(padded)


def _is_padded(name: str) -> bool:
    found = _NUMBER.fullmatch(name)
    return bool(found and found[2])


def _without_padding(name: str) -> str:
    return name if _is_padded(name) else plain_number(name)
