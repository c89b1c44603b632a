from __future__ import annotations

import io
import math
import random

from rich.console import Console

from amlflow.cli.output import Column, aligned, duration, number, size, table, to_json
from amlflow.reports.grid import Grid, escaped, markdown
from amlflow.reports.sparkline import sparkline


def test_a_sparkline_runs_from_the_lowest_to_the_highest() -> None:
    assert sparkline([0, 1, 2, 3, 4, 5, 6, 7]) == "▁▂▃▄▅▆▇█"
    assert sparkline([5, 5, 5]) == "▄▄▄"
    assert sparkline([1, 2]) == ""
    assert sparkline([math.nan] * 5) == ""
    assert sparkline([0, math.nan, 7]) == "▁ █"


def test_a_spike_in_a_long_history_is_never_smoothed_away() -> None:
    values = [0.0] * 10_000
    values[5_003] = 100.0
    line = sparkline(values)
    assert len(line) == 12
    assert line.count("█") == 1


def test_a_sparkline_of_the_largest_numbers_has_their_shape() -> None:
    assert sparkline([-1.7e308, 1.7e308, 0, 5]) == sparkline([-1.7, 1.7, 0, 0]) == "▁█▅▅"
    spike = [1.7e308] * 100 + [-1.7e308] + [1.7e308] * 100
    assert sparkline(spike).count("▁") == 1


def test_a_cell_never_breaks_out_of_a_markdown_table() -> None:
    shown = markdown(Grid(["", "a|b"], [["x\ny", "<script>"]], frozenset({1})))
    assert shown == "|   | a\\|b |\n| --- | ---: |\n| x y | &lt;script> |\n"


def test_a_cell_of_markdown_is_read_as_it_was_written() -> None:
    assert escaped("learning_rate") == "learning_rate"
    assert escaped("![x](http://a/b) `c` *d* _e_ ~f~") == r"!\[x\](http://a/b) \`c\` \*d\* \_e\_ \~f\~"
    assert escaped("a & b &lt; <c>") == "a &amp; b &amp;lt; &lt;c>"


def test_headings_are_no_markup_and_command_no_terminal() -> None:
    drawn = io.StringIO()
    Console(file=drawn, width=100).print(table([["1"]], [Column("a[bold]b\x1b[2J", "")]))
    assert drawn.getvalue().splitlines()[0].rstrip() == "a[bold]b [2J"


def test_a_long_table_is_the_same_without_rich() -> None:
    chance = random.Random(3)
    names = ["plain", "größer", "測定", "e\u0301", "★", "", "a b"]
    rows = [
        [f"{chance.choice(names)} {at}", f"{chance.random():.6g} {chance.choice(names)}".strip()] for at in range(300)
    ]
    columns = [Column("NAME", ""), Column("rmse ↓", "", right=True)]
    drawn = io.StringIO()
    Console(file=drawn, width=10_000).print(table(rows, columns))
    assert aligned(rows, columns, 10_000) == [line.rstrip() for line in drawn.getvalue().splitlines()]
    assert aligned(rows, columns, 20) is None
    assert aligned([["a\x1b[2Jb\n", "c"]], columns, 100) == ["NAME     rmse ↓", "a [2Jb        c"]


def test_numbers_times_and_sizes_read_well() -> None:
    assert [number(value) for value in (1.0, 0.1234567, 1e-9, 123456789.0, math.nan, math.inf)] == [
        "1",
        "0.123457",
        "1e-09",
        "123456789",
        "nan",
        "inf",
    ]
    assert [duration(0, ms) for ms in (1500, 61_000, 3_660_000)] == ["1.5s", "1m01s", "1h01m"]
    assert [size(count) for count in (5, 1500, 2_500_000)] == ["5 B", "1.5 kB", "2.5 MB"]
    assert to_json({"a": math.nan, "b": [math.inf]}) == '{"a": "NaN", "b": ["Infinity"]}'
