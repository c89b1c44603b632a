"""Groups of runs that agree in all params but their seeds, with the statistics that tell such groups apart."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from amlflow.errors import NotFound
from amlflow.reports.groups import CONFIDENCE, Estimate, Group, Welch
from amlflow.workspaces.base import Run

_PARAMS_IN_NAME = 4


def groups(runs: Sequence[Run], seeds: Sequence[str], baseline: Run | None) -> list[Group]:
    """The groups in the order of their first runs; that of the baseline is what the others are tested against. Raises `NotFound`
    where no run has a param that is named as a seed."""
    known = {key for run in runs for key in run.params}
    for seed in seeds:
        if seed not in known:
            raise NotFound(
                f"None of these runs has the param {seed!r}, which --seeds names.",
                f"They have: {', '.join(sorted(known)[:20]) or 'none'}.",
                name=seed,
                known=known,
            )
    members: dict[frozenset[tuple[str, str]], list[Run]] = {}
    for run in runs:
        rest = frozenset(pair for pair in run.params.items() if pair[0] not in seeds)
        members.setdefault(rest, []).append(run)
    names = _names(list(members))
    made = [
        _group(name, dict(sorted(rest)), of, baseline) for name, (rest, of) in zip(names, members.items(), strict=True)
    ]
    base = next((group for group in made if group.is_baseline), None)
    if base is None:
        return made
    values = {run.id: run.metrics for run in runs}
    return [group if group is base else _tested(group, base, values) for group in made]


def estimate(values: Sequence[float]) -> Estimate:
    """The mean and its confidence interval: mean ± t(0.975, n - 1) · s / sqrt(n), for values that are normally distributed
    (NIST/SEMATECH e-Handbook of Statistical Methods, 1.3.5.2)."""
    n, mean = len(values), _mean(values)
    variance = _variance(values, mean)
    if variance is None:
        return Estimate(n, mean, None, None)
    from scipy.special import stdtrit

    deviation, quantile = math.sqrt(variance), float(stdtrit(n - 1, (1 + CONFIDENCE) / 2))
    return Estimate(n, mean, deviation, quantile * deviation / math.sqrt(n))


def welch(first: Sequence[float], second: Sequence[float]) -> Welch | None:
    """Welch's t-test of two means whose variances may differ, with the degrees of freedom of Welch and Satterthwaite
    (B. L. Welch, Biometrika 34, 1947): t = (m1 - m2) / sqrt(s1²/n1 + s2²/n2). None where a side has fewer than two values or one
    that is not finite, or where neither side varies."""
    if not first or not second:
        return None
    means = [_mean(values) for values in (first, second)]
    variances = [_variance(values, mean) for values, mean in zip((first, second), means, strict=True)]
    if variances[0] is None or variances[1] is None:
        return None
    a, b = variances[0] / len(first), variances[1] / len(second)
    if a + b == 0:
        return None
    from scipy.special import stdtr

    t = (means[0] - means[1]) / math.sqrt(a + b)
    df = (a + b) ** 2 / (a**2 / (len(first) - 1) + b**2 / (len(second) - 1))
    return Welch(t, df, 2 * float(stdtr(df, -abs(t))))


def _sum(values: Iterable[float]) -> float:
    numbers = list(values)
    try:
        return math.fsum(numbers)
    except (OverflowError, ValueError):
        # Beyond what a float holds, or infinities of both signs: as plain addition has it.
        return sum(numbers)


def _mean(values: Sequence[float]) -> float:
    """Of equal values that value: a third of their sum may differ from it, and they would seem to vary."""
    return values[0] if len(set(values)) == 1 else _sum(values) / len(values)


def _variance(values: Sequence[float], mean: float) -> float | None:
    """That of the sample; None where there is none."""
    if len(values) < 2:
        return None
    variance = _sum((value - mean) * (value - mean) for value in values) / (len(values) - 1)
    return variance if math.isfinite(variance) else None


def _group(name: str, params: Mapping[str, str], runs: Sequence[Run], baseline: Run | None) -> Group:
    keys = sorted({key for run in runs for key in run.metrics})
    estimates = {key: estimate(_values([run.metrics for run in runs], key)) for key in keys}
    ids = [run.id for run in runs]
    return Group(name, params, ids, estimates, baseline is not None and baseline.id in ids)


def _tested(group: Group, base: Group, metrics: Mapping[str, Mapping[str, float]]) -> Group:
    tested = {}
    for key, found in group.estimates.items():
        own, theirs = (_values([metrics[run] for run in of.run_ids], key) for of in (group, base))
        tested[key] = replace(found, test=welch(own, theirs))
    return replace(group, estimates=tested)


def _values(metrics: Sequence[Mapping[str, float]], key: str) -> list[float]:
    return [of[key] for of in metrics if key in of]


def _names(groups: Sequence[frozenset[tuple[str, str]]]) -> list[str]:
    """Each group by the params that differ between groups; a number tells those apart that a name would be too long for."""
    common = frozenset.intersection(*groups) if groups else frozenset()
    params = [dict(group) for group in groups]
    keys = sorted({key for group in groups for key, _ in group - common})
    if not keys:
        return ["all runs"] * len(groups)
    # What a group merely lacks tells less than what it has otherwise.
    telling = [key for key in keys if len({of[key] for of in params if key in of}) > 1]
    if len({tuple(of.get(key) for key in telling) for of in params}) == len(groups):
        keys = telling
    keys = sorted(keys, key=lambda key: key not in telling)[:_PARAMS_IN_NAME]
    shown = [", ".join(f"{key}={of.get(key, '-')}" for key in keys) for of in params]
    times = Counter(shown)
    return [f"{name}, … #{at}" if times[name] > 1 else name for at, name in enumerate(shown, 1)]
