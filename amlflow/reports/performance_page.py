"""A performance report as one HTML file that needs no network: a table, and the way of each metric over the windows with its 95 %
interval beside the value of the training run."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from html import escape

from amlflow.monitoring.estimates import Estimate
from amlflow.monitoring.performance import PerformanceReport
from amlflow.reports import drift_page, performance
from amlflow.reports.drift import CROSSED
from amlflow.reports.drift_page import HEIGHT, WIDTH, polyline, svg, text
from amlflow.reports.performance import short

_STYLE = ".band{fill:var(--now);opacity:.2}.span{stroke:var(--now);opacity:.5;stroke-width:3}"
# What of the height stays free above and below what is drawn.
_MARGIN = 0.08


def page(report: PerformanceReport, number: Callable[[float], str]) -> str:
    """The whole document. Names and values of the data are escaped."""
    lines = performance.summary(report)
    metrics = list(dict.fromkeys(item.metric for window in report.windows for item in window.estimates))
    cards = "".join(_card(metric, report, number) for metric in sorted(metrics, key=lambda m: m not in report.worse))
    key = (
        "<p class=key><span style='background:var(--now)'></span>value, with its 95 % interval"
        "<span style='background:var(--bad)'></span>in training</p>\n"
    )
    title = f"Performance on {report.data}"
    table = drift_page.table(performance.grid(report, number), CROSSED)
    return drift_page.document(title, lines, table, key + f"<div class=cards>\n{cards}</div>", _STYLE)


def _card(metric: str, report: PerformanceReport, number: Callable[[float], str]) -> str:
    found = [
        (window.window.label, item) for window in report.windows for item in window.estimates if item.metric == metric
    ]
    before = report.before.get(metric)
    drawn = [(label, item) for label, item in found if math.isfinite(item.value)]
    known = f"<p>In training: {short(before.value, number)} ({escape(before.key)})</p>" if before else ""
    if not drawn:
        return f"<section class=card><h2>{escape(metric)}</h2>{known}<p>Not defined in any window.</p></section>\n"
    bad = " bad" if metric in report.worse else ""
    newest = drawn[-1][1]
    said = f"<p>{short(newest.value, number)} ({short(newest.low, number)} to {short(newest.high, number)}), the newest</p>"
    picture = _way(metric, drawn, before.value if before and math.isfinite(before.value) else None, number)
    return f"<section class='card{bad}'><h2>{escape(metric)}</h2>{picture}{said}{known}</section>\n"


def _way(
    metric: str, drawn: Sequence[tuple[str, Estimate]], before: float | None, number: Callable[[float], str]
) -> str:
    """A band and a line over the windows, or one point with its span; the training value is the dashed line."""
    values = [value for _, item in drawn for value in (item.low, item.value, item.high) if math.isfinite(value)]
    values += [before] if before is not None else []
    low, high = min(values), max(values)
    room = (high - low) * _MARGIN or abs(high) * _MARGIN or 1.0
    low, high = low - room, high + room

    def y(value: float) -> float:
        return HEIGHT - (value - low) / (high - low) * HEIGHT

    step = WIDTH / max(1, len(drawn) - 1)
    places = [i * step for i in range(len(drawn))] if len(drawn) > 1 else [WIDTH / 2]
    bounds = [(x, item.low, item.high) for x, (_, item) in zip(places, drawn, strict=True)]
    parts = []
    # A window whose interval has no end has none to draw, and parts the band.
    for known, together in itertools.groupby(bounds, lambda bound: math.isfinite(bound[1]) and math.isfinite(bound[2])):
        sure = list(together) if known else []
        if len(sure) > 1:
            corners = [(x, y(top)) for x, _, top in sure] + [(x, y(bottom)) for x, bottom, _ in reversed(sure)]
            parts.append(f"<polygon class='band' points='{' '.join(f'{x:.1f},{place:.1f}' for x, place in corners)}'/>")
        parts += [
            f"<line class='span' x1='{x:.1f}' x2='{x:.1f}' y1='{y(bottom):.1f}' y2='{y(top):.1f}'/>"
            for x, bottom, top in (sure if len(sure) == 1 else ())
        ]
    if before is not None:
        parts.append(f"<line class='limit' x1='0' x2='{WIDTH}' y1='{y(before):.1f}' y2='{y(before):.1f}'/>")
    parts.append(polyline([(x, y(item.value)) for x, (_, item) in zip(places, drawn, strict=True)], "way"))
    parts += [
        f"<circle class='dot' cx='{x:.1f}' cy='{y(item.value):.1f}' r='2.5'><title>{escape(label)}: {short(item.value, number)} "
        f"({short(item.low, number)} to {short(item.high, number)})</title></circle>"
        for x, (label, item) in zip(places, drawn, strict=True)
    ]
    first, last = (drawn[i][0].partition(" to ")[0] for i in (0, -1))
    ends = text(0, "start", first) + text(WIDTH, "end", last) if len(drawn) > 1 else ""
    return svg("".join(parts) + ends, f"{metric} over the windows, with its interval")
