"""What is no pass: nothing was compared, nothing could be worse. And what is no alarm: row numbers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas
import pytest
import typer
from test_monitor import Ended, rows, table, write_tables
from test_monitor_schedules import Hook, hook

from amlflow.cli import errors
from amlflow.cli.app import app

__all__ = ["hook"]
AGAINST = ("--baseline", "baseline.csv")
PERFORMANCE = ("--data", "answers.csv", "--truth", "truth.csv", "--join", "id")


@pytest.fixture(name="monitor")
def _monitor(work: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Ended]:
    """The command in this process."""
    write_tables(work)
    made = rows(200)
    table(work / "answers.csv", made, "id", "quality")
    table(work / "truth.csv", made, "id", "quality")
    (work / "null.csv").write_text("alcohol,colour\n" + ",\n" * 400)

    def run(*arguments: str) -> Ended:
        code = errors.run(typer.main.get_command(app), ["-w", f"local:{work}/ws", *arguments])
        return Ended(code, *capsys.readouterr())

    return run


def test_a_check_that_compared_nothing_is_no_pass(monitor: Callable[..., Ended], hook: Hook, work: Path) -> None:
    null = ("--data", "null.csv", *AGAINST)
    lost = monitor("monitor", "drift", *null, "--no-log", "-o", "json")
    assert lost.code == 3
    assert "No column was compared" in lost.err
    assert "'alcohol': The data have no value" in lost.err
    assert lost.json["drifted_columns"] == ["alcohol", "colour"]
    assert monitor("monitor", "drift", *null, "--no-log", "--fail-on-drift").code == 6
    of_no_kind = ("--metric", "pearsonsChiSquaredTest", "--column", "alcohol")
    none = monitor("monitor", "drift", "--data", "same.csv", *AGAINST, "--no-log", *of_no_kind)
    assert none.code == 3
    # One column of many, or rates alone, are something.
    some = monitor("monitor", "drift", "--data", "same.csv", *AGAINST, "--no-log", *of_no_kind[:2])
    assert (some.code, some.err) == (0, some.err)
    assert monitor("monitor", "drift", *null, "--no-log", "--metric", "nullValueRate").code == 0

    quiet = ("--data", "null.csv", *AGAINST, "--threshold", "nullValueRate=1", "--webhook", hook.url)
    assert monitor("monitor", "create", "nothing", *quiet).code == 0
    assert monitor("monitor", "run", "nothing", "--no-log").code == 3
    assert [told["state"] for told in hook.posted] == ["failed"]
    assert "No column was compared" in hook.posted[0]["error"]


def test_one_lost_column_fails_the_gate(monitor: Callable[..., Ended], work: Path) -> None:
    table(work / "partly.csv", [{**row, "colour": ""} for row in rows(400, seed=1)], "alcohol", "colour")
    for asked in ((), ("--metric", "populationStabilityIndex")):
        found = monitor("monitor", "drift", "--data", "partly.csv", *AGAINST, "--no-log", "--fail-on-drift", *asked)
        assert found.code == 6
        assert "1 columns crossed a threshold: colour" in found.err
        assert "colour: The data have no value" in found.err


def test_a_rate_that_is_held_to_a_threshold_is_something(monitor: Callable[..., Ended], work: Path) -> None:
    table(work / "some.csv", [{**row, "alcohol": ""} if i % 4 else row for i, row in enumerate(rows(400))], "alcohol")
    asked = (*AGAINST, "--column", "alcohol", "--metric", "pearsonsChiSquaredTest", "--no-log", "--fail-on-drift")
    for data, code in (("same.csv", 0), ("some.csv", 6), ("null.csv", 6)):
        found = monitor("monitor", "drift", "--data", data, *asked, "--threshold", "nullValueRate=0.5", "-o", "json")
        assert found.code == code, found.err
        assert [item["metric"] for item in found.json["windows"][0]["columns"][0]["metrics"]] == ["nullValueRate"]
    allowed = monitor("monitor", "drift", "--data", "null.csv", *asked, "--threshold", "nullValueRate=1")
    assert allowed.code == 3, "of no value nothing can be said"


def test_worse_than_nothing_is_refused(monitor: Callable[..., Ended], work: Path) -> None:
    bare = monitor("monitor", "performance", *PERFORMANCE, "--no-log", "--fail-on-worse")
    assert (bare.code, bare.out) == (2, "")
    assert "--baseline" in bare.err
    assert monitor("monitor", "performance", *PERFORMANCE, "--no-log").code == 0
    kept = monitor("monitor", "create", "m", "--performance", *PERFORMANCE, "--fail")
    assert kept.code == 2
    assert "--baseline" in kept.err
    assert monitor("monitor", "create", "m", "--performance", *PERFORMANCE, "--fail-if", "accuracy < 1").code == 0


def test_a_gate_is_judged_where_nothing_can_be_worse(monitor: Callable[..., Ended], work: Path) -> None:
    said = "--fail-if alone decides"
    for gate, code in (("accuracy < 0.9", 0), ("rows > 10", 6)):
        gated = ("--fail-if", gate)
        found = monitor("monitor", "performance", *PERFORMANCE, "--no-log", "--fail-on-worse", *gated)
        assert (found.code, said in found.err) == (code, True), found.err
        kept = monitor("monitor", "create", "m", "--replace", "--performance", *PERFORMANCE, "--fail", *gated)
        assert (kept.code, said in kept.err) == (0, True), kept.err
        ran = monitor("monitor", "run", "m", "--no-log")
        assert (ran.code, said in ran.err) == (code, True), ran.err


def test_a_training_run_without_these_metrics_passes_nothing(monitor: Callable[..., Ended], work: Path) -> None:
    assert monitor("track", "-e", "wine", "--run-name", "trained", "--", "true").code == 0
    run = monitor("run", "show", "trained", "-o", "json").json["run_id"]
    against = ("monitor", "performance", *PERFORMANCE, "--no-log", "--baseline", run)
    found = monitor(*against, "--fail-on-worse", "-o", "json")
    assert found.code == 1
    assert "has logged none of accuracy, precision" in found.err
    assert found.json["windows"][0]["metrics"], "what was found is shown all the same"
    assert monitor(*against).code == 0
    assert monitor("log", "metric", "val_auc=0.5", "--run", run).code == 0
    assert monitor(*against, "--fail-on-worse").code == 1, "no area under the curve was asked for"
    assert monitor("log", "metric", "val_accuracy=0.5", "--run", run).code == 0
    assert monitor(*against, "--fail-on-worse").code == 0


def frames_of(work: Path) -> None:
    """A baseline and later data with pandas' row numbers, which go on, in CSV and Parquet."""
    made = {name: pandas.DataFrame(rows(400, seed=i))[["alcohol", "colour"]] for i, name in enumerate(("b", "d"))}
    made["d"].index += 400
    for name, data in made.items():
        data["at"] = "2026-01-01"
        data.to_csv(work / f"{name}.csv")
        # A filtered table keeps its rows' numbers as a column.
        data[data.alcohol > 8].to_parquet(work / f"{name}.parquet")
        pandas.read_csv(work / f"{name}.csv").to_csv(work / f"{name}2.csv", index=False)


