from __future__ import annotations

import math
import random
import re
import sys

import pytest

from amlflow.reports.chart import Line, chart, lines, reduced
from amlflow.workspaces.base import MetricPoint, Run

LARGEST = sys.float_info.max
ESCAPES = re.compile(r"\x1b\[[0-9;]*m")


def run(name: str, start_ms: int = 0) -> Run:
    return Run(name, name, "1", "e", "FINISHED", start_ms, None, "active", "")


def points(values: list[float], every_ms: int = 1000, step: int = 1) -> list[MetricPoint]:
    return [MetricPoint(value, at * step, at * every_ms) for at, value in enumerate(values)]


def test_every_run_has_a_line_and_a_place_in_the_legend() -> None:
    shown = [Line("one", [(x, 1 / (x + 1)) for x in range(50)]), Line("two", [(x, 0.5) for x in range(20)])]
    drawn = chart("loss", shown, "step", 100, False)
    rows = drawn.split("\n")
    assert rows[0] == "loss"
    assert rows[-2:] == ["  a one: last 0.02, 50 values", "  b two: last 0.5, 20 values"]
    assert max(map(len, rows)) <= 100
    assert "(step)" in drawn
    body = "\n".join(rows[1:-2])
    assert "a" in body.replace("value", "")
    assert "b" in body
    assert "\x1b" not in drawn


def test_colours_change_nothing_but_the_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    # plotille has colours for terminals only.
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("FORCE_COLOR", "1")
    shown = [
        Line("one", [(x, math.sin(x / 5)) for x in range(50)]),
        Line("two", [(x, math.cos(x / 5)) for x in range(50)]),
    ]
    plain, coloured = (chart("m", shown, "step", 80, with_them) for with_them in (False, True))
    assert "\x1b[" in coloured
    strip = [row.rstrip() for row in ESCAPES.sub("", coloured).split("\n")]
    assert strip == plain.split("\n")


def test_a_chart_is_as_wide_as_it_is_asked_to_be() -> None:
    shown = [Line("one", [(x, x) for x in range(50)])]
    for width in (60, 80, 133, 200):
        rows = chart("m", shown, "seconds since start", width, False).split("\n")
        assert width - 15 <= max(map(len, rows)) <= width


def test_gaps_lone_values_and_nothing_at_all_are_drawn() -> None:
    broken = [(0, 1.0), (1, math.nan), (2, 3.0), (3, math.inf), (4, -math.inf), (5, 2.0)]
    drawn = chart("m", [Line("gaps", broken), Line("lone", [(2, 2.0)]), Line("none", [])], "step", 80, False)
    assert "a gaps: last 2, 6 values, 3 of them not finite" in drawn
    assert "b lone: last 2, 1 values" in drawn
    assert "c none: no values" in drawn
    assert chart("m", [Line("nan", [(0, math.nan)])], "step", 80, False).startswith("m\n  a nan: last nan")
    flat = chart("m", [Line("flat", [(x, 0.0) for x in range(5)])], "step", 80, False)
    assert any("⠒" in row or "⠤" in row or "⣀" in row or "⠉" in row for row in flat.split("\n"))


@pytest.mark.parametrize(
    "values",
    [
        [-1.7e308, 1.7e308, 0.0, 5.0],
        [LARGEST, LARGEST, -LARGEST],
        [LARGEST] * 3,
        [-LARGEST] * 3,
        [0.0, 5e-324, 1e-323],
        [0.3, 0.1 + 0.2, 0.3],
    ],
)
def test_values_of_any_size_are_drawn(values: list[float]) -> None:
    drawn = chart("m", [Line("one", list(enumerate(values)))], "step", 80, False)
    assert "inf" not in drawn
    rows = [row.split("|") for row in drawn.split("\n") if re.search("[\u2800-\u28ff]", row)]
    labels = [float(label) for label, _ in rows]
    assert labels == sorted(labels, reverse=True)
    dotted = [dots for _, dots in rows if re.search("[\u2801-\u28ff]", dots)]
    assert len(dotted) == 1 if len(set(values)) == 1 else len(dotted) > 10


def test_steps_that_a_float_cannot_tell_apart_are_drawn() -> None:
    far = 2**62
    assert "last 2, 2 values" in chart("m", [Line("one", [(far, 1.0), (far + 1, 2.0)])], "step", 80, False)


def test_a_name_cannot_command_the_terminal() -> None:
    drawn = chart("m", [Line("\x1b[2Jevil\nname", [(0, 1.0), (1, 2.0)])], "step", 80, False)
    assert "\x1b" not in drawn
    assert "evil" in drawn
    assert len(drawn.split("\n")[-1]) < 80


def test_reduction_keeps_the_extremes_and_the_ends() -> None:
    chance = random.Random(1)
    values = [(float(x), chance.random()) for x in range(100_000)]
    values[54_321] = (54_321.0, 99.0)
    values[12_345] = (12_345.0, -99.0)
    few = reduced(values, 160)
    assert len(few) <= 640
    assert {values[0], values[-1], values[54_321], values[12_345]} <= set(few)
    assert [x for x, _ in few] == sorted(x for x, _ in few)
    assert reduced(values[:10], 160) == values[:10]


def test_the_axis_is_steps_time_or_the_values_number() -> None:
    runs = [run("a"), run("b", start_ms=1000)]
    histories = {"a": {"m": points([1, 2, 3], every_ms=60_000, step=10)}, "b": {"m": points([5.0], step=10)}}
    by_step, name = lines(runs, ["a", "b"], histories, "m", "step")
    assert (by_step[0].points, name) == ([(0, 1), (10, 2), (20, 3)], "step")
    by_time, name = lines(runs, ["a", "b"], histories, "m", "time")
    assert (by_time[0].points, name) == ([(0, 1), (60, 2), (120, 3)], "seconds since start")
    hours = {"a": {"m": points([1, 2], every_ms=7_200_000 * 2)}}
    assert lines([run("a")], ["a"], hours, "m", "time")[1] == "hours since start"
    stepless = {"a": {"m": points([4, 5, 6], step=0)}}
    numbered, name = lines([run("a")], ["a"], stepless, "m", "step")
    assert (numbered[0].points, name) == ([(1, 4), (2, 5), (3, 6)], "value no.")
