from __future__ import annotations

import xml.etree.ElementTree as ET

from amlflow.reports.gates import Finding, junit, markdown, rows

FINDINGS = [
    Finding("rmse > 1", "good", "g" * 32, "passed", {"rmse": 0.5}),
    Finding("rmse > 1", 'bad <&"> \x1b\x00 one', "b" * 32, "failed", {"rmse": 1.5}),
    Finding("auc < 0.9", "bare", "c" * 32, "error", {}, "it has no metric or param 'auc'"),
]


def test_junit_has_a_case_for_each_run_and_gate() -> None:
    root = ET.fromstring(junit(FINDINGS, "2026-01-02T03:04:05+00:00", 1.5))
    assert root.tag == "testsuites"
    (suite,) = root
    assert suite.attrib["name"] == "amlflow compare"
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors"), suite.get("time")) == (
        "3",
        "1",
        "1",
        "1.500",
    )
    good, bad, bare = suite
    assert (good.tag, good.get("classname"), good.get("name"), list(good)) == ("testcase", "good", "not rmse > 1", [])
    assert bad.get("classname") == 'bad <&"> \ufffd\ufffd one'
    failure, error = bad[0], bare[0]
    assert (failure.tag, error.tag) == ("failure", "error")
    assert "rmse > 1 is true (rmse = 1.5)" in (failure.get("message") or "")
    assert "it has no metric or param 'auc'" in (error.text or "")


def test_runs_of_one_name_are_cases_of_their_own() -> None:
    same = [Finding("rmse > 1", "twin", run_id, "passed", {"rmse": 0.5}) for run_id in ("1" * 32, "2" * 32)]
    (suite,) = ET.fromstring(junit([*FINDINGS, *same], "2026-01-02T03:04:05+00:00", 1.5))
    names = [case.get("classname") for case in suite]
    assert names[0] == "good"
    assert names[3:] == [f"twin ({'1' * 32})", f"twin ({'2' * 32})"]


def test_markdown_has_failures_first_and_keeps_its_cells() -> None:
    gate = "`a|b` > 1 and x*2 > y*3"
    shown = markdown([*FINDINGS, Finding(gate, "a|b", "d", "failed", {"`a|b`": 2.0})], {})
    lines = shown.split("\n")
    assert lines[0] == "### 3 of 4 gate checks failed"
    rows = [line for line in lines if line.startswith("| ✗") or line.startswith("| ✓")]
    assert [row[2] for row in rows] == ["✗", "✗", "✗", "✓"]
    assert "| a\\|b | `` `a\\|b` > 1 and x*2 > y*3 `` | `` `a\\|b` = 2 `` |" in shown
    assert "&lt;&" in shown


def test_a_row_calls_a_run_by_its_label_and_a_group_by_its_name() -> None:
    same = [Finding("rmse > 1", "twin", run_id, "failed", {"rmse": 1.5}) for run_id in ("1" * 32, "2" * 32)]
    group = Finding("rmse > 1", "lr=0.1", "", "passed", {"rmse": 0.5})
    labels = {"1" * 32: "twin (11111111)", "2" * 32: "twin (22222222)"}
    called = ["twin (11111111)", "twin (22222222)", "lr=0.1"]
    assert [row[1] for row in rows([group, *same], labels)] == called
    table = [line.split(" | ")[1] for line in markdown([group, *same], labels).splitlines()[4:]]
    assert table == called


def test_a_group_has_no_empty_brackets_for_the_id_that_it_lacks() -> None:
    (suite,) = ET.fromstring(junit([Finding("rmse > 1", "lr=0.1", "", "failed", {"rmse": 1.5})], "2026-01-02", 0))
    assert suite[0][0].get("message") == "lr=0.1: rmse > 1 is true (rmse = 1.5)"
