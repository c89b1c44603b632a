"""The pages of `amlflow monitor … --html`, in a browser."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import typer
from browsers import Browser
from test_monitor import table

from amlflow.cli import errors
from amlflow.cli.app import app

DRAWN = """
return [...document.querySelectorAll('section.card')].map((card) => [card.querySelector('h2').textContent,
  ...['.way', '.dot', '.band', '.span'].map((kind) => [...card.querySelectorAll(kind)].filter((one) => {
    const box = one.getBBox(), whole = card.querySelector('svg').viewBox.baseVal
    return box.height <= whole.height && box.y >= -5 && box.y <= whole.height
  }).length)])
"""


def drawn(browser: Browser, file: Path) -> dict[str, list[Any]]:
    """Of each card how many lines, dots, bands and spans the browser places within the picture."""
    browser.show(file)
    assert not browser.complaints()
    return {name: counts for name, *counts in browser.js(DRAWN)}


def test_a_window_of_a_single_row_leaves_the_others_drawn(
    work: Path, browser: Browser, capsys: pytest.CaptureFixture[str]
) -> None:
    days = [1] * 30 + [2] * 30 + [3] + [4] * 30
    made = [{"id": i, "at": f"2024-01-0{day}", "guess": i + 0.5 + i % 3, "true": i} for i, day in enumerate(days)]
    table(work / "answers.csv", made, "id", "at", "guess")
    table(work / "truth.csv", made, "id", "true")
    command = ("monitor", "performance", "--data", "answers.csv", "--truth", "truth.csv", "--join", "id", "--no-log")
    timed = ("--task", "regression", "--time", "at", "--every", "1d", "--html", "page.html")
    assert errors.run(typer.main.get_command(app), [*command, *timed]) == 0, capsys.readouterr().err
    assert "inf" in capsys.readouterr().out, "a single row has no interval"
    found = drawn(browser, work / "page.html")
    assert found["mae"] == [1, 4, 1, 1], "the band parts at the window that has no interval"


def test_an_infinite_distance_leaves_those_of_the_other_windows_drawn(
    work: Path, browser: Browser, capsys: pytest.CaptureFixture[str]
) -> None:
    table(work / "before.csv", [{"load": 0.0, "at": ""}] * 30)
    values = [0.0005] * 30 + [1.7e308] * 30 + [0.001] * 30
    table(work / "after.csv", [{"load": value, "at": f"2024-01-0{1 + i // 30}"} for i, value in enumerate(values)])
    command = (
        "monitor",
        "drift",
        "--data",
        "after.csv",
        "--baseline",
        "before.csv",
        "--no-log",
        "--kind",
        "load=numeric",
    )
    timed = ("--time", "at", "--every", "1d", "--html", "page.html", "--column", "load")
    assert errors.run(typer.main.get_command(app), [*command, *timed]) == 0, capsys.readouterr().err
    assert "inf" in capsys.readouterr().out
    found = drawn(browser, work / "page.html")
    assert found["load numeric (2024-01-03 to 2024-01-04)"] == [1, 3, 0, 0]
    heights = browser.js("return [...document.querySelectorAll('.dot')].map((dot) => dot.getAttribute('cy'))")
    assert float(heights[1]) < float(heights[2]) < float(heights[0])
