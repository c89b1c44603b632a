"""Thresholds that cannot hold, and names of columns that are alike once they are metrics' names."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import typer
from test_monitor import Ended, rows, table, write_collected, write_tables

from amlflow.cli import errors
from amlflow.cli.app import app
from amlflow.workspaces.local.workspace import LocalWorkspace

Command = Callable[..., Ended]


@pytest.fixture(name="monitor")
def _monitor(work: Path, capsys: pytest.CaptureFixture[str]) -> Command:
    write_tables(work)

    def run(*arguments: str) -> Ended:
        code = errors.run(typer.main.get_command(app), ["-w", f"local:{work}/ws", "monitor", *arguments])
        return Ended(code, *capsys.readouterr())

    return run


MOVED = ("drift", "--data", "moved.csv", "--baseline", "baseline.csv", "--no-log", "--fail-on-drift")


def test_a_metric_with_a_threshold_is_computed_beside_those_asked_for(monitor: Command, work: Path) -> None:
    made = [{**row, "alcohol": row["alcohol"] if i % 5 else None} for i, row in enumerate(rows(400, seed=1))]
    table(work / "nulls.csv", made, "alcohol", "colour")
    nulls = ("drift", "--data", "nulls.csv", "--baseline", "baseline.csv", "--no-log", "--fail-on-drift")
    asked = (*nulls, "--metric", "populationStabilityIndex", "-o", "json")
    assert monitor(*asked).code == 0
    named = monitor(*asked, "--threshold", "nullValueRate=0.01")
    assert named.code == 6
    assert named.json["drifted_columns"] == ["alcohol"]
    of_one = monitor(*asked, "--threshold", "alcohol.nullValueRate=0.01").json["windows"][0]["columns"]
    assert {column["column"]: {item["metric"] for item in column["metrics"]} for column in of_one} == {
        "alcohol": {"populationStabilityIndex", "nullValueRate"},
        "colour": {"populationStabilityIndex"},
    }


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["colour.normalizedWassersteinDistance=0.0001"], "the column 'colour' is categorical"),
        (["alcohol.pearsonsChiSquaredTest=0.1"], "the column 'alcohol' is numeric"),
        (["colour=0.2", "--metric", "normalizedWassersteinDistance"], "no --metric is of that kind"),
        (["alcohol.outOfBoundsRate=0.1", "--kind", "alcohol=text"], "the column 'alcohol' is text"),
    ],
)
def test_a_threshold_that_can_hold_for_nothing_is_refused(monitor: Command, arguments: list[str], said: str) -> None:
    found = monitor(*MOVED, "--threshold", *arguments)
    assert found.code == 2, found.err
    assert said in found.err
    assert found.out == ""


def test_a_threshold_of_a_metric_that_no_column_has_is_noted(monitor: Command) -> None:
    both = ("--threshold", "normalizedWassersteinDistance=9", "--threshold", "pearsonsChiSquaredTest=0.001")
    found = monitor(*MOVED, *both, "--column", "alcohol", "-o", "json")
    assert found.code == 0, found.err
    assert "pearsonsChiSquaredTest=0.001 holds for no column" in found.json["notes"][0]
    assert found.json["notes"][0] in found.err
    assert "holds for no column" not in monitor(*MOVED, *both).err


def test_a_threshold_holds_for_what_kind_makes_of_a_column(monitor: Command) -> None:
    found = monitor(*MOVED, "--threshold", "alcohol.pearsonsChiSquaredTest=0.1", "--kind", "alcohol=categorical")
    assert found.code == 6, found.err


@pytest.mark.parametrize("slip", ["jensenshannondistanc=0.2", "null_value_rat=0.1", "alcohol.jensenShanonDistance=0.1"])
def test_a_kept_monitor_takes_no_slip_of_a_metric_for_a_column(monitor: Command, slip: str) -> None:
    data = ("--data", "moved.csv", "--baseline", "baseline.csv")
    found = monitor("create", "m", *data, "--threshold", slip)
    assert found.code == 2
    assert "Did you mean" in found.err
    assert monitor("create", "m", *data, "--threshold", "null_share=0.1", "--threshold", "a.b.c=1").code == 0


def test_columns_whose_keys_would_be_alike_are_logged_apart_and_gated_safely(monitor: Command, work: Path) -> None:
    far, names = "x" * 260, ("age<30", "age>30", "max", "plain")
    names = (*names, f"first {far}", f"second {far}")
    moved = {"age<30", f"first {far}"}
    for file, shift in (("before.csv", 0.0), ("after.csv", 1.0)):
        made = [rows(300, shift * (name in moved), seed=seed) for seed, name in enumerate(names)]
        table(work / file, [{name: made[i][row]["alcohol"] for i, name in enumerate(names)} for row in range(300)])
    command = ("drift", "--data", "after.csv", "--baseline", "before.csv", "--fail-if")
    metric = "normalizedWassersteinDistance"
    logged = monitor(*command, f"max.{metric} > 0.9", "-o", "json")
    assert logged.code == 6
    for key in (f"age_30.{metric}", f"{far}.{metric}"[-250:]):
        unclear = monitor(*command, f"`{key}` > 0.2", "--no-log")
        assert unclear.code == 6
        assert f"no metric or param '{key}'" in unclear.err
    metrics = LocalWorkspace(work / "ws").get_run(logged.json["run_id"]).metrics
    values = {key: value for key, value in metrics.items() if key.endswith(metric)}
    assert {f"max.{metric}", f"plain.{metric}"} <= values.keys()
    assert all(len(key) <= 250 for key in values)
    assert len(values) == 1 + len(names)
    assert sum(value > 0.8 for key, value in values.items() if not key.startswith("max.")) == 2
    assert values[f"max.{metric}"] == max(values.values())
    (own,) = (key for key in values if key.startswith("max_"))
    assert monitor(*command, f"`{own}` > 0.2", "--no-log").code == 0


def test_an_answer_that_is_called_like_an_input_is_logged_beside_it(monitor: Command, work: Path) -> None:
    base, at = rows(300), datetime.now(UTC) - timedelta(hours=2)
    table(work / "trained.csv", base, "alcohol", "colour")
    moved = [{**row, "alcohol": row["alcohol"] + 9} for row in base]
    for name, made in (("model_inputs", base), ("model_outputs", moved)):
        names = ("alcohol", "colour")[: 2 if name == "model_inputs" else 1]
        content = [(at, f"r{i}", [{key: row[key] for key in names}]) for i, row in enumerate(made)]
        write_collected(work / "collected", name, content)
    data = ("--data", "collected", "--baseline", "trained.csv", "--prediction", "alcohol")
    found = monitor("drift", *data, "-o", "json")
    assert found.code == 0, found.err
    drifted = {(c["column"], c["signal"]): c["drifted"] for c in found.json["windows"][0]["columns"]}
    assert drifted == {
        ("alcohol", "data_drift"): False,
        ("colour", "data_drift"): False,
        ("alcohol", "prediction_drift"): True,
    }
    logged = LocalWorkspace(work / "ws").get_run(found.json["run_id"]).metrics
    (plain, moved_far) = sorted(logged[key] for key in logged if key.startswith("alcohol_"))
    assert plain == 0
    assert moved_far > 1


def test_a_gate_of_drift_that_speaks_of_the_baseline_is_told_that_there_is_none(monitor: Command) -> None:
    found = monitor(*MOVED, "--fail-if", "rows < baseline*0.5")
    assert found.code == 2
    assert "gates of drift have none" in found.err
    assert "--baseline RUN" not in found.err
    data = ("--data", "moved.csv", "--baseline", "baseline.csv")
    assert "gates of drift" in monitor("create", "m", *data, "--fail-if", "rows < baseline*0.5").err
