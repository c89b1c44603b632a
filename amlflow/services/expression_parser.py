"""From the text of a gate to an expression, by recursive descent; `expressions` has the grammar."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, cast

from amlflow.errors import UsageError
from amlflow.services.expressions import (
    FUNCTIONS,
    ORDER,
    WORD,
    Constant,
    Expression,
    Kind,
    Name,
    Node,
    Operation,
    is_text,
    is_truth,
)

_MOST_WORDS = 200
_DEEPEST = 40
# Characters of a long text that are shown before the place that is wrong, and after it.
_SHOWN = 60
_TOKEN = re.compile(
    rf"""(?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?(?![\w.]))
    | (?P<word>{WORD}(?:\.{WORD})*)(?P<dot>\.(?=[`'"]))?
    | `(?P<name>[^`]+)`
    | '(?P<single>[^']*)' | "(?P<double>[^"]*)"
    | (?P<symbol>\*\*|<=|>=|==|!=|[-+*/<>(),])""",
    re.VERBOSE,
)
_Kind = Literal["number", "text", "name", "word", "symbol", "end"]
_MEANT = {"=": "==", "&&": "and", "&": "and", "||": "or", "|": "or", "!": "not", "<>": "!=", "^": "**"}


def parse(text: str, option: str = "--fail-if") -> Expression:
    """Raises `UsageError`, with a caret under the place, where it is not an expression; `option` is what the user gave it as."""
    return _Parser(text, option).whole()


@dataclass(frozen=True, slots=True)
class _Token:
    kind: _Kind
    text: str
    place: int
    quoted_next: bool = False


class _Parser:
    def __init__(self, text: str, option: str) -> None:
        self.text, self.option, self.depth, self.index = text, option, 0, 0
        self.tokens = list(self._tokens())
        if len(self.tokens) > _MOST_WORDS:
            raise self._error(f"it has more than {_MOST_WORDS} words", self.tokens[_MOST_WORDS].place)

    def whole(self) -> Expression:
        root = self._expression()
        rest = self._now()
        if rest.kind != "end":
            hint = " Write names with such signs in `backticks`." if rest.kind in ("word", "number") else ""
            raise self._error(f"{rest.text!r} was not expected here.{hint}", rest.place)
        if not is_truth(root):
            raise self._error("it compares nothing, so it is never true or false: write for example 'rmse > 0.5'", 0)
        return Expression(" ".join(self.text.split()), root, list(dict.fromkeys(_names(root))))

    def _expression(self) -> Node:
        return self._joined("or", lambda: self._joined("and", self._negation))

    def _joined(self, word: str, inner: Callable[[], Node]) -> Node:
        place, node = self._now().place, inner()
        while self._is_word(word):
            self._demand(is_truth(node), f"{word!r} joins comparisons, and this is a value", place)
            self.index += 1
            place, right = self._now().place, inner()
            self._demand(is_truth(right), f"{word!r} joins comparisons, and this is a value", place)
            node = Operation(word, (node, right))
        return node

    def _negation(self) -> Node:
        if not self._is_word("not"):
            return self._comparison()
        self.index += 1
        place, inner = self._now().place, self._deeper(self._negation)
        self._demand(is_truth(inner), "'not' turns a comparison round, and this is a value", place)
        return Operation("not", (inner,))

    def _comparison(self) -> Node:
        place, left = self._now().place, self._sum()
        sign = self._now()
        if sign.kind != "symbol" or sign.text not in ORDER:
            return left
        self._demand(not is_truth(left), "a comparison cannot be compared", place)
        self.index += 1
        place, right = self._now().place, self._sum()
        self._demand(not is_truth(right), "a comparison cannot be compared", place)
        after = self._now()
        if after.kind == "symbol" and after.text in ORDER:
            raise self._error("comparisons do not chain: join two of them with 'and'", after.place)
        if sign.text not in ("==", "!=") and (is_text(left) or is_text(right)):
            raise self._error("text is compared with == or != only", sign.place)
        return self._bound(Operation(sign.text, (left, right)))

    def _bound(self, comparison: Operation) -> Node:
        """With the name that a bare `baseline` stands for."""
        names = list(_names(comparison))
        bare = [name for name in names if not name.key]
        if not bare:
            return comparison
        others = {(name.key, name.kind) for name in names if not name.baseline}
        if len(others) != 1:
            raise self._error(
                "it is not clear which metric of the baseline is meant: write baseline.NAME", bare[0].place
            )
        return _named(comparison, *others.pop())

    def _sum(self) -> Node:
        return self._row(("+", "-"), lambda: self._row(("*", "/"), self._unary))

    def _row(self, signs: Sequence[str], inner: Callable[[], Node]) -> Node:
        place, node = self._now().place, inner()
        while self._now().kind == "symbol" and self._now().text in signs:
            sign = self._next()
            self._number(node, place, sign.text)
            place, right = self._now().place, inner()
            self._number(right, place, sign.text)
            node = Operation(sign.text, (node, right))
        return node

    def _unary(self) -> Node:
        if not self._is_symbol("-", "+"):
            return self._power()
        sign = self._next()
        place, inner = self._now().place, self._deeper(self._unary)
        self._number(inner, place, sign.text)
        return Operation("negative", (inner,)) if sign.text == "-" else inner

    def _power(self) -> Node:
        place, base = self._now().place, self._value()
        if not self._is_symbol("**"):
            return base
        self._number(base, place, "**")
        self.index += 1
        place, exponent = self._now().place, self._deeper(self._unary)
        self._number(exponent, place, "**")
        return Operation("**", (base, exponent))

    def _value(self) -> Node:
        token = self._next()
        if token.kind == "number":
            value = float(token.text)
            self._demand(math.isfinite(value), "this number is too large", token.place)
            return Constant(value)
        if token.kind == "text":
            return Constant(token.text)
        if token.kind == "name":
            return Name(token.text, place=token.place)
        if token.kind == "word" and token.text.lower() not in ("and", "or", "not"):
            if token.text in FUNCTIONS and self._is_symbol("("):
                return self._call(token)
            return self._name(token)
        if token.text == "(":
            inner = self._deeper(self._expression)
            self._close(token)
            return inner
        seen = "the end" if token.kind == "end" else repr(token.text)
        raise self._error(f"a number, a name or '(' was expected, not {seen}", token.place)

    def _call(self, function: _Token) -> Node:
        opening, arguments = self._next(), list[Node]()
        while not arguments or self._is_symbol(","):
            self.index += bool(arguments)
            place = self._now().place
            arguments.append(self._deeper(self._sum))
            self._number(arguments[-1], place, function.text)
        self._close(opening)
        if function.text == "abs" and len(arguments) > 1:
            raise self._error("'abs' takes one value", function.place)
        return Operation(function.text, tuple(arguments))

    def _name(self, token: _Token) -> Name:
        parts, place = token.text.split("."), token.place
        baseline = parts[0] == "baseline"
        parts = parts[1:] if baseline else parts
        kind: Kind = ""
        if parts and parts[0] in ("metrics", "params") and (len(parts) > 1 or token.quoted_next):
            kind, parts = ("params" if parts[0] == "params" else "metrics"), parts[1:]
        if token.quoted_next:
            if parts or not (kind or baseline):
                raise self._error("write all of the name in `backticks`", place)
            return Name(self._next().text, kind, baseline, place)
        return Name(".".join(parts), kind, baseline, place)

    def _close(self, opening: _Token) -> None:
        if not self._is_symbol(")"):
            seen = self._now()
            if seen.kind == "end":
                raise self._error("this '(' is never closed", opening.place)
            raise self._error(f"')' was expected, not {seen.text!r}", seen.place)
        self.index += 1

    def _deeper(self, inner: Callable[[], Node]) -> Node:
        self.depth += 1
        if self.depth > _DEEPEST:
            raise self._error(f"it is nested more than {_DEEPEST} deep", self._now().place)
        node = inner()
        self.depth -= 1
        return node

    def _number(self, node: Node, place: int, sign: str) -> None:
        self._demand(not is_truth(node), f"{sign!r} takes numbers, and this is a comparison", place)
        self._demand(not is_text(node), f"{sign!r} takes numbers, and this is text", place)

    def _demand(self, condition: bool, otherwise: str, place: int) -> None:
        if not condition:
            raise self._error(otherwise, place)

    def _now(self) -> _Token:
        return self.tokens[self.index]

    def _next(self) -> _Token:
        token = self.tokens[self.index]
        self.index += token.kind != "end"
        return token

    def _is_symbol(self, *symbols: str) -> bool:
        return self._now().kind == "symbol" and self._now().text in symbols

    def _is_word(self, word: str) -> bool:
        return self._now().kind == "word" and self._now().text.lower() == word

    def _tokens(self) -> Iterator[_Token]:
        place = 0
        while place < len(self.text):
            if self.text[place].isspace():
                place += 1
                continue
            match = _TOKEN.match(self.text, place)
            if match is None:
                raise self._unreadable(place)
            group = match.lastgroup
            if group == "dot":
                yield _Token("word", match["word"], place, quoted_next=True)
            elif group == "single" or group == "double":
                yield _Token("text", match[group], place)
            else:
                assert group in ("number", "word", "name", "symbol")
                yield _Token(cast("_Kind", group), match[group], place)
            place = match.end()
        yield _Token("end", "", len(self.text))

    def _unreadable(self, place: int) -> UsageError:
        sign = self.text[place : place + 2]
        sign = sign if sign in _MEANT else sign[:1]
        if sign in ("'", '"', "`"):
            return self._error(f"this {sign} is never closed", place)
        if sign in _MEANT:
            return self._error(f"{sign!r} has no meaning here: write {_MEANT[sign]!r}", place)
        if sign.isdigit() or sign == ".":
            return self._error("this is no number; names that begin so stand in `backticks`", place)
        return self._error(f"{sign!r} has no meaning here; names with such signs stand in `backticks`", place)

    def _error(self, why: str, place: int) -> UsageError:
        first = max(0, place - _SHOWN) if len(self.text) > 2 * _SHOWN else 0
        cut = self.text[first : first + 2 * _SHOWN]
        before, after = "…" if first else "", "…" if first + len(cut) < len(self.text) else ""
        line = before + "".join(map(_drawn, cut)) + after
        columns = len(before) + sum(_columns(character) for character in map(_drawn, cut[: place - first]))
        return UsageError(
            f"{self.option} cannot be read: {_short(why.rstrip('.'))}.\n  {line}\n  {' ' * columns}^\n"
            "An example: 'rmse > baseline * 1.02 or auc < 0.9'; docs/compare.md has the grammar."
        )


def _drawn(character: str) -> str:
    """What stands for it on a terminal, which it must not command."""
    if character.isspace():
        return " "
    return character if character.isprintable() else "\N{REPLACEMENT CHARACTER}"


def _columns(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def _short(why: str) -> str:
    return why if len(why) <= 3 * _SHOWN else f"{why[: 2 * _SHOWN]}…{why[-_SHOWN:]}"


def _names(node: Node) -> Iterator[Name]:
    if isinstance(node, Name):
        yield node
    elif isinstance(node, Operation):
        for operand in node.operands:
            yield from _names(operand)


def _named(node: Node, key: str, kind: Kind) -> Node:
    if isinstance(node, Name) and not node.key:
        return replace(node, key=key, kind=kind)
    if isinstance(node, Operation):
        return replace(node, operands=tuple(_named(operand, key, kind) for operand in node.operands))
    return node
