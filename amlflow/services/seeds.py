"""Groups of runs that agree in all params but their seeds, with the statistics that tell such groups apart."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
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
    deviation = _deviation(values, mean)
    if deviation is None:
        return Estimate(n, mean, None, None)
    from scipy.special import stdtrit

    half_width = float(stdtrit(n - 1, (1 + CONFIDENCE) / 2)) / math.sqrt(n) * deviation
    return Estimate(n, mean, deviation, half_width if math.isfinite(half_width) else None)


def welch(first: Sequence[float], second: Sequence[float]) -> Welch | None:
    """Welch's t-test of two means whose variances may differ, with the degrees of freedom of Welch and Satterthwaite
    (B. L. Welch, Biometrika 34, 1947): t = (m1 - m2) / sqrt(s1²/n1 + s2²/n2). None where a side has fewer than two values or one
    that is not finite, where neither side varies, or where the means are further apart than a number holds."""
    if not first or not second:
        return None
    means = [_mean(values) for values in (first, second)]
    deviations = [_deviation(values, mean) for values, mean in zip((first, second), means, strict=True)]
    if deviations[0] is None or deviations[1] is None:
        return None
    # Squares of values beyond 1e±154 are no numbers, so that the errors are squared as shares of their whole.
    errors = deviations[0] / math.sqrt(len(first)), deviations[1] / math.sqrt(len(second))
    whole, apart = math.hypot(*errors), means[0] - means[1]
    if whole == 0 or not math.isfinite(whole) or not math.isfinite(apart):
        return None
    from scipy.special import stdtr

    t = apart / whole
    a, b = ((error / whole) ** 2 for error in errors)
    df = 1 / (a**2 / (len(first) - 1) + b**2 / (len(second) - 1))
    return Welch(t, df, 2 * float(stdtr(df, -abs(t))))


def _mean(values: Sequence[float]) -> float:
    """Of equal values that value: a third of their sum may differ from it, and they would seem to vary."""
    if len(set(values)) == 1:
        return values[0]
    try:
        return math.fsum(values) / len(values)
    except (OverflowError, ValueError):
        # Their sum is beyond what a float holds, or there are infinities of both signs.
        return sum(value / len(values) for value in values)


def _deviation(values: Sequence[float], mean: float) -> float | None:
    """That of the sample; None where there is none."""
    if len(values) < 2:
        return None
    deviation = math.hypot(*(value - mean for value in values)) / math.sqrt(len(values) - 1)
    return deviation if math.isfinite(deviation) else None


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
