"""`amlflow compare` as a gate, over seeds and as charts."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
from compared import Maker, compare

from amlflow.workspaces.local.workspace import LocalWorkspace


def test_a_gate_that_holds_is_no_failure(amlflow: Any, make: Maker) -> None:
    make("champion", rmse=0.50)
    make("good", rmse=0.505)
    result = compare(amlflow, "good", "--baseline", "champion", "--fail-if", "rmse > baseline*1.02")
    assert result.code == 0, result.err
    assert "All 1 gate checks passed" in result.err


def test_a_gate_that_fails_names_run_expression_and_values(amlflow: Any, make: Maker) -> None:
    make("champion", rmse=0.50, auc=0.9)
    bad = make("bad", rmse=0.6, auc=0.95)
    gates = ("--fail-if", "rmse > baseline*1.02", "--fail-if", "auc < 0.9")
    result = compare(amlflow, "champion", "bad", "--baseline", "champion", *gates, "-o", "json")
    assert result.code == 6
    assert f"1 of 2 gate checks failed. run 'bad' ({bad}): rmse > baseline*1.02 is true" in result.err
    assert "(rmse = 0.6, baseline.rmse = 0.5)" in result.err
    document = result.json
    assert [(gate["run"], gate["gate"], gate["outcome"]) for gate in document["gates"]] == [
        ("bad", "rmse > baseline*1.02", "failed"),
        ("bad", "auc < 0.9", "passed"),
    ]
    assert document["gates"][0]["values"] == {"rmse": 0.6, "baseline.rmse": 0.5}
    shown = compare(amlflow, "bad", "--fail-if", "rmse > 0.5", "-o", "table")
    assert shown.code == 6
    assert "✗ failed" in shown.out
    # The rows of a pipe stay the rows of the runs.
    assert len(compare(amlflow, "bad", "--fail-if", "rmse > 0.5").out.splitlines()) == len(
        compare(amlflow, "bad").out.splitlines()
    )


def test_the_baseline_is_a_run_a_model_or_the_best(amlflow: Any, make: Maker) -> None:
    champion = make("champion", rmse=0.50)
    make("worse", rmse=0.60)
    make("worst", rmse=0.70)
    store = LocalWorkspace(amlflow.cwd / "a", "a")
    store.create_model_version("wine", str(amlflow.cwd), champion, "", {})
    store.set_alias("wine", "prod", "1")
    for baseline in (champion, "champion", "wine@prod", "wine:1", "best:-rmse", "best:rmse"):
        result = compare(amlflow, "worst", "--baseline", baseline, "--fail-if", "rmse > baseline + 0.15")
        assert result.code == 6, (baseline, result.err)
        assert compare(amlflow, "worse", "--baseline", baseline, "--fail-if", "rmse > baseline + 0.15").code == 0
    assert compare(amlflow, "worse", "--baseline", "nothing", "--fail-if", "rmse > 1").code == 3
    for asked in ("best:+rmse", "best:rmse --higher rmse"):
        highest = compare(amlflow, "champion", "--baseline", *asked.split(), "--query", "runs[].name")
        assert highest.out == "worst\nchampion\n"


def test_a_new_best_run_is_held_to_the_best_of_the_others(amlflow: Any, make: Maker) -> None:
    make("before", auc=0.90)
    make("long-before", auc=0.95, experiment="other")
    make("new", auc=0.97)
    gate = ("--baseline", "best:auc", "--fail-if", "auc < baseline * 0.98", "--junit", "out.xml", "-o", "json")
    held = compare(amlflow, "new", "-e", "wine", *gate)
    assert held.code == 0, held.err
    assert held.json["gates"][0]["values"] == {"auc": 0.97, "baseline.auc": 0.90}
    assert "auc" in (amlflow.cwd / "out.xml").read_text()
    # Without -e as with the experiment of the run that is named.
    assert compare(amlflow, "new", *gate).json["gates"][0]["values"]["baseline.auc"] == 0.90
    assert compare(amlflow, "new", "-e", "other", *gate).json["gates"][0]["values"]["baseline.auc"] == 0.95
    best = compare(amlflow, "best:auc", "-e", "wine", *gate)
    assert best.json["gates"][0]["values"] == {"auc": 0.97, "baseline.auc": 0.90}, best.err
    # Where none is named the best of the experiment is the one that the others are held to.
    worse = compare(amlflow, "-e", "wine", "--baseline", "best:auc", "--fail-if", "auc < baseline * 0.98")
    assert worse.code == 6
    assert "run 'before'" in worse.err
    alone = compare(amlflow, "before", "new", "-e", "wine", *gate)
    assert alone.code == 3
    assert "'best:auc' is none of the runs that are named, and no other run in experiment 'wine'" in alone.err


def test_where_nothing_is_judged_a_named_run_may_be_the_best(amlflow: Any, make: Maker) -> None:
    make("before", auc=0.90)
    make("elsewhere", auc=0.99, experiment="other")
    new = make("new", auc=0.97)
    for named in (["before", "new"], ["before"], ["new"]):
        assert compare(amlflow, *named, "--baseline", "best:auc", "--query", "baseline").out == f"{new}\n"


def test_the_one_run_that_is_its_own_baseline_is_held_to_itself(amlflow: Any, make: Maker) -> None:
    champion = make("champion", rmse=0.5)
    store = LocalWorkspace(amlflow.cwd / "a", "a")
    store.create_model_version("wine", str(amlflow.cwd), champion, "", {})
    for watch in ([], ["--watch"]):
        good = compare(amlflow, "last", "--baseline", "wine:1", "--fail-if", "rmse > baseline * 1.02", *watch)
        assert good.code == 0, good.err
        assert "Run 'champion' is the baseline itself" in good.err
        assert compare(amlflow, "last", "--baseline", "wine:1", "--fail-if", "rmse > 0.4", *watch).code == 6
    said = compare(amlflow, "champion", "--baseline", "champion", "--fail-if", "rmse > baseline")
    assert said.code == 2
    assert "'champion' is the run and its own baseline" in said.err


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--fail-if", "rmse > "], 2, "\n  rmse > \n         ^\n"),
        (["--fail-if", "rmse > baseline"], 2, "none is given"),
        (["--junit", "out.xml"], 2, "there is none"),
        (["--fail-if", "rmse > 1", "--junit", "no/such/folder/out.xml"], 2, "cannot write"),
        (["--fail-if", "rmsee > 1"], 6, "it has no metric or param 'rmsee' (is 'rmse'"),
        (["--fail-if", "broken > 1"], 6, "a side of '>' is NaN"),
        (["--fail-if", "broken > 1 or rmse > 9"], 6, "NaN"),
        (["--fail-if", "unbounded > 1e300"], 6, "is true (unbounded = inf)"),
        (["--x", "weeks"], 2, "step or time"),
        (["--plot", "rmsee"], 3, "Did you mean 'rmse'"),
        (["--plot", "rmse", "-o", "json"], 2, "for people"),
        (["--seeds", "sed"], 3, "Did you mean 'seed'"),
        (["--history", "rmsee", "-o", "json"], 3, "Did you mean 'rmse'"),
        (["--lower", "rmsee"], 3, "Did you mean 'rmse'"),
        (["--higher", "rmsee"], 3, "Did you mean 'rmse'"),
        (["--lower", "rmse", "--higher", "rmse"], 2, "both name 'rmse'"),
        (["--markdown", "-o", "json"], 2, "--markdown and -o json"),
        (["--markdown", "-q"], 2, "--markdown and -q"),
        (["--markdown", "--query", "runs"], 2, "--markdown and --query"),
        (["elsewhere::one"], 3, "no workspace 'elsewhere'"),
        (["local:./a::"], 2, "no run of it"),
    ],
)
def test_bad_input_is_told_apart(amlflow: Any, make: Maker, arguments: list[str], code: int, said: str) -> None:
    make("one", rmse=0.5, broken=math.nan, unbounded=math.inf, params={"seed": "1"})
    result = compare(amlflow, "one", *arguments)
    assert result.code == code, result.err
    assert said in result.err
    assert "Traceback" not in result.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--fail-if", "rmse >"], "^"),
        (["--html", "."], "--html cannot write '.': it is a folder"),
        (["--html", "no/page.html"], "there is no folder 'no'"),
        (["--fail-if", "rmse > 1", "--junit", "."], "--junit cannot write '.': it is a folder"),
        (["--fail-if", "rmse > 1", "--junit", "no/out.xml"], "there is no folder 'no'"),
    ],
)
def test_what_cannot_be_is_refused_before_the_workspace_is_read(amlflow: Any, arguments: list[str], said: str) -> None:
    result = amlflow("-w", "http://127.0.0.1:9", "compare", "one", *arguments)
    assert result.code == 2
    assert said in result.err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a device that is always full")
@pytest.mark.parametrize("option", ["--junit", "--html"])
def test_a_file_that_cannot_be_written_hides_no_gate(amlflow: Any, make: Maker, option: str) -> None:
    make("one", rmse=0.6)
    for gate, code in (("rmse > 0.5", 6), ("rmse > 0.7", 1)):
        result = compare(amlflow, "one", "--fail-if", gate, option, "/dev/full")
        assert result.code == code
        assert "rmse" in result.out
        assert "No space left on device" in result.err
        assert ("run 'one'" in result.err) == (code == 6)


def test_a_direction_in_the_settings_is_for_the_runs_that_have_the_metric(amlflow: Any, make: Maker) -> None:
    make("one", rmse=0.5)
    (amlflow.cwd / "amlflow.yaml").write_text("defaults: {compare: {lower: [stretch]}}\n")
    assert compare(amlflow, "one").code == 0
    assert compare(amlflow, "one", "--lower", "stretch").code == 3


def test_what_is_typed_wins_over_the_settings(amlflow: Any, make: Maker) -> None:
    run_id = make("one", rmse=0.5, acc=0.5)
    make("two", rmse=0.7, acc=0.7)
    settings = "{compare: {lower: [acc], higher: [rmse], markdown: true}}"
    (amlflow.cwd / "amlflow.yaml").write_text(f"defaults: {settings}\n")
    # In the settings they stand for whoever types neither.
    assert "| acc ↓ | 0.5 ★ |" in compare(amlflow, "one", "two").out
    for typed in (["--higher", "acc"], ["--lower", "rmse", "--higher", "acc"]):
        told = compare(amlflow, "one", "two", *typed)
        assert "| acc ↑ | 0.5 | 0.7 ★ |" in told.out, told.err
    assert "| rmse ↓ | 0.5 ★ |" in told.out
    assert compare(amlflow, "one", "-q").out == f"{run_id}\n"
    assert compare(amlflow, "one", "-o", "json").json["runs"][0]["run_id"] == run_id
    assert compare(amlflow, "one", "--query", "runs[0].name").out == "one\n"
    assert compare(amlflow, "one", "--markdown", "-q").code == 2
    (amlflow.cwd / "amlflow.yaml").write_text("defaults: {compare: {output: json}}\n")
    assert compare(amlflow, "one", "--markdown").out.startswith("|")


def test_a_metric_of_the_runs_beyond_the_first_so_many_is_one_of_theirs(amlflow: Any, make: Maker) -> None:
    make("one", rmse=0.5)
    make("two", rmse=0.7, stretch=1.0)
    for chosen in (["one", "two"], ["-e", "wine"]):
        first = (*chosen, "--sort", "rmse", "--top", "1", "--query", "runs[].name")
        for option in ("--lower", "--higher", "--history"):
            assert compare(amlflow, *first, option, "stretch").out == "one\n", option
            assert compare(amlflow, *first, option, "strech").code == 3
        assert compare(amlflow, *first, "--filter", "metrics.rmse < 0.6", "--lower", "stretch").code != 0


def test_a_query_wins_over_the_identifier_alone(amlflow: Any, make: Maker) -> None:
    run_id = make("one", rmse=0.5)
    assert compare(amlflow, "one", "-q").out == f"{run_id}\n"
    assert compare(amlflow, "one", "-q", "--query", "runs[0].name").out == "one\n"


def test_junit_has_what_the_gates_found(amlflow: Any, make: Maker) -> None:
    make("good", rmse=0.4)
    make("bad", rmse=0.6)
    make("bare", auc=1.0)
    result = compare(
        amlflow, "good", "bad", "bare", "--fail-if", "rmse > 0.5", "--fail-if", "rmse < 0", "--junit", "out.xml"
    )
    assert result.code == 6
    (suite,) = ET.parse(amlflow.cwd / "out.xml").getroot()
    outcomes = {(case.get("classname"), case.get("name")): [child.tag for child in case] for case in suite}
    assert outcomes == {
        ("good", "not rmse > 0.5"): [],
        ("good", "not rmse < 0"): [],
        ("bad", "not rmse > 0.5"): ["failure"],
        ("bad", "not rmse < 0"): [],
        ("bare", "not rmse > 0.5"): ["error"],
        ("bare", "not rmse < 0"): ["error"],
    }


def test_markdown_reaches_the_summary_of_the_ci_service(amlflow: Any, make: Maker, tmp_path: Path) -> None:
    make("champion", rmse=0.5)
    make("bad|name", rmse=0.6)
    arguments = ["bad|name", "--baseline", "champion", "--fail-if", "rmse > baseline", "--plot", "rmse", "--markdown"]
    plain = compare(amlflow, *arguments)
    assert plain.code == 6
    assert "champion (baseline)" in plain.out
    assert "### 1 of 1 gate checks failed" in plain.out
    assert "| ✗ | bad\\|name | ` rmse > baseline ` | ` rmse = 0.6, baseline.rmse = 0.5 ` |" in plain.out
    assert "```text\nrmse\n" in plain.out
    summary = tmp_path / "summary.md"
    summary.write_text("earlier\n")
    github = compare(amlflow, *arguments, GITHUB_ACTIONS="true", GITHUB_STEP_SUMMARY=str(summary))
    assert github.out == plain.out
    assert summary.read_text() == f"earlier\n{plain.out}\n"
    azure = compare(amlflow, *arguments, TF_BUILD="True", AGENT_TEMPDIRECTORY=str(tmp_path))
    (file,) = re.findall(r"^##vso\[task\.uploadsummary\](.+)$", azure.err, re.MULTILINE)
    assert Path(file).parent == tmp_path
    assert Path(file).read_text() == plain.out


def test_a_summary_that_cannot_be_written_hides_no_gate(amlflow: Any, make: Maker, tmp_path: Path) -> None:
    make("bad", rmse=0.6)
    nowhere = str(tmp_path / "no" / "summary.md")
    for env in (
        {"GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": nowhere},
        {"TF_BUILD": "True", "AGENT_TEMPDIRECTORY": nowhere},
    ):
        result = compare(amlflow, "bad", "--fail-if", "rmse > 0.5", "--markdown", **env)
        assert result.code == 6
        assert "could not be written" in result.err


def test_a_summary_is_cut_before_github_refuses_it(amlflow: Any, make: Maker, tmp_path: Path) -> None:
    make("one", **{f"m{at}": 1.0 for at in range(5)}, params={"long": "x" * 5_000})
    make("two", rmse=2.0, params={"long": "y" * 5_000})
    summary = tmp_path / "summary.md"
    summary.write_text("x" * 995_000)
    compare(amlflow, "one", "two", "--markdown", GITHUB_ACTIONS="true", GITHUB_STEP_SUMMARY=str(summary))
    assert summary.stat().st_size < 1_048_576
    assert "The rest is in the log" in summary.read_text()


def test_seeds_compare_means_with_a_test_named(amlflow: Any, make: Maker) -> None:
    for depth, values in ((1, [0.50, 0.51, 0.52]), (2, [0.40, 0.41, 0.45]), (3, [0.9])):
        for seed, value in enumerate(values):
            make(f"{depth}-{seed}", rmse=value, params={"depth": str(depth), "seed": str(seed)})
    arguments = ["-e", "wine", "--seeds", "seed", "--baseline", "1-0", "--sort", "rmse"]
    shown = compare(amlflow, *arguments, "-o", "table")
    assert shown.code == 0, shown.err
    assert "depth=1 (baseline)" in shown.out
    assert re.search(r"depth=2 +3 +0\.42 ± 0\.066 ★ p=0\.018", shown.out), shown.out
    for words in (
        "95% confidence interval (Student's t)",
        "Welch's t-test",
        "not adjusted",
        "1 of 3 groups have a single run",
    ):
        assert words in shown.err
    document = compare(amlflow, *arguments, "-o", "json").json["groups"]
    assert [group["name"] for group in document["groups"]] == ["depth=2", "depth=1", "depth=3"]
    from scipy import stats

    expected = stats.ttest_ind([0.40, 0.41, 0.45], [0.50, 0.51, 0.52], equal_var=False)
    assert document["groups"][0]["metrics"]["rmse"]["test"]["p"] == pytest.approx(expected.pvalue)
    assert document["test"].startswith("Welch")
    # A single run of the group is above 0.43; its mean is not.
    gate = ("--fail-if", "rmse > baseline and depth == 2")
    assert compare(amlflow, *arguments, *gate).code == 0
    assert compare(amlflow, "-e", "wine", "--filter", "params.depth = '2'", "--fail-if", "rmse > 0.43").code == 6
    means = ("-e", "wine", "--seeds", "seed", "--filter", "params.depth = '2'")
    assert compare(amlflow, *means, "--fail-if", "rmse > 0.43").code == 0
    failed = compare(amlflow, *means, "--fail-if", "rmse > 0.41")
    assert failed.code == 6
    assert "group 'all runs': rmse > 0.41 is true (rmse = 0.42)" in failed.err
    assert "p=0.018" in compare(amlflow, *arguments, "--markdown").out
    top = compare(amlflow, *arguments, "--top", "1", "-o", "json").json["groups"]["groups"]
    assert [(group["name"], len(group["run_ids"])) for group in top] == [("depth=1", 3), ("depth=2", 3)]


def test_charts_have_all_runs_and_no_colour_in_a_pipe(amlflow: Any, make: Maker) -> None:
    make("long", loss=[1 / (step + 1) for step in range(2_000)])
    make("short", loss=[0.5, math.nan, 0.25, math.inf])
    make("without", rmse=1.0)
    result = compare(amlflow, "long", "short", "without", "--plot", "loss", "--plot", "rmse", COLUMNS="90")
    assert result.code == 0, result.err
    assert "\x1b" not in result.out
    assert "a long: last 0.0005, 2000 values" in result.out
    assert "b short: last inf, 4 values, 2 of them not finite" in result.out
    assert "c without: no values" in result.out
    assert "c without: last 1, 1 values" in result.out
    chart = result.out[result.out.index("\nloss\n") :]
    assert max(map(len, chart.splitlines())) <= 90
    timed = compare(amlflow, "long", "short", "--plot", "loss", "--x", "time").out
    assert "since start)" in timed


def test_a_terminal_gets_colours_unless_they_are_unwanted(amlflow: Any, make: Maker) -> None:
    import pexpect

    make("one", loss=[3.0, 2.0, 1.0])
    arguments = ["-w", "local:./a", "compare", "one", "--plot", "loss"]
    for env, coloured in (({}, True), ({"NO_COLOR": "1"}, False)):
        child = pexpect.spawn(
            amlflow.command[0],
            arguments,
            env={**amlflow.env, "TERM": "xterm-256color", **env},
            cwd=str(amlflow.cwd),
            encoding="utf-8",
            dimensions=(50, 110),
            timeout=120,
        )
        seen = child.read()
        assert "one: last 1, 3 values" in seen
        chart = seen[seen.index("\nloss") :]
        assert (re.search(r"\x1b\[[0-9;]*9[0-9]m", chart) is not None) is coloured
        plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", chart)
        assert max(len(line.rstrip("\r")) for line in plain.split("\n")) <= 110
