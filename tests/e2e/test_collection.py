"""`deploy --collect`: what an endpoint is asked and answers is kept."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from deployable import ROW

COLLECT = ("--target", "local", "--env-manager", "local", "--collect")


def lines(amlflow: Any, kind: str, count: int) -> list[dict[str, Any]]:
    root = Path(amlflow.env["AMLFLOW_HOME"]).rglob(f"collected/one/{kind}")
    folder, deadline = next(root), time.monotonic() + 60
    while True:
        found = [json.loads(line) for file in sorted(folder.rglob("*.jsonl")) for line in file.read_text().splitlines()]
        if len(found) >= count:
            return found
        assert time.monotonic() < deadline, f"{len(found)} of {count}"
        time.sleep(0.1)


@pytest.mark.parametrize(
    ("signature", "said", "code"),
    [
        ({"inputs": '[{"type": "long", "name": "age"}]', "params": '[{"name": "p", "type": "long"}]'}, "'age'", 2),
        ({"inputs": '[{"type": "array", "items": {"type": "long"}, "name": "age"}]'}, "'age'", 2),
        (
            {"inputs": '[{"type": "tensor", "tensor-spec": {"dtype": "f8", "shape": [-1, 2]}, "name": "age"}]'},
            "'age'",
            2,
        ),
        ({"inputs": '[{"type": "tensor", "tensor-spec": {"dtype": "f8", "shape": [-1, 2]}}]'}, "nobody has checked", 0),
        (None, "nobody has checked", 0),
    ],
)
def test_a_misspelt_column_is_refused_wherever_the_columns_are_known(
    amlflow: Any, deployable: Path, signature: Any, said: str, code: int
) -> None:
    folder = Path(shutil.copytree(deployable / "one", amlflow.cwd / "model"))
    mlmodel = yaml.safe_load((folder / "MLmodel").read_text())
    (folder / "MLmodel").write_text(yaml.safe_dump({**mlmodel, "signature": signature}))
    for option in ("--collect-drop", "--collect-hash"):
        done = amlflow("deploy", "./model", *COLLECT, "--dry-run", option, "agge")
        assert (done.code, bool(done.out)) == (code, not code)
        assert said in done.err
        assert "'agge'" in done.err
    if code:
        known = amlflow.ok("deploy", "./model", *COLLECT, "--dry-run", "--collect-drop", "age")
        assert known.err == ""


def test_a_local_endpoint_collects(amlflow: Any, deployable: Path) -> None:
    model = str(deployable / "one")
    misspelt = amlflow("deploy", model, *COLLECT, "--collect-drop", "agge")
    assert misspelt.code == 2
    assert "Did you mean 'age'" in misspelt.err
    assert amlflow("deploy", model, "--target", "local", "--sampling", "50").code == 2
    assert "collection" in amlflow.ok("deploy", model, *COLLECT, "--dry-run").out

    amlflow.ok("deploy", model, *COLLECT, "--collect-drop", "sex", "--collect-hash", "bmi")
    for _ in range(3):
        amlflow.ok(
            "endpoint",
            "invoke",
            "one",
            "-",
            stdin=json.dumps({"dataframe_split": {**ROW}}).replace('"index": [0], ', ""),
        )
    inputs, outputs = lines(amlflow, "model_inputs", 3), lines(amlflow, "model_outputs", 3)
    assert {record["correlationid"] for record in inputs} == {record["correlationid"] for record in outputs}
    assert len({record["correlationid"] for record in inputs}) == 3
    row = inputs[0]["data"][0]
    assert "sex" not in row
    assert (row["age"], len(row["bmi"])) == (0.1, 32)
    assert outputs[0]["data"] == [{"output": 1.0}]

    amlflow.ok("endpoint", "data", "one", "--to", "down")
    assert (
        len([line for file in Path(amlflow.cwd, "down", "model_inputs").rglob("*.jsonl") for line in file.open()]) == 3
    )
    assert amlflow("endpoint", "data", "one", "--to", "down").code == 1
    assert amlflow("endpoint", "data", "none").code == 3
    drift = amlflow("monitor", "drift", "one", "--baseline", "down/model_inputs", "-o", "json", "--no-log")
    assert drift.code == 0, drift.err

    # A refused request is none of the model's; a second deploy goes on in the same place; deleting the endpoint loses nothing.
    assert amlflow("endpoint", "invoke", "one", "-", stdin='{"inputs": [["x"]]}').code == 1
    amlflow.ok("deploy", str(deployable / "two"), *COLLECT, "--name", "one")
    amlflow.ok("endpoint", "invoke", "one", "--example")
    assert len(lines(amlflow, "model_outputs", 4)) == 4
    amlflow.ok("deploy", str(deployable / "two"), "--target", "local", "--env-manager", "local", "--name", "one")
    amlflow.ok("endpoint", "invoke", "one", "--example")
    amlflow.ok("endpoint", "delete", "one")
    assert len(lines(amlflow, "model_outputs", 4)) == 4
