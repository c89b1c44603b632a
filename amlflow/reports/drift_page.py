"""A drift report as one HTML file that needs no network: a table, both distributions of each column overlaid, and the way of a
column's distance over the windows. The pictures are SVG of a few lines each."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from html import escape

from amlflow.monitoring import metrics
from amlflow.monitoring.drift import ColumnReport, DriftReport, Picture
from amlflow.monitoring.readings import Reading
from amlflow.reports import drift
from amlflow.reports.grid import Grid

WIDTH, HEIGHT, _FOOT = 360, 130, 16
_STYLE = """
:root{color-scheme:light dark;--ink:#1c1e21;--paper:#fff;--line:#d5d9de;--base:#7d8b99;--now:#d9622b;--bad:#b3261e;--good:#2e7d32}
@media(prefers-color-scheme:dark){:root{--ink:#e6e8ea;--paper:#16181b;--line:#3a3f45;--base:#8e9cab;--now:#ff9259;--bad:#ff8a80;--good:#81c784}}
body{font:15px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper);margin:2rem auto;max-width:1180px;padding:0 1rem}
h1{font-size:1.4rem}h2{font-size:1rem;margin:0 0 .3rem}.wide{overflow-x:auto}
table{border-collapse:collapse;font-size:.85rem;width:100%}
th,td{padding:.25rem .6rem;border-bottom:1px solid var(--line);text-align:left}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}tr.bad td{color:var(--bad)}
.cards{display:grid;grid-template-columns:repeat(auto-fill,minmax(350px,1fr));gap:1rem;margin-top:1.5rem}
.card{border:1px solid var(--line);border-radius:6px;padding:.8rem}.card.bad{border-color:var(--bad)}
.card p{margin:.3rem 0;font-size:.82rem}svg{width:100%;height:auto}text{fill:var(--ink);font-size:10px}
.base{fill:var(--base);opacity:.45}.now{fill:none;stroke:var(--now);stroke-width:1.6}.nowbar{fill:var(--now);opacity:.75}
.way{fill:none;stroke:var(--now);stroke-width:1.6}.dot{fill:var(--now)}.limit{stroke:var(--bad);stroke-dasharray:4 3}
.axis{stroke:var(--line)}
.key span{display:inline-block;width:.8em;height:.8em;margin:0 .3em 0 .9em;vertical-align:-.05em}
"""


def page(report: DriftReport, number: Callable[[float], str]) -> str:
    """The whole document. Names and values of the data are escaped."""
    key = "<p class=key><span style='background:var(--base)'></span>baseline<span style='background:var(--now)'></span>data</p>\n"
    cards = "".join(_card(name, report, number) for name in _names(report))
    return document(
        f"Drift of {report.data}",
        drift.summary(report),
        table(drift.grid(report, number), drift.CROSSED),
        key + f"<div class=cards>\n{cards}</div>",
    )


def document(title: str, lines: Sequence[str], rows: str, rest: str, style: str = "") -> str:
    """An HTML document of a report: its `lines`, of which the first says what came out, its table and, as HTML, the `rest`."""
    notes = "".join(f"<li>{escape(line)}</li>" for line in lines[1:])
    return (
        "<!doctype html>\n<html lang=en><head><meta charset=utf-8>"
        "<meta name=viewport content='width=device-width,initial-scale=1'>"
        f"<title>{escape(title)}</title><style>{_STYLE}{style}</style></head><body>\n"
        f"<h1>{escape(title)}</h1><p>{escape(lines[0]) if lines else ''}</p>\n<ul>{notes}</ul>\n"
        f"<div class=wide>{rows}</div>\n{rest}\n</body></html>\n"
    )


def table(grid: Grid, marked: str) -> str:
    """The grid as HTML; a row with a cell that holds `marked` stands out."""
    head = "".join(f"<th{_right(i, grid.right)}>{escape(heading)}</th>" for i, heading in enumerate(grid.headings))
    body = "".join(
        f"<tr{' class=bad' if any(marked in cell for cell in row) else ''}>"
        + "".join(f"<td{_right(i, grid.right)}>{escape(cell)}</td>" for i, cell in enumerate(row))
        + "</tr>\n"
        for row in grid.rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>\n{body}</tbody></table>"


def _names(report: DriftReport) -> list[str]:
    """Columns that drifted first."""
    failing = report.failing
    every = dict.fromkeys(column.column for window in report.windows for column in window.columns)
    return [*failing, *(name for name in every if name not in failing)]


def _card(name: str, report: DriftReport, number: Callable[[float], str]) -> str:
    """The newest window's distribution, and the way of the distance over all windows."""
    found = [(window, column) for window in report.windows for column in window.columns if column.column == name]
    window, newest = found[-1]
    when = f" ({escape(window.window.label)})" if len(report.windows) > 1 else ""
    parts = [f"<h2>{escape(name)} <small>{newest.kind}{when}</small></h2>"]
    if newest.picture is not None:
        parts.append(_bars(newest.picture) if newest.picture.labels else _outline(newest.picture, number))
    main = [(column_window.window.label, reading) for column_window, column in found if (reading := _main(column))]
    if len(main) > 1:
        parts.append(_way(main, number))
    parts += [f"<p>{escape(note)}</p>" for note in newest.notes]
    bad = " bad" if any(column.fails for _, column in found) else ""
    return f"<section class='card{bad}'>{''.join(parts)}</section>\n"


def _main(column: ColumnReport) -> Reading | None:
    """The reading of the column with a threshold that counts, else its first."""
    distances = [reading for reading in column.readings if reading.metric not in metrics.OF_QUALITY]
    return next((r for r in distances if r.threshold and r.threshold.enforced), distances[0] if distances else None)


def _outline(picture: Picture, number: Callable[[float], str]) -> str:
    """Bars for the baseline and a stepped line for the data, over one axis."""
    most = max(*picture.baseline, *picture.sample) or 1.0
    count = len(picture.baseline)
    step = WIDTH / count
    bars = "".join(
        _bar(i * step, _y(share, most), max(0.5, step - 1), HEIGHT - _y(share, most), "base")
        for i, share in enumerate(picture.baseline)
    )
    corners = [(x, _y(share, most)) for i, share in enumerate(picture.sample) for x in (i * step, (i + 1) * step)]
    line = polyline([(0.0, float(HEIGHT)), *corners, (float(WIDTH), float(HEIGHT))], "now")
    ends = text(0, "start", number(float(f"{picture.edges[0]:.4g}"))) + text(
        WIDTH, "end", number(float(f"{picture.edges[-1]:.4g}"))
    )
    return svg(bars + line + ends, "Distribution of the baseline (bars) and of the data (line)")


def _bars(picture: Picture) -> str:
    """Two bars a category, side by side, with the category's name below where there is room."""
    most = max(*picture.baseline, *picture.sample) or 1.0
    step = WIDTH / len(picture.labels)
    drawn = []
    for i, (base, now) in enumerate(zip(picture.baseline, picture.sample, strict=True)):
        for side, (share, name) in enumerate(((base, "base"), (now, "nowbar"))):
            x = i * step + side * (step - 4) / 2 + 2
            drawn.append(_bar(x, _y(share, most), (step - 4) / 2, HEIGHT - _y(share, most), name))
        room = max(1, int(step / 6))
        label = picture.labels[i]
        shown = label if len(label) <= room else label[: room - 1] + "…"
        drawn.append(
            f"<text x='{i * step + step / 2:.1f}' y='{HEIGHT + 12}' text-anchor='middle'>{escape(shown)}"
            f"<title>{escape(label)}</title></text>"
        )
    return svg("".join(drawn), "Shares of the categories in the baseline and in the data")


def _way(readings: Sequence[tuple[str, Reading]], number: Callable[[float], str]) -> str:
    """The metric's value in each window, and its threshold; what is infinite stands at the upper edge."""
    values = [reading.value if reading.adjusted is None else reading.adjusted for _, reading in readings]
    limit = readings[-1][1].threshold
    most = max([*(value for value in values if math.isfinite(value)), limit.value if limit else 0.0]) or 1.0
    step = WIDTH / max(1, len(values) - 1)
    points = [(i * step, _y(value, most) if math.isfinite(value) else 0.0) for i, value in enumerate(values)]
    dots = "".join(
        f"<circle class='dot' cx='{x:.1f}' cy='{y:.1f}' r='2.5'><title>{escape(label)}: {number(value)}</title></circle>"
        for (x, y), (label, _), value in zip(points, readings, values, strict=True)
    )
    line = ""
    if limit is not None:
        y = _y(limit.value, most)
        line = f"<line class='limit' x1='0' x2='{WIDTH}' y1='{y:.1f}' y2='{y:.1f}'/>"
    first, last = (readings[i][0].partition(" to ")[0] for i in (0, -1))
    ends = text(0, "start", first) + text(WIDTH, "end", last)
    return f"<p>{escape(readings[-1][1].metric)} over time</p>" + svg(
        line + polyline(points, "way") + dots + ends, "The metric over the windows"
    )


def svg(content: str, label: str) -> str:
    axis = f"<line class='axis' x1='0' x2='{WIDTH}' y1='{HEIGHT}' y2='{HEIGHT}'/>"
    return f"<svg viewBox='-4 0 {WIDTH + 8} {HEIGHT + _FOOT}' role='img' aria-label='{escape(label)}'>{axis}{content}</svg>"


def _bar(x: float, y: float, width: float, height: float, name: str) -> str:
    return f"<rect class='{name}' x='{x:.1f}' y='{y:.1f}' width='{width:.1f}' height='{max(0.0, height):.1f}'/>"


def polyline(points: Sequence[tuple[float, float]], name: str) -> str:
    return f"<polyline class='{name}' points='{' '.join(f'{x:.1f},{y:.1f}' for x, y in points)}'/>"


def text(x: float, anchor: str, text: str) -> str:
    return f"<text x='{x}' y='{HEIGHT + 12}' text-anchor='{anchor}'>{escape(text)}</text>"


def _y(share: float, most: float) -> float:
    return HEIGHT - share / most * (HEIGHT - 8)


def _right(index: int, right: frozenset[int]) -> str:
    return " class=n" if index in right else ""
