"""What `amlflow compare --html` shows of gates and of groups of runs, in a browser."""

from __future__ import annotations

from typing import Any

import pytest
from browsers import Browser
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
