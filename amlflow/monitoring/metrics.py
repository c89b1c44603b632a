"""How far one sample lies from another, under Azure ML's names; each function says its formula and where it stands.

Bins and smoothing are those of Azure ML's own monitoring components (azureml-assets, `model_monitoring`), so that a figure here
and one of an Azure ML monitor can be held side by side; where they differ, the docstring says so.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

JENSEN_SHANNON = "jensenShannonDistance"
POPULATION_STABILITY = "populationStabilityIndex"
WASSERSTEIN = "normalizedWassersteinDistance"
KOLMOGOROV_SMIRNOV = "twoSampleKolmogorovSmirnovTest"
CHI_SQUARED = "pearsonsChiSquaredTest"
NULL_RATE = "nullValueRate"
TYPE_ERROR_RATE = "dataTypeErrorRate"
OUT_OF_BOUNDS_RATE = "outOfBoundsRate"

OF_NUMBERS = (WASSERSTEIN, JENSEN_SHANNON, POPULATION_STABILITY, KOLMOGOROV_SMIRNOV)
OF_CATEGORIES = (JENSEN_SHANNON, POPULATION_STABILITY, CHI_SQUARED)
OF_QUALITY = (NULL_RATE, TYPE_ERROR_RATE, OUT_OF_BOUNDS_RATE)
# Of these a low value, a probability, speaks for drift; of all others a high one.
TESTS = (KOLMOGOROV_SMIRNOV, CHI_SQUARED)
ALL = tuple(dict.fromkeys((*OF_NUMBERS, *OF_CATEGORIES, *OF_QUALITY)))

MetricKind = Literal["numbers", "categories", "quality"]
# A numpy array; numpy is imported by the functions that need it.
Array = Any

# Azure divides by no standard deviation below this one.
LEAST_DEVIATION = 0.001
_EPSILON = 1e-15
# So many values at once stay in a processor's cache.
_CACHED = 2**14
_STRETCH = 64
# Squares of larger numbers, such as the largest double that stands for a missing value, overflow.
_LARGE, _SMALLER = 2.0**500, 2.0**-600


@dataclass(frozen=True, slots=True)
class TestResult:
    """A test's statistic and its p-value: how probable a statistic as large is where nothing has drifted."""

    __test__ = False

    statistic: float
    p_value: float


def bin_count(smaller: int) -> int:
    """ceil(log2(n) + 1) for the smaller sample's n (Sturges, «The choice of a class interval», JASA 21, 1926)."""
    return max(1, math.ceil(math.log2(max(1, smaller)) + 1))


def bin_edges(baseline: Array, sample: Array) -> Array:
    """Edges of bins of one width over both sorted samples, as Azure ML makes them; one bin where all values are the same."""
    import numpy as np

    low, high = min(baseline[0], sample[0]), max(baseline[-1], sample[-1])
    if low == high:
        return np.array([low, high])
    return even_edges(low, high, bin_count(min(len(baseline), len(sample))))


def even_edges(low: float, high: float, bins: int) -> Array:
    """From the one finite number to the other, however far apart they are."""
    import numpy as np

    return 4 * np.linspace(low / 4, high / 4, bins + 1)


def counts_between(values: Array, edges: Array) -> Array:
    """How many of the sorted values lie in each bin [edge, next edge); the last bin has its upper edge too."""
    import numpy as np

    inner = np.searchsorted(values, edges[1:-1], side="left")
    return np.diff(np.concatenate(([0], inner, [len(values)])))


def jensen_shannon_distance(baseline: Array, counts: Array) -> float:
    """sqrt((KL(p || m) + KL(q || m)) / 2) with m = (p + q) / 2 and logarithms to base 2: 0 for the same shares, 1 for no bin or
    category in common (Lin, IEEE Trans. Inf. Theory 37, 1991; its root is a metric: Endres and Schindelin, ibid. 49, 2003)."""
    import numpy as np

    p, q = baseline / baseline.sum(), counts / counts.sum()
    m = (p + q) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        parts = [np.where(share > 0, share * np.log2(share / m), 0.0).sum() for share in (p, q)]
    return math.sqrt(max(0.0, sum(parts) / 2))


