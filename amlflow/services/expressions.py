"""A small language for gates: what is to be true of a run's metrics and params. `expression_parser` reads it, and what it
is of given values is computed here; it is never given to Python.

    expression  = conjunction { "or" conjunction }
    conjunction = negation { "and" negation }
    negation    = "not" negation | comparison
    comparison  = sum [ ( "<" | "<=" | ">" | ">=" | "==" | "!=" ) sum ]
    sum         = product { ( "+" | "-" ) product }
    product     = unary { ( "*" | "/" ) unary }
    unary       = ( "-" | "+" ) unary | power
    power       = value [ "**" unary ]
    value       = number | text | name | "baseline" | "(" expression ")" | ( "abs" | "min" | "max" ) "(" sum { "," sum } ")"
    name        = [ "baseline." ] [ "metrics." | "params." ] ( word { "." word } | "`" any characters "`" )
    number      = ( digits [ "." [ digits ] ] | "." digits ) [ ( "e" | "E" ) [ "+" | "-" ] digits ]
    text        = "'" any characters "'" | '"' any characters '"'

A bare name is a metric, or a param where there is no such metric; after `metrics.` and `params.` quotes do what backticks do.
`baseline` alone is the baseline's value of the one name that its comparison has besides. Text is compared with == and != only.
Both sides of `and` and `or` are always computed, so that a value that is missing is never passed over.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["", "metrics", "params"]
Value = float | str

WORD = r"[^\W\d]\w*"
ORDER: Mapping[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}
_ARITHMETIC: Mapping[str, Callable[[float, float], float]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "**": operator.pow,
}
FUNCTIONS: Mapping[str, Callable[[Sequence[float]], float]] = {"abs": lambda n: abs(n[0]), "min": min, "max": max}


class Undecided(Exception):
    """An expression that is neither true nor false of these values; the text says why, as the end of a sentence."""


@dataclass(frozen=True, slots=True)
class Constant:
    value: Value


@dataclass(frozen=True, slots=True)
class Name:
    """A metric or param. An empty `kind` is a metric or, where there is none, a param; an empty `key` is a `baseline` whose
    name is not known yet."""

    key: str
    kind: Kind = ""
    baseline: bool = False
    place: int = field(default=0, compare=False)

    def shown(self) -> str:
        plain = re.fullmatch(rf"{WORD}(?:\.{WORD})*", self.key)
        kind = "params." if self.kind == "params" else ""
        return f"{'baseline.' if self.baseline else ''}{kind}{self.key if plain else f'`{self.key}`'}"


@dataclass(frozen=True, slots=True)
class Operation:
    operator: str
    operands: tuple[Node, ...]


Node = Constant | Name | Operation


@dataclass(frozen=True, slots=True)
class Expression:
    """An expression that was read. `names` are those that it needs, each once, in their order."""

    text: str
    root: Node
    names: Sequence[Name]

    def holds(self, value_of: Callable[[Name], Value]) -> bool:
        """Whether it is true, with the values that the function gives. Raises `Undecided` where a value is not a number, or a
        comparison has no meaning; `value_of` may raise it too."""
        return bool(_computed(self.root, value_of))


def is_truth(node: Node) -> bool:
    return isinstance(node, Operation) and (node.operator in ORDER or node.operator in ("and", "or", "not"))


def is_text(node: Node) -> bool:
    return isinstance(node, Constant) and isinstance(node.value, str)


def _computed(node: Node, value_of: Callable[[Name], Value]) -> Value | bool:
    if isinstance(node, Constant):
        return node.value
    if isinstance(node, Name):
        return value_of(node)
    values = [_computed(operand, value_of) for operand in node.operands]
    if node.operator in ORDER:
        return _compared(node, values)
    if node.operator == "not":
        return not values[0]
    if node.operator in ("and", "or"):
        return all(values) if node.operator == "and" else any(values)
    return _calculated(node, [_as_number(*pair) for pair in zip(node.operands, values, strict=True)])


def _compared(node: Operation, values: Sequence[Value]) -> bool:
    if node.operator in ("==", "!=") and all(isinstance(value, str) for value in values):
        same = values[0] == values[1]
        if not same and not any(is_text(operand) for operand in node.operands):
            # Two params: 0.10 and 0.1 are the same number.
            numbers = [_read(str(value)) for value in values]
            same = None not in numbers and numbers[0] == numbers[1]
        return same == (node.operator == "==")
    left, right = (_as_number(*pair) for pair in zip(node.operands, values, strict=True))
    if math.isnan(left) or math.isnan(right):
        raise Undecided(f"a side of '{node.operator}' is NaN")
    return ORDER[node.operator](left, right)


def _calculated(node: Operation, numbers: Sequence[float]) -> float:
    if any(math.isnan(number) for number in numbers):
        return math.nan
    if node.operator == "negative":
        return -numbers[0]
    if node.operator in FUNCTIONS:
        return FUNCTIONS[node.operator](numbers)
    try:
        result = _ARITHMETIC[node.operator](numbers[0], numbers[1])
    except ZeroDivisionError:
        raise Undecided("it divides by zero") from None
    except OverflowError:
        raise Undecided("a number grows too large") from None
    if isinstance(result, complex):
        raise Undecided("it takes a root of a negative number")
    if math.isinf(result) and not any(map(math.isinf, numbers)):
        raise Undecided("a number grows too large")
    return result


def _as_number(node: Node, value: Value) -> float:
    if not isinstance(value, str):
        return value
    number = _read(value)
    if number is None:
        what = node.shown() if isinstance(node, Name) else "text"
        raise Undecided(
            f"{what} is {value!r}, which is no number" if isinstance(node, Name) else f"{value!r} is no number"
        )
    return number


def _read(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
