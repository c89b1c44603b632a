"""What the collector writes, and what it does when it cannot."""

from __future__ import annotations

import json
import shutil
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from amlflow.serving import collector
from amlflow.serving.collector import Collector, Rules
from amlflow.serving.payload import Payload, parse
from amlflow.serving.signature import Column, Signature

SIGNATURE = Signature([Column("age", "long", True), Column("code", "string", True), Column("size", "double", True)])


def collected(folder: Path, kind: str) -> list[dict[str, Any]]:
    files = sorted((folder / kind).rglob("*.jsonl"))
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


def collect(folder: Path, *requests: tuple[Payload, Any], headers: Any = (), **rules: Any) -> list[str]:
    made = Collector(Rules(str(folder), "here", **rules), SIGNATURE)
    found = [made.take(list(headers), payload, predictions, 100) for payload, predictions in requests]
    made.close()
    return found


def test_a_request_is_a_line_of_inputs_and_one_of_outputs(tmp_path: Path) -> None:
    rows = Payload(["age", "code", "size"], [[1, "a", 0.5], [2, "b", float("nan")]])
    given = collect(tmp_path, (rows, [3.0, 4.0]))
    (inputs,), (outputs,) = collected(tmp_path, "model_inputs"), collected(tmp_path, "model_outputs")
    assert inputs["data"] == [{"age": 1, "code": "a", "size": 0.5}, {"age": 2, "code": "b", "size": None}]
    assert outputs["data"] == [{"output": 3.0}, {"output": 4.0}]
    assert given == [inputs["correlationid"]] == [outputs["correlationid"]]
    assert (inputs["specversion"], inputs["type"]) == ("1.0", "azureml.inference.model_inputs")
    assert inputs["id"] != outputs["id"]
    file = next(tmp_path.rglob("*.jsonl"))
    hour = file.relative_to(tmp_path).parts[1:-1]
    assert "-".join(hour[:3]) + "T" + hour[3] == inputs["time"][:13]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700


@pytest.mark.parametrize(
    ("predictions", "rows"),
    [
        ([{"low": 1, "high": 2}], [{"low": 1, "high": 2}]),
        ([[1, 2], [3, 4]], [{"0": 1, "1": 2}, {"0": 3, "1": 4}]),
        ({"low": [1, 2], "high": [3, 4]}, [{"low": 1, "high": 3}, {"low": 2, "high": 4}]),
        ({"text": "yes"}, [{"text": "yes"}]),
        (7, [{"output": 7}]),
        ([None, float("inf")], [{"output": None}, {"output": None}]),
    ],
)
def test_outputs_of_every_shape(tmp_path: Path, predictions: Any, rows: Any) -> None:
    collect(tmp_path, (Payload(["age"], [[1]]), predictions))
    assert collected(tmp_path, "model_outputs")[0]["data"] == rows


def test_inputs_without_names_get_the_signatures_and_csv_its_types(tmp_path: Path) -> None:
    csv = parse(b"age,code,size\n7,007,1.5\n", "text/csv")
    collect(tmp_path, (Payload(None, [[1, "a", 0.5]]), [1]), (csv, [1]), (Payload(None, [[[1, 2]], [[3, 4]]]), [1, 2]))
    first, second, third = (record["data"] for record in collected(tmp_path, "model_inputs"))
    assert first == [{"age": 1, "code": "a", "size": 0.5}]
    assert second == [{"age": 7, "code": "007", "size": 1.5}]
    assert third == [{"0": [1, 2]}, {"0": [3, 4]}]


def test_columns_are_left_out_or_hashed_alike_by_every_worker(tmp_path: Path) -> None:
    rows = Payload(["age", "code", "size"], [[1, "secret", 0.5]])
    for _ in range(2):
        collect(tmp_path, (rows, [1]), (rows, [1]), dropped=["age"], hashed=["code", "absent"])
    found = [record["data"][0] for record in collected(tmp_path, "model_inputs")]
    assert len(found) == 4
    assert {tuple(row) for row in found} == {("code", "size")}
    assert len({row["code"] for row in found}) == 1
    assert len(found[0]["code"]) == 32
    assert "secret" not in "".join(file.read_text() for file in tmp_path.rglob("*.jsonl"))
    elsewhere = tmp_path / "other"
    collect(elsewhere, (rows, [1]), hashed=["code"])
    assert collected(elsewhere, "model_inputs")[0]["data"][0]["code"] != found[0]["code"]
    assert stat.S_IMODE((tmp_path / ".salt").stat().st_mode) == 0o600


def hashes(folder: Path, signature: Signature | None, *bodies: str) -> list[list[str]]:
    """What is kept of the column `x` for each body, JSON's or else CSV."""
    made = Collector(Rules(str(folder), hashed=["x"]), signature)
    for body in bodies:
        payload = parse(body.encode(), "application/json" if body.startswith("{") else "text/csv")
        made.take([], payload, [None] * len(payload.rows), 100)
    made.close()
    return [[row["x"] for row in record["data"]] for record in collected(folder, "model_inputs")]


def split(*values: str) -> str:
    rows = ", ".join(f"[{value}, 0]" for value in values)
    return f'{{"dataframe_split": {{"columns": ["x", "y"], "data": [{rows}]}}}}'