def population_stability_index(baseline: Array, counts: Array) -> float:
    """sum((q - p) ln(q / p)) (Siddiqi, «Credit Risk Scorecards», 2006; it is Jeffreys' divergence of 1946). As in Azure ML each
    count is taken one higher, without which an empty bin would make it infinite, and divided by the sample's size."""
    import numpy as np

    p, q = (baseline + 1) / baseline.sum(), (counts + 1) / counts.sum()
    return float(((q - p) * np.log(q / p)).sum())


@dataclass(frozen=True, slots=True)
class Spread:
    """The sample standard deviation of values, 0 of a single one, once they are multiplied by `scale`."""

    deviation: float
    scale: float


def spread(values: Array) -> Spread:
    """Of sorted values, at least one."""
    import numpy as np

    scale = _scale(values)
    return Spread(float(np.std(values * scale if scale != 1 else values, ddof=1)) if len(values) > 1 else 0.0, scale)


def normalized_wasserstein_distance(baseline: Array, sample: Array, of_baseline: Spread | None = None) -> float:
    """The first Wasserstein distance of two sorted samples, neither empty: the integral of |F⁻¹ - G⁻¹| over the probabilities,
    which in one dimension is that of |F - G| over the values (Vallender, Theory Probab. Appl. 18, 1974), divided by the
    baseline's sample standard deviation, of at least 0.001. `of_baseline` is that one, where it is known already."""
    known = of_baseline or spread(baseline)
    scale = min(known.scale, _scale(sample))
    if scale != 1:
        baseline, sample = baseline * scale, sample * scale
    deviation = known.deviation * (scale / known.scale)
    larger, smaller = (baseline, sample) if len(baseline) >= len(sample) else (sample, baseline)
    return _distance(larger, smaller) / max(deviation, LEAST_DEVIATION * scale)


def _scale(values: Array) -> float:
    return _SMALLER if max(-values[0], values[-1]) > _LARGE else 1.0


