"""A metric's history of several runs as a chart of braille dots."""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from amlflow.workspaces.base import MetricPoint, Run

By = Literal["step", "time"]
Point = tuple[float, float]

MOST_LINES = 10
LEAST_WIDTH = 40
HEIGHT = 15
# What plotille takes for the labels of the y axis, and for the name of the x axis behind its arrow.
_MARGIN = 14
_COLOURS = (
    "bright_blue",
    "bright_red",
    "green",
    "magenta",
    "cyan",
    "yellow",
    "bright_magenta",
    "red",
    "blue",
    "bright_green",
)
_LETTERS = "abcdefghij"
_LETTERS_IN_LINE = 6
# plotille cuts longer labels off, and with them digits of their exponents.
_LABEL = 10


@dataclass(frozen=True, slots=True)
class Line:
    """One run's values by what the x axis shows, in its order."""

    label: str
    points: Sequence[Point]


def lines(
    runs: Sequence[Run],
    labels: Sequence[str],
    histories: Mapping[str, Mapping[str, Sequence[MetricPoint]]],
    metric: str,
    by: By,
) -> tuple[list[Line], str]:
    """The lines of a chart, and what its x axis is: the step; the seconds, minutes or hours since each run's start; or the
    number of the value, where the program gave no steps."""
    found = [(run, label, histories.get(run.id, {}).get(metric, ())) for run, label in zip(runs, labels, strict=True)]
    if by == "time":
        timed = [Line(label, _by_time(run, points)) for run, label, points in found]
        longest = max((x for line in timed for x, _ in line.points), default=0.0)
        unit, seconds = next(
            (pair for pair in (("hours", 3600), ("minutes", 60)) if longest > 3 * pair[1]), ("seconds", 1)
        )
        return [Line(line.label, [(x / seconds, y) for x, y in line.points]) for line in timed], f"{unit} since start"
    if all(len({point.step for point in points}) < 2 for _, _, points in found) and any(
        len(p) > 1 for _, _, p in found
    ):
        return [
            Line(label, [(n, point.value) for n, point in enumerate(points, 1)]) for _, label, points in found
        ], "value no."
    return [Line(label, [(point.step, point.value) for point in points]) for _, label, points in found], "step"


def chart(title: str, shown: Sequence[Line], x_name: str, width: int, coloured: bool) -> str:
    """The chart in so many columns, with its legend. Every line has a letter, so that they can be told apart without colours.
    Values that are not finite leave a gap."""
    import plotille

    figure = plotille.Figure()
    figure.width = max(width, LEAST_WIDTH) - _MARGIN - len(x_name) - 5
    figure.height = HEIGHT
    figure.color_mode, figure.with_colors, figure.origin = "names", coloured, False
    figure.x_label, figure.y_label = x_name, "value"
    points = [point for line in shown for point in line.points if math.isfinite(point[1])]
    legend = [_legend(index, line, coloured) for index, line in enumerate(shown)]
    if not points:
        return "\n".join([title, *legend])
    steps = all(float(x).is_integer() for x, _ in points) and max(points)[0] - min(points)[0] > figure.width / 10
    across, up = _axis([x for x, _ in points]), _axis([y for _, y in points])
    figure.x_ticks_fkt = lambda low, _high: _label(across.value(low), steps)
    figure.y_ticks_fkt = lambda low, _high: _label(up.value(low), False)
    # What lies on the upper limit is cut off, so that is one dot further.
    figure.set_x_limits(0, 1 + 1 / (2 * figure.width))
    figure.set_y_limits(0, 1 + 1 / (4 * figure.height))
    for index, line in enumerate(shown):
        _draw(figure, line, (across, up), index, len(shown))
    drawn = str(figure.show()).replace("\r\n", "\n")
    return "\n".join([title, *(row.rstrip() for row in drawn.split("\n")), *legend])


