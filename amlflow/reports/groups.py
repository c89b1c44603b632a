"""Runs that differ by seed alone, as groups: the mean of each metric, how sure it is, and the test against the baseline's."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from amlflow.reports.grid import BEST, METRICS_IN_ROWS, Direction, Grid, arrow

CONFIDENCE = 0.95
TEST = "Welch's t-test, two-sided"
INTERVAL = "Student's t"


@dataclass(frozen=True, slots=True)
class Welch:
    """A test of two means for being the same; `p` is two-sided, `df` are the degrees of freedom."""

    t: float
    df: float
    p: float


@dataclass(frozen=True, slots=True)
class Estimate:
    """One metric over the `n` runs of a group that have it. `deviation` is that of the sample, `half_width` that of the
    confidence interval around the mean: None where fewer than two values, or one that is not finite, tell nothing of either, or
    where it is more than a number holds.
    `test` is against the baseline's group."""

    n: int
    mean: float
    deviation: float | None
    half_width: float | None
    test: Welch | None = None


@dataclass(frozen=True, slots=True)
class Group:
    """`params` are what its runs agree in; `name` says those of them that other groups have otherwise."""

    name: str
    params: Mapping[str, str]
    run_ids: Sequence[str]
    estimates: Mapping[str, Estimate]
    is_baseline: bool = False


@dataclass(frozen=True, slots=True)
class GroupMetric:
    """A metric's row over the groups; `best` holds the positions of the best mean."""

    key: str
    direction: Direction
    best: frozenset[int]


@dataclass(frozen=True, slots=True)
class Grouping:
    """`seeds` are the params that were not looked at."""

    seeds: Sequence[str]
    groups: Sequence[Group]
    metrics: Sequence[GroupMetric]


def grid(grouping: Grouping, number: Callable[[float], str], everything: bool) -> Grid:
    metrics = grouping.metrics if everything else grouping.metrics[:METRICS_IN_ROWS]
    headings = ["GROUP", "N", *(metric.key + arrow(metric.direction) for metric in metrics)]
    rows = [
        [
            f"{group.name} (baseline)" if group.is_baseline else group.name,
            str(len(group.run_ids)),
            *(_cell(group, metric, index, number) for metric in metrics),
        ]
        for index, group in enumerate(grouping.groups)
    ]
    left = len(grouping.metrics) - len(metrics)
    note = f"{left} more metrics: name them with --metric, or use -o json." if left else ""
    return Grid(headings, rows, frozenset(range(1, 2 + len(metrics))), note)


def explanation(grouping: Grouping) -> str:
    """What the numbers of the grid are."""
    said = f"mean ± half of the {CONFIDENCE:.0%} confidence interval ({INTERVAL}) over runs that differ in "
    said += " and ".join(grouping.seeds)
    if any(estimate.test for group in grouping.groups for estimate in group.estimates.values()):
        said += f"; p: {TEST}, against the baseline's group, not adjusted for the number of tests"
    if _never_varies(grouping):
        said += "; no p where the values of neither group vary, which leaves nothing to test by"
    lone = sum(len(group.run_ids) == 1 for group in grouping.groups)
    if lone:
        said += f"; {lone} of {len(grouping.groups)} groups have a single run, which has no interval and no test"
    return said + "."


def _never_varies(grouping: Grouping) -> bool:
    """Whether a shown metric is the same in all runs of the baseline's group, and so it is in those of another."""
    base = next((group for group in grouping.groups if group.is_baseline), None)
    if base is None:
        return False

    def still(group: Group, key: str) -> bool:
        estimate = group.estimates.get(key)
        return estimate is not None and estimate.deviation == 0

    others = [group for group in grouping.groups if group is not base]
    return any(
        still(base, metric.key) and any(still(group, metric.key) for group in others) for metric in grouping.metrics
    )


def document(grouping: Grouping) -> dict[str, Any]:
    """The record for JSON and YAML."""
    return {
        "seeds": list(grouping.seeds),
        "confidence": CONFIDENCE,
        "interval": INTERVAL,
        "test": TEST,
        "metrics": [
            {
                "key": metric.key,
                "direction": metric.direction,
                "best": [grouping.groups[i].name for i in sorted(metric.best)],
            }
            for metric in grouping.metrics
        ],
        "groups": [
            {
                "name": group.name,
                "baseline": group.is_baseline,
                "params": dict(group.params),
                "run_ids": list(group.run_ids),
                "metrics": {key: _estimate(estimate) for key, estimate in group.estimates.items()},
            }
            for group in grouping.groups
        ],
    }


def _estimate(estimate: Estimate) -> dict[str, Any]:
    half, test = estimate.half_width, estimate.test
    interval = None if half is None else [estimate.mean - half, estimate.mean + half]
    return {
        "n": estimate.n,
        "mean": estimate.mean,
        "standard_deviation": estimate.deviation,
        "interval": interval,
        "test": None if test is None else {"t": test.t, "df": test.df, "p": test.p},
    }


def _cell(group: Group, metric: GroupMetric, index: int, number: Callable[[float], str]) -> str:
    estimate = group.estimates.get(metric.key)
    if estimate is None:
        return "-"
    parts = [number(estimate.mean)]
    if estimate.half_width is not None:
        parts.append(f"± {_short(estimate.half_width)}")
    if estimate.n != len(group.run_ids):
        parts.append(f"(n={estimate.n})")
    if index in metric.best:
        parts.append(BEST)
    if estimate.test is not None and not math.isnan(estimate.test.p):
        parts.append("p<0.001" if estimate.test.p < 0.001 else f"p={estimate.test.p:.3f}")
    return " ".join(parts)


def _short(value: float) -> str:
    return f"{value:.2g}"
