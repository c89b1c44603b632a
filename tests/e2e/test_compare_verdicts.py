"""What `amlflow compare --html` shows of gates and of groups of runs, in a browser."""

from __future__ import annotations

from typing import Any

import pytest
from browsers import Browser, data_of
from compared import Maker, compare

HOSTILE = "<img src=x onerror=alert(1)>"


def table(browser: Browser, selector: str) -> list[list[str]]:
    script = (
        "return [...document.querySelectorAll(`${arguments[0]} tbody tr`)]"
        ".map((row) => [...row.cells].map((cell) => cell.textContent))"
    )
    return browser.js(script, selector)


def nine_runs(make: Maker) -> None:
    for solver, base in (("adam", 0.5), ("sgd", 0.8), (HOSTILE, 0.2)):
        for seed in range(3):
            make(
                f"{solver[:4]}-{seed}",
                rmse=base + seed / 100,
                auc=1 - base,
                params={"solver": solver, "seed": str(seed)},
            )


def test_groups_and_gates_stand_on_the_page(amlflow: Any, make: Maker, browser: Browser) -> None:
    nine_runs(make)
    page = amlflow.cwd / "page.html"
    asked = ("-e", "wine", "--seeds", "seed", "--baseline", "adam-0", "--sort", "rmse", "--html", str(page))
    found = compare(amlflow, *asked, "--fail-if", "rmse > baseline", "--fail-if", "auc < 0.1")
    assert found.code == 6
    browser.open(page)
    assert browser.complaints() == []
    assert browser.texts("#gate-summary") == ["1 of 4 gate checks failed."]
    rows = table(browser, "#gate-table")
    assert rows[0] == ["✗ failed", "solver=sgd", "rmse > baseline is true (rmse = 0.81, baseline.rmse = 0.51)"]
    assert [row[0] for row in rows[1:]] == ["✓ passed"] * 3
    cells = table(browser, "#group-table")
    # Student's t for two degrees of freedom, 4.30265, times 0.01 / sqrt(3).
    assert cells == [
        [f"solver={HOSTILE}", "3", "0.21 ★", "0.0248414", "< 0.001"],
        ["solver=adambaseline", "3", "0.51", "0.0248414", "–"],
        ["solver=sgd", "3", "0.81", "0.0248414", "< 0.001"],
    ]
    dots, means = browser.js("return document.getElementById('group-chart').data.map((one) => one.x)")
    assert sorted(dots) == pytest.approx([0.2, 0.21, 0.22, 0.5, 0.51, 0.52, 0.8, 0.81, 0.82])
    assert means == pytest.approx([0.21, 0.51, 0.81])
    assert "Welch's t-test" in browser.texts("#group-note")[0]
    assert browser.js("return document.querySelectorAll('#groups-part img, #gates-part img').length") == 0
    browser.js(
        "const choice = document.getElementById('metric');"
        "choice.value = [...choice.options].find((one) => one.textContent === 'auc').value;"
        "choice.dispatchEvent(new Event('change'))"
    )
    assert browser.texts("#groups-part h2") == ["Groups by auc"]
    assert browser.js("return document.getElementById('group-chart').data[1].x") == pytest.approx([0.8, 0.5, 0.2])
    assert "Gates" in browser.texts("nav a")


def test_a_page_without_gates_and_groups_names_neither(amlflow: Any, make: Maker, browser: Browser) -> None:
    make("one", rmse=1.0)
    page = amlflow.cwd / "page.html"
    assert compare(amlflow, "-e", "wine", "--html", str(page)).code == 0
    browser.open(page)
    assert not {"Gates", "Groups by rmse"} & set(browser.texts("nav a"))
    assert browser.js("return [...document.querySelectorAll('#gates-part, #groups-part')].every((one) => one.hidden)")


