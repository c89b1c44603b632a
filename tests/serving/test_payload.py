from __future__ import annotations

import json
from typing import Any

import pytest

from amlflow.serving.payload import Payload, Refused, parse
from amlflow.serving.signature import Column, Signature, enforce

TWO = Signature([Column("a", "double", True), Column("b", "long", True)])
FORMS: list[Any] = [
    {"dataframe_split": {"columns": ["a", "b"], "data": [[1.5, 2], [3, 4]]}},
    {"dataframe_split": {"columns": ["b", "extra", "a"], "index": [0, 1], "data": [[2, "x", 1.5], [4, "y", 3]]}},
    {"dataframe_split": {"data": [[1.5, 2], [3, 4]]}},
    {"dataframe_records": [{"b": 2, "a": 1.5}, {"a": 3, "b": 4}]},
    {"inputs": {"a": [1.5, 3], "b": [2, 4]}},
    {"inputs": [[1.5, 2], [3, 4]]},
    {"inputs": [{"a": 1.5, "b": 2}, {"a": 3, "b": 4}]},
    {"instances": [{"a": 1.5, "b": 2}, {"a": 3, "b": 4}]},
    {"instances": [[1.5, 2], [3, 4]]},
    {"input_data": {"columns": ["a", "b"], "index": [0, 1], "data": [[1.5, 2], [3, 4]]}},
    {"input_data": [[1.5, 2], [3, 4]]},
    {"input_data": {"a": [1.5, 3], "b": [2, 4]}},
]


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_rows(form: Any) -> None:
    assert enforce(TWO, parse(json.dumps(form).encode(), "application/json; charset=utf-8")) == [[1.5, 2], [3, 4]]


def test_csv_gives_the_same_rows() -> None:
    assert enforce(TWO, parse(b"\xef\xbb\xbfb,a\n2,1.5\n4,3\n", "text/csv")) == [[1.5, 2], [3, 4]]


@pytest.mark.parametrize(
    ("body", "kind", "status", "said"),
    [
        (b"{", "application/json", 400, "not valid JSON"),
        (b"[" * 100_000, "application/json", 400, "not valid JSON"),
        (b"\xff\xfe", "application/json", 400, "not valid JSON"),
        (b"[]", "application/json", 400, "must be a JSON object"),
        (b"{}", "application/json", 400, "none of dataframe_split"),
        (b'{"inputs": [], "instances": []}', "application/json", 400, "more than one of"),
        (b'{"inputs": [], "colour": 1}', "application/json", 400, "'colour'"),
        (b'{"inputs": 3}', "application/json", 400, "not a number"),
        (b'{"inputs": [], "params": 3}', "application/json", 400, "'params'"),
        (b'{"dataframe_split": []}', "application/json", 400, "'columns' and 'data'"),
        (b'{"dataframe_split": {"columns": ["a"], "data": [[1, 2]]}}', "application/json", 400, "Row 0"),
        (b'{"dataframe_records": [1]}', "application/json", 400, "list of objects"),
        (b'{"inputs": {"a": [1], "b": [1, 2]}}', "application/json", 400, "different lengths: 1, 2"),
        (b"a,b\n1\n", "text/csv", 400, "Line 2"),
        (b"", "text/csv", 400, "empty"),
        (b"\xff", "text/csv", 400, "not UTF-8"),
        (b"x", "image/png", 415, "'image/png' is not taken"),
    ],
)
def test_what_cannot_be_read_is_refused_with_the_reason(body: bytes, kind: str, status: int, said: str) -> None:
    with pytest.raises(Refused) as caught:
        parse(body, kind)
    assert caught.value.status == status
    assert said in caught.value.message


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([["x", 1]], "Column 'a' is a double, and row 0 has text there: \"x\""),
        ([[1, 1.5]], "Column 'b' is a long, and row 0 has a number there: 1.5"),
        ([[1, 2], [True, 2]], "row 1 has true/false"),
        ([[1, None]], "cannot be missing, and row 0 has null"),
        ([[1, 2**63]], "Column 'b' is a long"),
        ([[1]], "Row 0 has 1 values; the model takes 2 columns"),
        ([[1, 2, 3]], "Row 0 has 3 values"),
        ([3], "must be a list of 2 values"),
        ([[[1], 2]], "has a list there"),
    ],
)
def test_a_wrong_value_is_named_by_column_and_row(rows: Any, said: str) -> None:
    with pytest.raises(Refused) as caught:
        enforce(TWO, Payload(None, rows))
    assert said in caught.value.message


def test_a_missing_column_is_named_with_what_came_instead() -> None:
    with pytest.raises(Refused, match=r"lacks the column 'b'\. It has 'B' instead"):
        enforce(TWO, Payload(["a", "B"], [[1, 2]]))


def test_a_missing_double_is_nan_and_an_optional_column_may_be_left_out() -> None:
    signature = Signature([Column("a", "double", True), Column("c", "string", False)])
    rows = enforce(signature, Payload(["a"], [[None], [2]]))
    assert rows[0][0] != rows[0][0]
    assert rows[1] == [2, None]