@pytest.mark.parametrize(
    ("kind", "ways", "csv", "other"),
    [
        ("long", ["7", "7.0"], "7", "8"),
        ("integer", ["-3", "-3.0"], "-3", "3"),
        ("double", ["1", "1.0", "1e0"], "1.00", "1.5"),
        ("double", ["9007199254740993", "9007199254740992.0"], "9007199254740993", "9007199254740994"),
        ("float", ["0.1", "0.10000000149011612"], "0.1", "0.2"),
        ("boolean", ["true"], "1", "false"),
        ("string", ['"7"'], "7", '"7.0"'),
    ],
)
def test_a_value_has_one_hash_however_a_client_writes_it(
    tmp_path: Path, kind: str, ways: list[str], csv: str, other: str
) -> None:
    signature = Signature([Column("x", kind, True), Column("y", "long", True)])
    bodies = [f'{{"dataframe_records": [{{"y": 0, "x": {way}}}]}}' for way in ways]
    bodies += [f'{{"inputs": [[{way}, 0]]}}' for way in ways]
    *same, different = hashes(tmp_path, signature, split(*ways), *bodies, f"x,y\n{csv},0\n", split(other))
    values = [value for found in same for value in found]
    assert (len(set(values)), len(values)) == (1, 3 * len(ways) + 1)
    assert different[0] != values[0]


def test_without_a_signature_whole_numbers_have_one_hash(tmp_path: Path) -> None:
    *same, different = hashes(
        tmp_path,
        None,
        split("7", "7.0"),
        split("[1, 2.0]", "[1.0, 2]"),
        split('{"a": -0.0}', '{"a": 0}'),
        split("7.5", '"7"', "true", "1", "7"),
    )
    assert [len(set(values)) for values in same] == [1, 1, 1]
    assert len(set(different)) == 5


def test_columns_without_names_have_their_type_by_their_place(tmp_path: Path) -> None:
    signature = Signature([Column(None, "double", True), Column(None, "double", True)])
    kept = hashes(tmp_path, signature, split("1"), "x,y\n1,0\n")
    assert kept[0] == kept[1]


def test_params_of_a_model_leave_its_columns_their_types(tmp_path: Path, deployable: Path) -> None:
    folder = Path(shutil.copytree(deployable / "one", tmp_path / "model"))
    mlmodel = yaml.safe_load((folder / "MLmodel").read_text())
    mlmodel["signature"]["params"] = '[{"name": "p", "type": "long", "default": 1, "shape": null}]'
    (folder / "MLmodel").write_text(yaml.safe_dump(mlmodel))
    # A worker changes the variables of its process.
    program = f"""
from pathlib import Path
from amlflow.serving import loader, payload, worker
made = worker._collector({{"collect": {{"folder": {str(tmp_path)!r}, "hashed": ["age"]}}}}, loader.load(Path({str(folder)!r})))
json = b'{{"dataframe_records": [{{"age": 1, "sex": 2}}]}}'
for body, kind in ((json, "application/json"), (b"age,sex\\n1.0,2\\n", "text/csv")):
    made.take([], payload.parse(body, kind), [1.0], 100)
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", program], check=True)
    first, second = (record["data"] for record in collected(tmp_path, "model_inputs"))
    assert first[0]["age"] == second[0]["age"]
    assert second[0]["sex"] == 2


def test_a_clients_id_is_kept_if_it_is_one(tmp_path: Path) -> None:
    rows = (Payload(["age"], [[1]]), [1])
    assert collect(tmp_path, rows, headers=[(b"x-request-id", b"order-7")]) == ["order-7"]
    for bad in (b"a b", b"x" * 129, b"\xff", b'"}'):
        (given,) = collect(tmp_path, rows, headers=[(b"x-request-id", bad)])
        assert len(given) == 36


def test_a_share_of_the_requests(tmp_path: Path) -> None:
    rows = [(Payload(["age"], [[1]]), [1])] * 2000
    given = collect(tmp_path, *rows, rate=0.25)
    kept = len([item for item in given if item])
    assert 350 < kept < 650
    assert len(collected(tmp_path, "model_inputs")) == kept == len(collected(tmp_path, "model_outputs"))
    assert collect(tmp_path / "none", *rows[:50], rate=0.0) == [""] * 50


def test_what_is_kept_is_bounded_and_the_oldest_goes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collector, "FILE_LIMIT_BYTES", 4000)
    old = tmp_path / "model_inputs" / "2020" / "01" / "01" / "00"
    old.mkdir(parents=True)
    (old / "1-1-0.jsonl").write_text("{}\n" * 1000)
    for number in range(8):
        collect(tmp_path, *[(Payload(["age"], [[number]]), [1])] * 20, limit_bytes=30_000)
        time.sleep(0.01)
    files = list(tmp_path.rglob("*.jsonl"))
    assert sum(file.stat().st_size for file in files) <= 30_000
    assert not (old / "1-1-0.jsonl").exists()
    assert 7 in {record["data"][0]["age"] for record in collected(tmp_path, "model_inputs")}


def test_a_disk_that_refuses_costs_records_and_no_answer(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    place = tmp_path / "file"
    place.write_text("no folder")
    given = collect(place, (Payload(["age"], [[1]]), [1]))
    assert len(given[0]) == 36
    assert "1 requests were not collected: NotADirectoryError" in capfd.readouterr().err