def _distance(larger: Array, smaller: Array) -> float:
    """In steps of 1 / (size * other), value i of the larger sample holds from i * other on, and value j of the smaller one from
    j * size on. Each of the larger is first taken to meet, as a whole, the one that holds where it begins; where another begins
    within it, the rest of it is then moved to that."""
    import numpy as np

    size, other = len(larger), len(smaller)
    step = max(1, _CACHED * other // size)
    parts = []
    for first in range(0, other, step):
        last = min(other, first + step)
        place: Array = np.arange(first, last + 1, dtype=np.int64)
        within: Array = (place * size - 1) // other
        begins: Array = within + 1
        met: Array = np.repeat(smaller[first:last], np.diff(begins))
        parts.append(other * float(np.abs(larger[begins[0] : begins[-1]] - met).sum()))
        # Nought for the first of all, which begins within none.
        rest = (begins * other - place * size)[:-1]
        own = larger[within[:-1]]
        moved = np.abs(own - smaller[first:last]) - np.abs(own - smaller[place[:-1] - 1])
        parts.append(float((rest * moved).sum()))
    return max(0.0, math.fsum(parts)) / (size * other)


def kolmogorov_smirnov(baseline: Array, sample: Array) -> TestResult:
    """D = max |F - G| of two sorted samples, neither empty. The p-value is Kolmogorov's limit distribution at (sqrt(n) + 0.12 +
    0.11 / sqrt(n)) D with n the harmonic size ab / (a + b) (Stephens, JRSS B 32, 1970). With many equal values it is too high
    rather than too low.

    Azure ML refuses samples of 10,000 rows and more; these may have any size."""
    statistic = _largest_gap(baseline, sample)
    root = math.sqrt(len(baseline) * len(sample) / (len(baseline) + len(sample)))
    return TestResult(statistic, kolmogorov_tail((root + 0.12 + 0.11 / root) * statistic))


def _largest_gap(baseline: Array, sample: Array) -> float:
    """The largest |F - G|. At values of the baseline F - G is largest, and just before them G - F is; of the stretches between
    every so many of them, only those are looked at whose ends leave room for more than is found already."""
    import numpy as np

    size, other = len(baseline), len(sample)

    def below(places: Array) -> tuple[Array, Array]:
        """How many values of the sample lie below the baseline's, and below or at them."""
        values = baseline[places]
        return np.searchsorted(sample, values, side="left"), np.searchsorted(sample, values, side="right")

    def most(places: Array, before: Array, upto: Array) -> float:
        return float(np.maximum((places + 1) / size - upto / other, before / other - places / size).max())

    ends: Array = np.append(np.arange(0, size - 1, _STRETCH), size - 1)
    before, upto = below(ends)
    found = most(ends, before, upto)
    room = np.maximum((ends[1:] + 1) / size - before[:-1] / other, upto[1:] / other - ends[:-1] / size)
    open_ = ends[:-1][room > found]
    for start in range(0, len(open_), _CACHED // _STRETCH):
        inner = (open_[start : start + _CACHED // _STRETCH, None] + np.arange(_STRETCH)).ravel()
        inner = inner[inner < size]
        found = max(found, most(inner, *below(inner)))
    return found


def pearson_chi_squared(baseline: Array, counts: Array) -> TestResult:
    """sum((observed - expected)² / expected) over the table of two samples by categories, with k - 1 degrees of freedom (Pearson,
    Phil. Mag. 50, 1900), without Yates's correction.

    Azure ML takes the baseline's shares for the truth, so that any new category alone makes p zero; here the baseline is a sample
    too, and the two agree where it is much the larger."""
    import numpy as np

    table = np.array([baseline, counts], dtype=float)
    table = table[:, table.sum(axis=0) > 0]
    if table.shape[1] < 2:
        return TestResult(0.0, 1.0)
    expected = table.sum(axis=1, keepdims=True) * table.sum(axis=0) / table.sum()
    statistic = float(((table - expected) ** 2 / expected).sum())
    return TestResult(statistic, chi_squared_tail(table.shape[1] - 1, statistic))


def kolmogorov_tail(x: float) -> float:
    """P(K > x) of Kolmogorov's distribution: 2 sum (-1)^(k-1) exp(-2 k² x²), and for small x, where that hardly converges,
    one less sqrt(2 pi) / x sum exp(-(2k-1)² pi² / 8x²) (both: Feller, Ann. Math. Statist. 19, 1948). SciPy's takes a second
    to import."""
    if x <= 0:
        return 1.0
    terms = range(1, 20)
    if x < 1:
        return 1 - math.sqrt(2 * math.pi) / x * sum(math.exp(-(((2 * k - 1) * math.pi / x) ** 2) / 8) for k in terms)
    return min(1.0, 2 * sum((1 if k % 2 else -1) * math.exp(-2 * (k * x) ** 2) for k in terms))


def chi_squared_tail(degrees: int, x: float) -> float:
    """P(X > x) of the chi-squared distribution, which is the regularized upper incomplete gamma function Q(degrees / 2, x /
    2): by the series of its complement (DLMF 8.11.4) below a + 1, by the continued fraction (DLMF 8.9.2, evaluated as Lentz
    does) above."""
    a, z = degrees / 2, x / 2
    if z <= 0:
        return 1.0
    front = math.exp(a * math.log(z) - z - math.lgamma(a))
    if z < a + 1:
        term = total = 1 / a
        n = a
        while term > total * _EPSILON:
            n += 1
            term *= z / n
            total += term
        return max(0.0, 1 - front * total)
    b = z + 1 - a
    c, d = math.inf, 1 / b
    fraction, step, i = d, 0.0, 0
    while abs(step - 1) > _EPSILON:
        i += 1
        b += 2
        d = 1 / (b - i * (i - a) * d)
        c = b - i * (i - a) / c
        step = c * d
        fraction *= step
    return front * fraction


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values, corrected for their number: of the sorted p, the i-th of m times m - i + 1, never below an earlier one and
    never above 1 (Holm, Scand. J. Statist. 6, 1979). Below a level, the chance of even one false alarm is below it."""
    found, highest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        highest = max(highest, min(1.0, p_values[index] * (len(p_values) - rank)))
        found[index] = highest
    return found