def test_gates_name_each_run_and_groups_each_that_lacks_the_metric(amlflow: Any, make: Maker, browser: Browser) -> None:
    page = amlflow.cwd / "page.html"
    one, two = make("train", auc=0.8 - 1e-9), make("train", auc=0.9)
    base = make("base", auc=0.8)
    amlflow.ok("-w", "local:./a", "run", "delete", two)
    found = compare(amlflow, one, two, "--baseline", base, "--fail-if", "auc < baseline", "--html", str(page))
    assert found.code == 6
    browser.open(page)
    assert table(browser, "#gate-table") == [
        ["✗ failed", f"train ({one[:8]})", "auc < baseline is true (auc = 0.7999999990000001, baseline.auc = 0.8)"],
        ["✓ passed", f"train ({two[:8]})deleted", "auc < baseline is false (auc = 0.9, baseline.auc = 0.8)"],
    ]
    assert browser.texts("#run-table .badge") == ["baseline", "deleted"]
    for solver, values in (("adam", [0.9, 0.8, None]), ("sgd", [0.9, 0.9, 0.9]), ("lost", [None])):
        for seed, value in enumerate(values):
            metrics = {"loss": 0.5} if value is None else {"loss": 0.5, "acc": value}
            make(f"{solver}-{seed}", experiment="g", params={"solver": solver, "seed": str(seed)}, **metrics)
    asked = ("-e", "g", "--seeds", "seed", "--baseline", "sgd-0", "--html", str(page), "--fail-if", "acc < 0.8")
    assert compare(amlflow, *asked).code == 6
    browser.open(page)
    assert browser.texts("#gate-table th") == ["gate", "group", "found"]
    assert [row[2].partition(": ")[2] for row in table(browser, "#gate-table")] == [
        "it has no metric or param 'acc'",
        "1 of 3 runs lacks the metric 'acc'",
    ]
    rows = {row[0]: row[1:3] for row in table(browser, "#group-table")}
    assert rows == {
        "solver=lost": ["0 of 1", "–"],
        "solver=adam": ["2 of 3", "0.85"],
        "solver=sgdbaseline": ["3", "0.9 ★"],
    }
    browser.js(
        "const field = document.getElementById('filter');"
        "field.value = 'solver = adam';"
        "field.dispatchEvent(new Event('input'))"
    )
    assert browser.texts("#group-note")[0].endswith("Groups are of all runs, whatever the filter keeps.")


def test_numbers_beyond_what_is_drawn_leave_gaps(amlflow: Any, make: Maker, browser: Browser) -> None:
    make("one", loss=[1.7e308, 4.0, -1.7e308, 2.0, 3.0], params={"solver": "adam", "seed": "1"})
    make("two", loss=[1.0, 2.0, 1.7e308], params={"solver": "sgd", "seed": "1"})
    page = amlflow.cwd / "page.html"
    assert compare(amlflow, "-e", "wine", "--seeds", "seed", "--html", str(page)).code == 0
    browser.open(page)
    assert browser.complaints() == []
    drawn = browser.js("return document.getElementById('history-chart').data.map((line) => line.y)")
    assert sorted(drawn, key=str) == [[1.0, 2.0, None], [None, 4.0, None, 2.0, 3.0]]
    assert "3 values are NaN or infinite, or beyond 1e300: a gap." in browser.texts("#history-note")[0]
    assert browser.js("return document.getElementById('group-chart').data[1].x") == [3.0]


def test_params_of_any_length_leave_the_page_its_size(amlflow: Any, make: Maker) -> None:
    for number in range(30):
        long = {f"p{key}": f"{number} {'x' * 5_900}" for key in range(4)}
        make(f"run-{number}", auc=0.5, params={**long, "seed": "1"})
    gates = [option for key in range(4) for option in ("--fail-if", f"p{key} == 'y' and auc < 0.1")]
    page = amlflow.cwd / "page.html"
    assert compare(amlflow, "-e", "wine", "--seeds", "seed", *gates, "--html", str(page)).code == 0
    data = data_of(page)
    assert max(len(name) for name in data["groups"]["names"]) == 200
    assert max(len(sentence) for _, _, sentence in data["gates"]["rows"]) == 1_000