@pytest.mark.parametrize(("suffix", "name"), [(".csv", ""), ("2.csv", "Unnamed: 0"), (".parquet", "__index_level_0__")])
def test_row_numbers_of_pandas_raise_no_alarm(
    monitor: Callable[..., Ended], work: Path, suffix: str, name: str
) -> None:
    frames_of(work)
    command = ("monitor", "drift", "--data", f"d{suffix}", "--baseline", f"b{suffix}", "--no-log", "-o", "json")
    for when in ((), ("--time", "at")):
        found = monitor(*command, *when, "--fail-on-drift")
        assert found.code == 0, found.err
        compared = [column["column"] for column in found.json["windows"][0]["columns"]]
        assert compared == ["alcohol", "colour", *([] if when else ["at"])]
        assert [note for note in found.json["notes"] if f"are left out: {name!r}" in note]
    named = monitor(*command, "--column", name, "--fail-on-drift")
    assert named.code == 6, named.err
    assert not any("left out" in note for note in json.loads(named.out)["notes"])


def test_row_numbers_are_no_answer_and_no_truth(monitor: Callable[..., Ended], work: Path) -> None:
    made: Any = pandas.DataFrame(rows(100))
    made[["id", "quality"]].to_csv(work / "answers.csv")
    made[["id", "quality"]].to_csv(work / "truth.csv")
    assert monitor("monitor", "performance", *PERFORMANCE, "--no-log").code == 0


def test_how_numbers_were_read_is_noted(monitor: Callable[..., Ended], work: Path) -> None:
    for name, shift in (("b", 0), ("d", 3)):
        values = [f"{row['alcohol']:.3f}".replace(".", ",") for row in rows(300, shift)]
        (work / f"{name}.csv").write_text("alcohol;n\n" + "".join(f"{value};1\n" for value in values))
    found = monitor("monitor", "drift", "--data", "d.csv", "--baseline", "b.csv", "--no-log", "-o", "json").json
    assert found["drifted_columns"] == ["alcohol"]
    assert found["windows"][0]["columns"][0]["kind"] == "numeric"
    assert [note for note in found["notes"] if note == "d.csv: commas in numbers are read as decimal signs."]
    (work / "t.csv").write_text("id;quality\n" + "".join(f"b{i};{5 + i % 30},5\n" for i in range(60)))
    truth = monitor("monitor", "performance", *PERFORMANCE[:2], "--truth", "t.csv", "--join", "id", "--no-log")
    assert "t.csv: commas in numbers are read as decimal signs." in truth.err
    assert "mae" in truth.out
