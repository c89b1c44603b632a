"""What a page says of a comparison beyond its single runs: what the gates found, and groups of runs that differ by seed alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from amlflow.reports import gates, groups
from amlflow.reports.comparison import Comparison
from amlflow.reports.groups import Estimate, Group, Grouping
from amlflow.reports.room import shortened, weight

MOST_CHECKS = 500
# Params may be thousands of characters long, and stand in the sentences of gates and in the names of groups.
MOST_OF_A_SENTENCE = 1_000
# Of a page's 20 MB the groups may take so much; 5,000 groups of 20 metrics take about half of it.
MOST_GROUP_BYTES = 4_000_000

# Of the metric in one group: how many runs have it, their mean, half of the interval around that, and p against the baseline's.
Cell = tuple[int, float, float | None, float | None] | None


@dataclass(frozen=True, slots=True)
class Verdicts:
    """`data` is for the page's scripts; `notes` are sentences on what was left out."""

    data: Mapping[str, Any]
    notes: Sequence[str]


def verdicts(comparison: Comparison) -> Verdicts:
    """`gates` and `groups`, each null where none was asked for. A gate's row names a run by its position, a group by its name."""
    notes: list[str] = []
    grouping = comparison.grouping
    data = {
        "gates": _gates(comparison, notes) if comparison.findings else None,
        "groups": _groups(grouping, comparison, notes) if grouping else None,
    }
    return Verdicts(data, notes)


def _gates(comparison: Comparison, notes: list[str]) -> dict[str, Any]:
    findings = gates.failures_first(comparison.findings)
    if len(findings) > MOST_CHECKS:
        notes.append(f"The first {MOST_CHECKS} of {len(findings)} gate checks, those that failed before the others.")
    failed = sum(finding.outcome != "passed" for finding in findings)
    positions = {run.id: index for index, run in enumerate(comparison.runs)}
    rows = [
        [
            one.mark(),
            positions.get(one.subject_id, shortened(one.subject)),
            shortened(one.sentence(), MOST_OF_A_SENTENCE),
        ]
        for one in findings[:MOST_CHECKS]
    ]
    return {"summary": gates.summary(findings), "rows": rows, "failed": failed}


def _groups(grouping: Grouping, comparison: Comparison, notes: list[str]) -> dict[str, Any]:
    positions = {run.id: index for index, run in enumerate(comparison.runs)}
    found = {
        "explanation": groups.explanation(grouping),
        "names": [shortened(group.name) for group in grouping.groups],
        "runs": [[positions[run] for run in group.run_ids] for group in grouping.groups],
        "baseline": next((index for index, group in enumerate(grouping.groups) if group.is_baseline), None),
    }
    metrics: dict[str, Any] = {}
    room = MOST_GROUP_BYTES - weight(found)
    for metric in grouping.metrics:
        one = {"best": sorted(metric.best), "cells": [_cell(group, metric.key) for group in grouping.groups]}
        room -= weight({metric.key: one})
        if room < 0:
            notes.append(f"Groups by the first {len(metrics)} of {len(grouping.metrics)} metrics.")
            break
        metrics[metric.key] = one
    return {**found, "metrics": metrics}


def _cell(group: Group, key: str) -> Cell:
    found: Estimate | None = group.estimates.get(key)
    if found is None:
        return None
    return found.n, found.mean, found.half_width, found.test.p if found.test else None
