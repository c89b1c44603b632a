"""A drift report as cells, Markdown and a record."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from amlflow.monitoring import metrics
from amlflow.monitoring.drift import ColumnReport, DriftReport, WindowReport
from amlflow.monitoring.readings import Reading
from amlflow.reports.grid import Grid, markdown

CROSSED, NOTED = "✗", "!"
_HEADINGS = {
    metrics.WASSERSTEIN: "WASSERSTEIN",
    metrics.JENSEN_SHANNON: "JENSEN-SHANNON",
    metrics.POPULATION_STABILITY: "PSI",
    metrics.NULL_RATE: "NULL",
    metrics.TYPE_ERROR_RATE: "TYPE ERROR",
    metrics.OUT_OF_BOUNDS_RATE: "OUT OF BOUNDS",
}
_SHOWN_NOTES = 20


def grid(report: DriftReport, number: Callable[[float], str]) -> Grid:
    """A row a column and window, those that crossed a threshold first. A crossed threshold is marked ✗ where it counts, !
    where it is only shown; of the tests, which no column has two of, p and p after Holm's correction stand in one column each."""
    several = len(report.windows) > 1
    there = {reading.metric for window in report.windows for column in window.columns for reading in column.readings}
    shown = [metric for metric in _HEADINGS if metric in there]
    tested = bool(there.intersection(metrics.TESTS))
    head = [*(["WINDOW"] if several else []), "COLUMN", "KIND", "STATE", *(_HEADINGS[metric] for metric in shown)]
    rows = []
    for window in report.windows:
        when = [window.window.label] if several else []
        if not window.rows:
            rows.append([*when, "-", "-", "no data", *([""] * (len(shown) + 2 * tested))])
        for column in sorted(window.columns, key=lambda item: not item.fails):
            cells = [_cell(column.reading(metric), number) for metric in shown]
            rows.append(
                [*when, _name(column), column.kind, _state(column), *cells, *_test_cells(column, tested, number)]
            )
    if tested:
        head += ["P", "P (HOLM)"]
    first = 3 + several
    return Grid(head, rows, frozenset(range(first, len(head))))


def summary(report: DriftReport) -> list[str]:
    """Sentences on the whole: how many columns drifted, and what is odd about the data and their columns."""
    compared = {column.column for window in report.windows for column in window.columns}
    rows = sum(window.rows for window in report.windows)
    failing = report.failing
    head = f"{len(failing)} of {len(compared)} columns crossed a threshold" + (
        f": {', '.join(failing[:20])}" if failing else ""
    )
    lines = [f"{head} ({rows} rows against {report.baseline_rows} of {report.baseline}).", *report.notes]
    odd = dict.fromkeys(
        f"{column.column}: {note}" for window in report.windows for column in window.columns for note in column.notes
    )
    lines += list(odd)[:_SHOWN_NOTES]
    if len(odd) > _SHOWN_NOTES:
        lines.append(f"{len(odd) - _SHOWN_NOTES} more notes on columns: see -o json.")
    if noted := _noted(report):
        lines.append(
            f"{noted} data quality rates are above Azure ML's default of 0 (marked {NOTED}): name a threshold with --threshold "
            "METRIC=RATE to let them count."
        )
    return lines


def as_markdown(report: DriftReport, number: Callable[[float], str]) -> str:
    lines = summary(report)
    verdict = "❌" if report.failing else "✅" if all(window.rows for window in report.windows) else "⚠️"
    head = f"### {verdict} Drift of {_plain(report.data)}\n\n{_plain(lines[0])}\n\n"
    notes = "".join(f"- {_plain(line)}\n" for line in lines[1:])
    return head + markdown(grid(report, number)) + (f"\n{notes}" if notes else "")


def document(report: DriftReport) -> dict[str, Any]:
    """The full record, for JSON, YAML and the run's artifact."""
    return {
        "data": report.data,
        "baseline": report.baseline,
        "baseline_rows": report.baseline_rows,
        "drifted": bool(report.failing),
        "drifted_columns": report.failing,
        "windows_without_data": sum(not window.rows for window in report.windows),
        "notes": list(report.notes),
        "windows": [_window(window) for window in report.windows],
    }


def _window(window: WindowReport) -> dict[str, Any]:
    return {
        "start_time_ms": window.window.start_ms,
        "end_time_ms": window.window.end_ms,
        "rows": window.rows,
        "columns": [
            {
                "column": column.column,
                "baseline_column": column.baseline,
                "signal": column.signal,
                "kind": column.kind,
                "drifted": column.fails,
                "metrics": [_reading(reading) for reading in column.readings],
                "notes": list(column.notes),
            }
            for column in window.columns
        ],
    }


def _reading(reading: Reading) -> dict[str, Any]:
    threshold = reading.threshold
    found = {
        "metric": reading.metric,
        "value": reading.value,
        "threshold": threshold.value if threshold else None,
        "enforced": bool(threshold and threshold.enforced),
        "crossed": reading.crossed,
    }
    if reading.metric in metrics.TESTS:
        found |= {"p_value": reading.value, "p_value_holm": reading.adjusted, "statistic": reading.statistic}
    if reading.baseline is not None:
        found["baseline"] = reading.baseline
    return found


def _name(column: ColumnReport) -> str:
    if column.signal == "data_drift":
        return column.column
    return (
        f"{column.column} (prediction)" if column.column == column.baseline else f"{column.column} ~ {column.baseline}"
    )


def _state(column: ColumnReport) -> str:
    if column.fails:
        return (
            "drifted"
            if any(reading.fails and reading.metric not in metrics.OF_QUALITY for reading in column.readings)
            else "bad"
        )
    return "ok" if column.is_compared else "not compared"


def _cell(reading: Reading | None, number: Callable[[float], str]) -> str:
    if reading is None:
        return "-"
    return number(float(f"{reading.value:.4g}")) + (f" {_mark(reading)}" if reading.crossed else "")


def _test_cells(column: ColumnReport, tested: bool, number: Callable[[float], str]) -> list[str]:
    if not tested:
        return []
    found = next((reading for reading in column.readings if reading.metric in metrics.TESTS), None)
    if found is None or found.adjusted is None:
        return ["-", "-"]
    mark = f" {_mark(found)}" if found.crossed else ""
    return [number(float(f"{found.value:.3g}")), number(float(f"{found.adjusted:.3g}")) + mark]


def _mark(reading: Reading) -> str:
    return CROSSED if reading.fails else NOTED


def _noted(report: DriftReport) -> int:
    return sum(
        reading.crossed and not reading.fails and reading.metric in metrics.OF_QUALITY
        for window in report.windows
        for column in window.columns
        for reading in column.readings
    )


def _plain(text: str) -> str:
    """Text that Markdown and the HTML in it take as it is."""
    return "".join(f"\\{c}" if c in "\\`*_[]|#" else "&lt;" if c == "<" else c for c in " ".join(text.split()))
