"""How much of a metric's spread over runs goes with each parameter, one parameter at a time."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

# Below this nothing can be said about any parameter.
FEWEST_RUNS = 5
_MOST_VALUES = 10
_MOST_GROUPS = 5
_RUNS_A_GROUP = 4


@dataclass(frozen=True, slots=True)
class Importance:
    """`share` is 0 to 1, of `runs` runs in `groups` groups; `trend` is Spearman's rank correlation, -1 to 1, of a numeric
    parameter, else None."""

    share: float
    trend: float | None
    runs: int
    groups: int


@dataclass(frozen=True, slots=True)
class Grouped:
    """A parameter's values over the runs, made ready once for all metrics: the group of each run, and the number where all are
    numbers. None where a run lacks it."""

    groups: Sequence[int | None]
    numbers: Sequence[float | None] | None


def grouped(values: Sequence[str | None]) -> Grouped:
    """Runs with equal values are one group. Of numbers that are too many for that (more than ten, or on average fewer than two
    runs each), neighbours go together: up to five groups by quantiles, of four runs or more each, equal numbers never apart."""
    given = [value for value in values if value is not None]
    numbers = [None if value is None else _number(value) for value in values]
    numeric = sum(number is not None for number in numbers) == len(given) > 0
    if not numeric:
        order = {value: index for index, value in enumerate(dict.fromkeys(given))}
        return Grouped([None if value is None else order[value] for value in values], None)
    present = sorted(number for number in numbers if number is not None)
    wanted = max(2, min(_MOST_GROUPS, len(present) // _RUNS_A_GROUP))
    distinct = sorted(set(present))
    if len(distinct) <= max(wanted, min(_MOST_VALUES, len(present) // 2)):
        cuts = distinct[1:]
    else:
        cuts = sorted({present[len(present) * part // wanted] for part in range(1, wanted)})
    return Grouped([None if number is None else bisect_right(cuts, number) for number in numbers], numbers)


def importance(parameter: Grouped, metric: Sequence[float | None]) -> Importance | None:
    """The effect size of the Kruskal-Wallis test, (H - k + 1) / (n - k) of k groups and n runs, not below 0, where
    H = (12 / (n (n + 1)) * sum(R_g^2 / n_g) - 3 (n + 1)) / (1 - sum(t^3 - t) / (n^3 - n)), R_g being the sum of the ranks of
    the metric in group g and t the numbers of equal values (Kruskal and Wallis, "Use of Ranks in One-Criterion Variance
    Analysis", JASA 47, 1952; the effect size as eta-squared H in Tomczak and Tomczak, "The need to report effect size
    estimates revisited", Trends in Sport Sciences 1(21), 2014). It needs no scale and no linearity, and takes off what that
    many groups would explain by chance. None with too few runs, one group, or fewer than two runs a group on average."""
    chosen = [
        (group, value, index)
        for index, (group, value) in enumerate(zip(parameter.groups, metric, strict=True))
        if group is not None and value is not None and not math.isnan(value)
    ]
    sizes = Counter(group for group, _, _ in chosen)
    runs, groups = len(chosen), len(sizes)
    if runs < FEWEST_RUNS or groups < 2 or 2 * groups > runs:
        return None
    value_ranks, ties = ranks([value for _, value, _ in chosen])
    spread = 1 - ties / (runs**3 - runs)
    if spread <= 0:
        return None
    sums: Counter[int] = Counter()
    for (group, _, _), rank in zip(chosen, value_ranks, strict=True):
        sums[group] += rank  # type: ignore[assignment]
    squares = sum(sums[group] ** 2 / size for group, size in sizes.items())
    statistic = (12 / (runs * (runs + 1)) * squares - 3 * (runs + 1)) / spread
    share = min(1.0, max(0.0, (statistic - groups + 1) / (runs - groups)))
    return Importance(share, _trend(parameter, value_ranks, [index for _, _, index in chosen]), runs, groups)


def ranks(values: Sequence[float]) -> tuple[list[float], int]:
    """1-based ranks, equal values sharing their mean rank, and the sum of t^3 - t over the numbers t of equal values."""
    order = sorted(range(len(values)), key=values.__getitem__)
    found, ties, start = [0.0] * len(values), 0, 0
    while start < len(order):
        end = start
        while end + 1 < len(order) and values[order[end + 1]] == values[order[start]]:
            end += 1
        for place in range(start, end + 1):
            found[order[place]] = (start + end) / 2 + 1
        count = end - start + 1
        ties += count**3 - count
        start = end + 1
    return found, ties


def _trend(parameter: Grouped, value_ranks: Sequence[float], indexes: Sequence[int]) -> float | None:
    """Spearman's rank correlation: Pearson's of the ranks ("The Proof and Measurement of Association between Two Things",
    American Journal of Psychology 15, 1904)."""
    if parameter.numbers is None:
        return None
    numbers = [parameter.numbers[index] for index in indexes]
    param_ranks, _ = ranks([number for number in numbers if number is not None])
    middle = (len(indexes) + 1) / 2
    across = sum((one - middle) * (other - middle) for one, other in zip(param_ranks, value_ranks, strict=True))
    size = math.sqrt(sum((one - middle) ** 2 for one in param_ranks) * sum((one - middle) ** 2 for one in value_ranks))
    return across / size if size else None


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
