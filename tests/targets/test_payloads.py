"""Whatever form a request has, each target is sent the same table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from amlflow.errors import UsageError
from amlflow.services.deployment import read_payload
from amlflow.targets import payloads

TABLE = {"columns": ["n", "x"], "index": [0, 1], "data": [[1, 0.5], [2, 1.5]]}
RECORDS = [{"n": 1, "x": 0.5}, {"n": 2, "x": 1.5}]
BY_COLUMN = {"n": [1, 2], "x": [0.5, 1.5]}


@pytest.mark.parametrize(
    "content",
    [
        {"dataframe_split": TABLE},
        {"dataframe_records": RECORDS},
        {"inputs": BY_COLUMN},
        {"instances": RECORDS},
        {"input_data": TABLE},
        {"input_data": RECORDS},
        {"input_data": BY_COLUMN},
        TABLE,
        RECORDS,
        BY_COLUMN,
    ],
)
def test_every_form_with_names(content: Any, tmp_path: Path) -> None:
    file = tmp_path / "request.json"
    file.write_text(json.dumps(content))
    body, kind = read_payload(str(file), lambda: b"")
    assert json.loads(payloads.as_input_data(body, kind)) == {"input_data": TABLE}
    mlflow_s = payloads.as_mlflow(body, kind)
    assert json.loads(payloads.as_input_data(mlflow_s, kind)) == {"input_data": TABLE}
    assert b"input_data" not in mlflow_s


def test_rows_without_names_and_params() -> None:
    for form in ("inputs", "instances", "input_data"):
        body = json.dumps({form: [[1, 2]], "params": {"top": 3}}).encode()
        assert json.loads(payloads.as_input_data(body, "application/json")) == {
            "input_data": [[1, 2]],
            "params": {"top": 3},
        }
    with pytest.raises(UsageError, match="more than one of"):
        payloads.as_input_data(b'{"inputs": [], "instances": []}', "application/json")


def test_a_column_of_csv_is_numbers_or_text_as_a_whole(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_bytes(b"\xef\xbb\xbfn,text,gap,code\r\n1,1,,01067\r\n2.5,b,3,99084\r\n")
    sent = json.loads(payloads.as_input_data(*read_payload(str(tmp_path / "rows.csv"), lambda: b"")))["input_data"]
    assert sent["columns"] == ["n", "text", "gap", "code"]
    assert sent["data"] == [[1.0, "1", None, "01067"], [2.5, "b", 3, "99084"]]


def test_a_table_as_csv_and_its_predictions_back() -> None:
    body = json.dumps({"dataframe_split": {"columns": ["n", "text"], "data": [[1, "a,b"], [None, "c"]]}}).encode()
    assert payloads.as_csv(body, "application/json") == b'n,text\n1,"a,b"\n,c\n'
    assert payloads.as_csv(b'{"inputs": [[1, 2]]}', "application/json") == b"0,1\n1,2\n"
    assert payloads.as_csv(b"n\n1\n", "text/csv") == b"n\n1\n"
    for odd in ('{"inputs": [[[1]]]}', '{"inputs": [[1], [1, 2]]}', '{"inputs": [[1]], "params": {"top": 3}}'):
        with pytest.raises(UsageError, match="cannot be written as CSV"):
            payloads.as_csv(odd.encode(), "application/json")
    assert payloads.of_predictions("0,1.0,a.csv\n1,2.5,a.csv\n") == [1.0, 2.5]
    assert payloads.of_predictions('0,yes,0.5,a.csv\n1,"n,o",0.25,a.csv\n') == [["yes", 0.5], ["n,o", 0.25]]
    for odd in ("1.0\n", "0,1.0,a.csv\n1,2.5,3,a.csv\n"):
        with pytest.raises(ValueError, match="same number"):
            payloads.of_predictions(odd)
