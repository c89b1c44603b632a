"""What `amlflow compare` calls its runs: no two alike, and none for what it is not."""

from __future__ import annotations

import math
import re
import shutil
import xml.etree.ElementTree as ET
from typing import Any

from compared import Maker, compare

GATE = ("--fail-if", "auc < 0.9")


def test_runs_of_one_name_are_told_apart(amlflow: Any, make: Maker) -> None:
    one, two = make("train", auc=0.8), make("train", auc=0.95)
    shown = compare(amlflow, one, two, *GATE, "-o", "table")
    assert re.search(rf"^ +train \({one[:8]}\) +train \({two[:8]}\)$", shown.out, re.MULTILINE), shown.out
    assert re.search(rf"failed +train \({one[:8]}\) +auc < 0.9 is true", shown.out), shown.out
    assert re.search(rf"passed +train \({two[:8]}\) +auc < 0.9 is false", shown.out), shown.out
    told = compare(amlflow, one, two, *GATE, "--markdown", "--plot", "auc").out
    assert told.startswith(f"|   | train ({one[:8]}) | train ({two[:8]}) |\n")
    assert f"| ✗ | train ({one[:8]}) | ` auc < 0.9 ` | ` auc = 0.8 ` |" in told
    assert f"  b train ({two[:8]}): last 0.95" in told
    document = compare(amlflow, one, two, *GATE, "-o", "json").json
    assert [(gate["run"], gate["run_id"]) for gate in document["gates"]] == [("train", one), ("train", two)]


def test_the_same_run_of_two_workspaces_is_told_apart(amlflow: Any, make: Maker) -> None:
    run = make("train", auc=0.8)
    shutil.copytree(amlflow.cwd / "a", amlflow.cwd / "b")
    shown = amlflow("-w", "local:./a", "-w", "local:./b", "compare", run, *GATE, "-o", "table").out
    for where in ("a", "b"):
        assert f"✗ failed  {where}::train ({run[:8]})" in shown
    assert re.search(r"^workspace +a +b", shown, re.MULTILINE)


def test_a_deleted_run_is_called_deleted(amlflow: Any, make: Maker) -> None:
    runs = [make(f"run-{number}", auc=0.8) for number in range(5)]
    amlflow.ok("-w", "local:./a", "run", "delete", "run-0")
    for named in (runs[:2], runs):
        shown = compare(amlflow, *named, "--baseline", runs[0], "-o", "table")
        assert shown.code == 0, shown.err
        assert "run-0 (baseline, deleted)" in shown.out
        assert "run-1 (" not in shown.out
    stages = [run["lifecycle_stage"] for run in compare(amlflow, *runs[:2], "-o", "json").json["runs"]]
    assert stages == ["deleted", "active"]


def test_a_difference_that_is_no_number_is_not_shown(amlflow: Any, make: Maker) -> None:
    make("base", loss=math.inf, auc=0.5)
    make("same", loss=math.inf, auc=math.nan)
    make("next", loss=0.5, auc=0.75)
    shown = compare(amlflow, "same", "next", "--baseline", "base").out.splitlines()
    cells = {line.split("\t")[0]: line.split("\t")[1:] for line in shown}
    assert cells["loss ↓"] == ["inf", "inf", "0.5 ★"]
    assert cells["auc ↑"] == ["0.5", "nan", "0.75 (+0.25) ★"]


def test_a_group_with_a_run_that_crashed_passes_no_gate(amlflow: Any, make: Maker) -> None:
    for solver, values in (("adam", [0.95, 0.96, None]), ("sgd", [0.9, 0.91, 0.92])):
        for seed, value in enumerate(values):
            metrics = {"loss": 0.5} if value is None else {"loss": 0.5, "acc": value}
            make(f"{solver}-{seed}", params={"solver": solver, "seed": str(seed)}, **metrics)
    asked = ("-e", "wine", "--seeds", "seed", "--junit", "out.xml")
    result = compare(amlflow, *asked, "--fail-if", "acc < 0.8", "-o", "table")
    assert result.code == 6
    said = "acc < 0.8 cannot be decided: 1 of 3 runs lacks the metric 'acc'"
    assert f"1 of 2 gate checks failed. group 'solver=adam': {said}." in result.err
    assert re.search(r"✗ error +solver=adam +acc < 0.8 cannot be", result.out), result.out
    (suite,) = ET.parse(amlflow.cwd / "out.xml").getroot()
    assert {case.get("classname"): [(one.tag, one.get("message")) for one in case] for case in suite} == {
        "solver=adam": [("error", f"solver=adam: {said}")],
        "solver=sgd": [],
    }
    base = compare(amlflow, *asked, "--baseline", "adam-0", "--fail-if", "acc < baseline - 0.1")
    assert base.code == 6
    assert "1 of 3 runs of the baseline's group lacks the metric 'acc'" in base.err
    assert compare(amlflow, *asked, "--fail-if", "loss > 1").code == 0


def test_groups_that_do_not_vary_say_why_they_are_not_tested(amlflow: Any, make: Maker) -> None:
    for solver, value in (("adam", 0.5), ("sgd", 0.9)):
        for seed in range(3):
            make(f"{solver}-{seed}", auc=value, params={"solver": solver, "seed": str(seed)})
    asked = ("-e", "wine", "--seeds", "seed", "-o", "table")
    assert "no p where the values of neither group vary" in compare(amlflow, *asked, "--baseline", "adam-0").err
    assert "no p" not in compare(amlflow, *asked).err
