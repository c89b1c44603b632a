"""MLflow's filter language for runs, read into SQL with every value bound.

filter     = clause (AND clause)*
clause     = key operator value | key [NOT] IN (value, …) | key IS [NOT] NULL
key        = [entity "."] name; the entity is metrics, params, tags or attributes (also metric, param, tag, attribute,
             attr, run), and a bare name is an attribute
name       = word, or text in "double quotes" or `backticks`
operator   = = != < <= > >= LIKE ILIKE
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from amlflow.errors import UsageError, nearest

_TOKEN = re.compile(
    r"""\s*(?:
      (?P<text>'(?:[^']|'')*'|"(?:[^"]|"")*"|`[^`]*`)
    | (?P<number>[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?(?![\w.]))
    | (?P<operator><=|>=|!=|<>|=|<|>)
    | (?P<mark>[(),.])
    | (?P<word>[^\s'"`<>=!(),.]+)
    )""",
    re.VERBOSE,
)
_ENTITIES = {
    **dict.fromkeys(("metrics", "metric"), "metrics"),
    **dict.fromkeys(("params", "param", "parameters", "parameter"), "params"),
    **dict.fromkeys(("tags", "tag"), "tags"),
    **dict.fromkeys(("attributes", "attribute", "attr", "run"), "attributes"),
}
ATTRIBUTES = {
    "run_id": "r.run_uuid",
    "run_name": "r.name",
    "status": "r.status",
    "artifact_uri": "r.artifact_uri",
    "user_id": "r.user_id",
    "start_time": "r.start_time",
    "end_time": "r.end_time",
    "created": "r.start_time",
}
_ALIASES = {"Run name": "run_name", "run name": "run_name", "Created": "created"}
_TIMES = ("start_time", "end_time", "created")
_COMPARISONS = ("=", "!=", "<", "<=", ">", ">=")
_TEXT_OPERATORS = ("=", "!=", "LIKE", "ILIKE")


@dataclass(frozen=True, slots=True)
class Token:
    kind: str
    value: str
    start: int


@dataclass(frozen=True, slots=True)
class Condition:
    """A piece of SQL over the runs table as `r`, and the values that it binds."""

    sql: str
    values: tuple[object, ...]


@dataclass(frozen=True, slots=True)
class Key:
    entity: str
    name: str


def conditions(text: str) -> list[Condition]:
    """The filter's clauses, all of which must hold. Raises `UsageError` with a caret under the place at fault."""
    return _Parser(text).all() if text.strip() else []


def parse_key(text: str) -> Key:
    """One key, as `order_by` takes it; a bare name that is no attribute is a metric. Raises `UsageError`."""
    parser = _Parser(text)
    first = parser.peek()
    if first is not None and first.kind in ("word", "text") and len(parser.tokens) == 1:
        name = parser.name()
        return Key("attributes", name) if name in ATTRIBUTES else Key("metrics", name)
    key = parser.key()
    parser.end()
    return key


class _Parser:
    def __init__(self, text: str) -> None:
        self.text, self.tokens, self.position = text, _tokens(text), 0

    def all(self) -> list[Condition]:
        found = [self.clause()]
        while self.take_word("AND"):
            found.append(self.clause())
        self.end()
        return found

    def clause(self) -> Condition:
        start = self.peek()
        key = self.key()
        if self.take_word("IS"):
            negated = self.take_word("NOT")
            if not self.take_word("NULL"):
                raise self.error("NULL was expected here")
            return self.null(key, negated, start)
        negated = self.take_word("NOT")
        if self.take_word("IN"):
            return self.membership(key, negated)
        if negated:
            raise self.error("IN was expected after NOT")
        token = self.next("an operator (=, !=, <, <=, >, >=, LIKE, ILIKE, IN) was expected here")
        operator = {"<>": "!="}.get(token.value, token.value.upper())
        return self.comparison(key, operator, token)

    def key(self) -> Key:
        token = self.peek()
        first = self.name()
        following = self.peek()
        if following is None or following.value != "." or following.kind != "mark":
            return self.attribute(first, token)
        self.position += 1
        entity = _ENTITIES.get(first)
        if entity is None:
            near = nearest(first, _ENTITIES)
            raise self.error(f"{first!r} is not metrics, params, tags or attributes{_hint(near)}", token)
        name_token = self.peek()
        name = self.name()
        # A dotted name such as tags.mlflow.user is one name.
        while name_token is not None and name_token.kind == "word" and self.at_mark("."):
            self.position += 1
            name = f"{name}.{self.name()}"
        return self.attribute(name, name_token) if entity == "attributes" else Key(entity, name)

    def attribute(self, name: str, token: Token | None) -> Key:
        name = _ALIASES.get(name, name)
        if name not in ATTRIBUTES:
            near = nearest(name, ATTRIBUTES)
            raise self.error(
                f"{name!r} is not an attribute of a run{_hint(near)} (write metrics.{name}, params.{name} or tags.{name})",
                token,
            )
        return Key("attributes", name)

    def comparison(self, key: Key, operator: str, at: Token) -> Condition:
        if key.entity == "metrics" or key.name in _TIMES:
            if operator not in _COMPARISONS:
                raise self.error(f"{key.name!r} is a number, which cannot be compared by {operator}", at)
            value: object = self.number()
        else:
            if operator not in _TEXT_OPERATORS:
                raise self.error(f"{key.name!r} is text, which cannot be compared by {operator}", at)
            value = self.quoted()
        if key.entity == "attributes":
            column = ATTRIBUTES[key.name]
            return Condition(_compared(column, operator), (value,))
        if key.entity == "metrics":
            # NaN is stored as 0 beside a mark that MLflow's search does not look at: the same answer is worth more here.
            inner = _compared("value", operator)
            sql = f"r.run_uuid IN (SELECT run_uuid FROM latest_metrics WHERE key = ? AND {inner})"
            return Condition(sql, (key.name, value))
        if key.entity == "tags" and key.name == "mlflow.runName":
            return Condition(_compared("r.name", operator), (value,))
        inner = _compared("value", operator)
        return Condition(
            f"r.run_uuid IN (SELECT run_uuid FROM {key.entity} WHERE key = ? AND {inner})", (key.name, value)
        )

    def membership(self, key: Key, negated: bool) -> Condition:
        if key.entity == "metrics" or key.name in _TIMES:
            raise self.error(f"{key.name!r} is a number, for which there is no IN")
        if not self.at_mark("("):
            raise self.error("a list in parentheses was expected after IN")
        self.position += 1
        values = [self.quoted()]
        while self.at_mark(","):
            self.position += 1
            values.append(self.quoted())
        if not self.at_mark(")"):
            raise self.error("')' was expected here")
        self.position += 1
        places = ", ".join("?" * len(values))
        word = "NOT IN" if negated else "IN"
        if key.entity == "attributes":
            return Condition(f"{ATTRIBUTES[key.name]} {word} ({places})", tuple(values))
        sql = f"r.run_uuid IN (SELECT run_uuid FROM {key.entity} WHERE key = ? AND value {word} ({places}))"
        return Condition(sql, (key.name, *values))

    def null(self, key: Key, negated: bool, at: Token | None) -> Condition:
        if key.entity not in ("params", "tags"):
            raise self.error("IS NULL is for params and tags alone", at)
        word = "IN" if negated else "NOT IN"
        return Condition(f"r.run_uuid {word} (SELECT run_uuid FROM {key.entity} WHERE key = ?)", (key.name,))

    def name(self) -> str:
        token = self.next("a name was expected here")
        if token.kind == "text" and token.value[0] in '"`':
            return token.value[1:-1]
        if token.kind not in ("word", "number"):
            raise self.error("a name was expected here (put one with spaces into backticks)", token)
        return token.value

    def number(self) -> float:
        token = self.next("a number was expected here")
        if token.kind != "number":
            raise self.error("a number was expected here", token)
        return float(token.value)

    def quoted(self) -> str:
        token = self.next("text in quotes was expected here")
        if token.kind != "text" or token.value[0] == "`":
            raise self.error(f"text must stand in quotes: '{token.value}'", token)
        quote = token.value[0]
        return token.value[1:-1].replace(quote * 2, quote)

    def take_word(self, word: str) -> bool:
        token = self.peek()
        if token is not None and token.kind == "word" and token.value.upper() == word:
            self.position += 1
            return True
        return False

    def at_mark(self, mark: str) -> bool:
        token = self.peek()
        return token is not None and token.kind == "mark" and token.value == mark

    def peek(self) -> Token | None:
        return self.tokens[self.position] if self.position < len(self.tokens) else None

    def next(self, expected: str) -> Token:
        token = self.peek()
        if token is None:
            raise self.error(expected)
        self.position += 1
        return token

    def end(self) -> None:
        token = self.peek()
        if token is not None:
            raise self.error("AND was expected here (the language has no OR)", token)

    def error(self, what: str, at: Token | None = None) -> UsageError:
        token = at or self.peek()
        return _refused(self.text, token.start if token else len(self.text), what)


def _tokens(text: str) -> list[Token]:
    found: list[Token] = []
    position = 0
    while text[position:].strip():
        match = _TOKEN.match(text, position)
        if match is None or match.lastgroup is None:
            at = position + len(text[position:]) - len(text[position:].lstrip())
            raise _refused(text, at, "this cannot be read (is a quote open?)")
        found.append(Token(match.lastgroup, match[match.lastgroup], match.start(match.lastgroup)))
        position = match.end()
    return found


def _refused(text: str, at: int, what: str) -> UsageError:
    line = text.replace("\n", " ")
    return UsageError(f"The filter cannot be read: {what}.\n  {line}\n  {' ' * at}^")


def _compared(column: str, operator: str) -> str:
    if operator == "ILIKE":
        return f"LOWER({column}) LIKE LOWER(?)"
    return f"{column} {operator} ?"


def _hint(near: str) -> str:
    return f"; did you mean {near}?" if near else ""


def joined(found: Sequence[Condition]) -> tuple[str, list[object]]:
    """All conditions as one piece of SQL that starts with AND, and their values."""
    return "".join(f" AND {item.sql}" for item in found), [value for item in found for value in item.values]