def reduced(points: Sequence[Point], columns: int) -> list[Point]:
    """The first, lowest, highest and last of the points in each of so many columns of equal width: a line through them covers
    the same dots as one through all of them (Jugel et al., M4: A Visualization-Oriented Time Series Data Aggregation, 2014)."""
    if len(points) <= 4 * columns:
        return list(points)
    low, high = min(x for x, _ in points), max(x for x, _ in points)
    scale = columns / (high - low) if high > low else 0.0
    kept: list[Point] = []
    for _, part in itertools.groupby(points, key=lambda point: min(columns - 1, int((point[0] - low) * scale))):
        inside = list(part)
        chosen = {0, len(inside) - 1}
        chosen |= {choose(range(len(inside)), key=lambda at: inside[at][1]) for choose in (min, max)}
        kept += [inside[at] for at in sorted(chosen)]
    return kept


@dataclass(frozen=True, slots=True)
class _Axis:
    """The values between two as places between 0 and 1: differences of the values themselves may be more than a float holds, or
    less than it tells apart."""

    low: float
    high: float

    def place(self, value: float) -> float:
        span = self.high - self.low
        if math.isinf(span):
            return (value / 2 - self.low / 2) / (self.high / 2 - self.low / 2)
        return (value - self.low) / span

    def value(self, place: float) -> float:
        return _held(self.low * (1 - place) + self.high * place)


def _axis(values: Sequence[float]) -> _Axis:
    low, high = min(values), max(values)
    if low == high:
        return _Axis(_held(low - (abs(low) * 0.1 or 0.5)), _held(high + (abs(high) * 0.1 or 0.5)))
    return _Axis(low, high)


def _held(value: float) -> float:
    """The nearest that is finite."""
    return max(-sys.float_info.max, min(value, sys.float_info.max))


def _label(value: float, whole: bool) -> str:
    if whole and abs(value) < 1e9:
        return f"{value:.0f}"
    text = f"{value:.4g}"
    return text if len(text) <= _LABEL else f"{value:.3g}"


def _draw(figure: Any, line: Line, axes: tuple[_Axis, _Axis], index: int, of: int) -> None:
    colour, finite = _COLOURS[index], list[Point]()
    for part in _unbroken(line.points):
        few = reduced(part, 2 * figure.width)
        # plotille draws from point to point: a lone one is drawn to itself.
        few = few if len(few) > 1 else few * 2
        figure.plot(*_places(few, axes), lc=colour)
        finite += part
    if finite:
        # Each line has its letters elsewhere, so that those of equal lines are not all on one place.
        spread = {int(len(finite) * (at + (index + 0.5) / of) / _LETTERS_IN_LINE) for at in range(_LETTERS_IN_LINE)}
        marked = [finite[at] for at in sorted(spread)]
        figure.text(*_places(marked, axes), [_LETTERS[index]] * len(marked), lc=colour)


def _places(points: Sequence[Point], axes: tuple[_Axis, _Axis]) -> tuple[list[float], list[float]]:
    return [axes[0].place(x) for x, _ in points], [axes[1].place(y) for _, y in points]


def _unbroken(points: Iterable[Point]) -> list[list[Point]]:
    return [list(part) for finite, part in itertools.groupby(points, key=lambda p: math.isfinite(p[1])) if finite]


def _by_time(run: Run, points: Sequence[MetricPoint]) -> list[Point]:
    ordered = sorted(points, key=lambda point: point.timestamp_ms)
    start = min([ordered[0].timestamp_ms, *([run.start_time_ms] if run.start_time_ms else [])]) if ordered else 0
    return [((point.timestamp_ms - start) / 1000, point.value) for point in ordered]


def _legend(index: int, line: Line, coloured: bool) -> str:
    import plotille

    finite = [y for _, y in line.points if math.isfinite(y)]
    lost = len(line.points) - len(finite)
    said = f"last {line.points[-1][1]:.6g}, {len(line.points)} values" if line.points else "no values"
    said += f", {lost} of them not finite" if lost else ""
    label = "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in line.label)
    letter = plotille.color(_LETTERS[index], fg=_COLOURS[index], no_color=not coloured)
    return f"  {letter} {label}: {said}"
