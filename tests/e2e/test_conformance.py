"""`endpoint conformance`: the service's answers against those of MLflow's pyfunc.predict of the same model."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from deployable import ROW

from amlflow.targets import answers


def test_an_endpoint_is_held_to_its_model(amlflow: Any, deployable: Path, work: Path) -> None:
    folder = work / "model"
    shutil.copytree(deployable / "one", folder)
    amlflow.ok("deploy", str(folder), "--name", "one", "--env-manager", "local")
    csv = work / "rows.csv"
    csv.write_text(",".join(ROW["columns"]) + "\n" + (",".join(["0.5"] * 10) + "\n") * 3)
    same = amlflow.ok("endpoint", "conformance", "one", "--data", str(csv), "-o", "json").json
    assert (same["requests"], same["values"], same["largest_difference"]) == (2, 5, 0.0)

    # What is served is the first model still; what is in its folder says 2.
    shutil.copy(deployable / "two" / "model.pkl", folder / "model.pkl")
    local = ("endpoint", "conformance", "one", "--env-manager", "local")
    differs = amlflow(*local)
    assert differs.code == 1
    assert "predictions[0] is 1.0, and pyfunc.predict says 2.0" in differs.err
    assert amlflow.ok(*local, "--tolerance", "1", "-o", "json").json["largest_difference"] == 1.0
    (work / "wrong.json").write_text('{"dataframe_split": {"columns": ["age"], "data": [[1]]}}')
    wrong = amlflow(*local, "--data", "wrong.json")
    assert (wrong.code, "MLflow cannot answer the request" in wrong.err) == (1, True)
    assert amlflow("endpoint", "conformance", "none").code == 3
    assert amlflow(*local[:-1], "pip").code == 2


def test_the_first_difference_is_found() -> None:
    assert answers.first_difference([1, 2.0, None], [1.0, 2, float("nan")]) is None
    assert answers.first_difference([True], [1]) == answers.Difference("[0]", True, 1)
    assert answers.first_difference([{"a": 1}, {"a": 2}], [{"a": 1}, {"a": 3}]) == answers.Difference("[1].a", 2, 3)
    longer = answers.first_difference([1], [1, 2])
    assert longer is not None
    assert (longer.one, longer.other) == (1, 2)
    assert answers.first_difference([100.0], [100.01], 1e-3) is None
