"""A performance report as cells, Markdown and a record."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from amlflow.monitoring.estimates import Estimate
from amlflow.monitoring.performance import PerformanceReport
from amlflow.reports.drift import CROSSED
from amlflow.reports.grid import Grid, markdown


def grid(report: PerformanceReport, number: Callable[[float], str]) -> Grid:
    """A row a metric and window; marked where the training run's value lies beyond the interval, on its better side."""
    several = len(report.windows) > 1
    head = [*(["WINDOW"] if several else []), "METRIC", "VALUE", "95 % FROM", "TO", "TRAINING", "ROWS", "STATE"]
    rows = []
    for window in report.windows:
        when = [window.window.label] if several else []
        if not window.rows:
            rows.append([*when, "-", "", "", "", "", "0", "no data"])
        for item in window.estimates:
            before = report.before.get(item.metric)
            values = [short(value, number) for value in (item.value, item.low, item.high)]
            known = f"{short(before.value, number)} ({before.key})" if before else "-"
            rows.append([*when, item.metric, *values, known, str(window.rows), _state(report, item)])
    return Grid(head, rows, frozenset(range(1 + several, 6 + several)))


def summary(report: PerformanceReport) -> list[str]:
    lines = list(report.notes)
    if report.positive:
        lines.append(f"The positive class is {report.positive!r}.")
    elif report.task == "classification":
        way = "weighted by its rows" if report.average == "weighted" else "all alike (macro)"
        lines.append(f"Precision, recall, F1 and the area under the curve are means over the classes, {way}.")
    if report.worse:
        lines.insert(0, f"Worse than in training, surely so at 95 %: {', '.join(report.worse)}.")
    elif report.before:
        lines.insert(0, "No metric is surely worse than in training.")
    return lines


def as_markdown(report: PerformanceReport, number: Callable[[float], str]) -> str:
    whole = all(window.rows for window in report.windows)
    verdict = "❌" if report.worse else "⚠️" if not whole else "✅" if report.before else "ℹ️"
    return f"### {verdict} Performance\n\n{markdown(grid(report, number))}\n" + "".join(
        f"- {' '.join(line.split()).replace('<', '&lt;')}\n" for line in summary(report)
    )


def document(report: PerformanceReport) -> dict[str, Any]:
    return {
        "data": report.data,
        "truth": report.truth,
        "task": report.task,
        "positive": report.positive or None,
        "average": None if report.positive or report.task != "classification" else report.average,
        "baseline": report.baseline or None,
        "worse": report.worse,
        "windows_without_data": sum(not window.rows for window in report.windows),
        "notes": list(report.notes),
        "windows": [
            {
                "start_time_ms": window.window.start_ms,
                "end_time_ms": window.window.end_ms,
                "rows": window.rows,
                "metrics": [_estimate(report, item) for item in window.estimates],
            }
            for window in report.windows
        ],
    }


def _estimate(report: PerformanceReport, item: Estimate) -> dict[str, Any]:
    before = report.before.get(item.metric)
    return {
        "metric": item.metric,
        "value": item.value,
        "low": item.low,
        "high": item.high,
        "interval": item.interval,
        "training_metric": before.key if before else None,
        "training_value": before.value if before else None,
        "worse": report.is_worse(item),
    }


def _state(report: PerformanceReport, item: Estimate) -> str:
    if item.metric not in report.before:
        return ""
    return f"worse {CROSSED}" if report.is_worse(item) else "ok"


def short(value: float, number: Callable[[float], str]) -> str:
    """Four digits; a dash for what is not defined."""
    return "-" if value != value else number(float(f"{value:.4g}"))
