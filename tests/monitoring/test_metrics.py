"""Each metric against SciPy, a published figure or one worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import special, stats
from scipy.spatial import distance

from amlflow.monitoring import metrics

RNG = np.random.default_rng(7)
PAIRS = {
    "normal": (RNG.normal(size=3000), RNG.normal(0.3, 1.2, size=2000)),
    "heavy": (RNG.standard_cauchy(size=500), RNG.standard_cauchy(size=700) + 1),
    "ties": (RNG.integers(0, 6, size=900).astype(float), RNG.integers(1, 9, size=400).astype(float)),
    "same": (np.arange(50.0), np.arange(50.0)),
    "apart": (np.arange(20.0), np.arange(100.0, 130.0)),
    "long": (RNG.normal(size=40_000), np.round(RNG.normal(0.01, 1, size=17_001), 2)),
    "one": (RNG.normal(size=200), np.array([0.3])),
}


@pytest.fixture(params=PAIRS, name="pair")
def _pair(request: pytest.FixtureRequest) -> tuple[np.ndarray, np.ndarray]:
    baseline, sample = PAIRS[request.param]
    return np.sort(baseline), np.sort(sample)


def test_wasserstein_is_scipys_over_the_baselines_deviation(pair: tuple[np.ndarray, np.ndarray]) -> None:
    deviation = float(np.std(pair[0], ddof=1))
    ours = metrics.normalized_wasserstein_distance(*pair)
    assert ours == pytest.approx(stats.wasserstein_distance(*pair) / deviation, abs=1e-12)
    large = [side * 2.0**1000 for side in pair]
    assert metrics.normalized_wasserstein_distance(*large) == pytest.approx(ours, abs=1e-12)


def test_a_constant_baseline_divides_by_azures_least_deviation() -> None:
    assert metrics.normalized_wasserstein_distance(np.full(5, 2.0), np.full(5, 2.5)) == pytest.approx(0.5 / 0.001)


def test_kolmogorov_smirnov_statistic_is_scipys(pair: tuple[np.ndarray, np.ndarray]) -> None:
    ours = metrics.kolmogorov_smirnov(*pair)
    assert ours.statistic == pytest.approx(stats.ks_2samp(*pair).statistic, abs=1e-12)


def test_kolmogorov_smirnov_p_is_near_the_exact_one() -> None:
    """Stephens's form of the limit against SciPy's exact distribution, where the p-value decides anything."""
    for shift in (0.0, 0.1, 0.2, 0.3):
        for size in (50, 200, 1000):
            rng = np.random.default_rng(size)
            pair = np.sort(rng.normal(size=size)), np.sort(rng.normal(shift, size=size + 7))
            ours = metrics.kolmogorov_smirnov(*pair).p_value
            exact = stats.ks_2samp(*pair, method="exact").pvalue
            assert ours == pytest.approx(exact, abs=0.02, rel=0.25)


def test_jensen_shannon_is_scipys() -> None:
    for counts in ([(3, 7, 0), (1, 1, 8)], [(5, 5), (5, 5)], [(4, 0), (0, 9)]):
        sides = [np.array(side) for side in counts]
        assert metrics.jensen_shannon_distance(*sides) == pytest.approx(
            distance.jensenshannon(*sides, base=2), abs=1e-9
        )
    assert metrics.jensen_shannon_distance(np.array([4, 0]), np.array([0, 9])) == pytest.approx(1.0)


def test_population_stability_by_hand() -> None:
    """Counts 49 and 49 against 24 and 74, each taken one higher: shares of 50/98, 50/98 and 25/98, 75/98."""
    by_hand = (25 - 50) / 98 * math.log(25 / 50) + (75 - 50) / 98 * math.log(75 / 50)
    assert metrics.population_stability_index(np.array([49, 49]), np.array([24, 74])) == pytest.approx(by_hand)
    assert math.isfinite(metrics.population_stability_index(np.array([10, 0]), np.array([0, 10])))


def test_chi_squared_is_scipys() -> None:
    for table in ([[30, 14, 34], [20, 26, 20]], [[90, 10], [80, 25]], [[5, 0, 9], [7, 3, 2]]):
        ours = metrics.pearson_chi_squared(*(np.array(row) for row in table))
        theirs = stats.chi2_contingency(np.array(table), correction=False)
        assert (ours.statistic, ours.p_value) == pytest.approx((theirs.statistic, theirs.pvalue))
    assert metrics.pearson_chi_squared(np.array([4]), np.array([9])).p_value == 1.0


def test_tails_are_scipys() -> None:
    for x in (0.0, 0.1, 0.3, 0.8, 0.999, 1.0, 1.4, 3.0, 8.0):
        assert metrics.kolmogorov_tail(x) == pytest.approx(special.kolmogorov(x), rel=1e-9, abs=1e-13)
    for degrees in (1, 2, 5, 30, 999, 50_000):
        for share in (0.0, 0.01, 0.5, 0.9, 1.0, 1.1, 2.0, 10.0):
            x = degrees * share
            assert metrics.chi_squared_tail(degrees, x) == pytest.approx(
                special.chdtrc(degrees, x), rel=1e-7, abs=1e-12
            )


def test_holm_by_hand() -> None:
    """0.01 × 4, 0.02 × 3, then 0.03 × 2 no lower than the one before, and 0.04."""
    assert metrics.holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert metrics.holm([0.9, 0.8]) == [1.0, 1.0]
    assert metrics.holm([]) == []


def test_bins_are_numpys_of_sturges_number() -> None:
    baseline, sample = (np.sort(values) for values in PAIRS["normal"])
    edges = metrics.bin_edges(baseline, sample)
    assert len(edges) - 1 == math.ceil(math.log2(2000) + 1)
    for values in (baseline, sample):
        assert metrics.counts_between(values, edges).tolist() == np.histogram(values, edges)[0].tolist()
    assert metrics.counts_between(np.full(3, 2.0), metrics.bin_edges(np.full(3, 2.0), np.full(2, 2.0))).tolist() == [3]
