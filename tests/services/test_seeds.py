"""Groups of runs by their seed, and the statistics held to SciPy's."""

from __future__ import annotations

import math
import random

import pytest
from scipy import stats

from amlflow.errors import NotFound
from amlflow.services.seeds import estimate, groups, welch
from amlflow.workspaces.base import Run


def run(name: str, metrics: dict[str, float], **params: str) -> Run:
    return Run(name, name, "1", "e", "FINISHED", 0, 1, "active", "", metrics=metrics, params=params)


@pytest.mark.parametrize("sizes", [(2, 2), (3, 5), (10, 4), (30, 50), (500, 3)])
@pytest.mark.parametrize("spread", [1e-4, 1.0, 1e9])
def test_interval_and_test_are_those_of_scipy(sizes: tuple[int, int], spread: float) -> None:
    chance = random.Random(sum(sizes))
    first = [chance.gauss(5, spread) for _ in range(sizes[0])]
    second = [chance.gauss(5 + spread, 3 * spread) for _ in range(sizes[1])]
    found = estimate(first)
    low, high = stats.t.interval(0.95, len(first) - 1, loc=found.mean, scale=stats.sem(first))
    assert found.mean == pytest.approx(sum(first) / len(first), rel=1e-12)
    assert found.deviation == pytest.approx(stats.tstd(first), rel=1e-6)
    assert found.half_width == pytest.approx((high - low) / 2, rel=1e-6)
    expected, tested = stats.ttest_ind(first, second, equal_var=False), welch(first, second)
    assert tested is not None
    assert (tested.t, tested.p) == pytest.approx((expected.statistic, expected.pvalue), rel=1e-6)
    assert tested.df == pytest.approx(expected.df, rel=1e-6)


@pytest.mark.parametrize("exponent", [-1060, -900, -520, -400, 0, 400, 520, 900, 1000])
def test_values_of_any_size_are_tested_alike(exponent: int) -> None:
    first, second = [1.0, 2.0, 4.0], [3.0, 5.5, 5.0, 9.0]
    # SciPy squares the values, which goes wrong from about 1e±77 on; the statistics do not depend on their size.
    expected = stats.ttest_ind(first, second, equal_var=False)
    tested = welch(*([math.ldexp(value, exponent) for value in values] for values in (first, second)))
    assert tested is not None
    assert (tested.t, tested.p) == pytest.approx((expected.statistic, expected.pvalue), rel=1e-3)
    assert tested.df == pytest.approx(expected.df, rel=1e-3)
    found, plain = estimate([math.ldexp(value, exponent) for value in first]), estimate(first)
    assert found.half_width is not None
    assert plain.half_width is not None
    assert math.ldexp(found.half_width, -exponent) == pytest.approx(plain.half_width, rel=1e-3)


def test_what_no_float_holds_is_left_out() -> None:
    largest = 1.7e308
    assert estimate([largest, largest]).mean == largest
    assert estimate([largest, largest, -largest]).mean == pytest.approx(largest / 3)
    assert estimate([1e308, 1e308, -1e308]).half_width is None
    assert welch([largest, -largest], [1.0, 2.0]) is None
    assert welch([1e308, 1.1e308], [-1e308, -1.1e308]) is None
    assert welch([1.0, 2.0], [1e-300, 2e-300]) is not None


def test_an_interval_of_a_table() -> None:
    """t(0.975, 4) = 2.776 in any table of Student's t."""
    found = estimate([1.0, 2.0, 3.0, 4.0, 5.0])
    assert (found.mean, found.deviation) == (3.0, pytest.approx(math.sqrt(2.5)))
    assert found.half_width == pytest.approx(2.776 * math.sqrt(2.5 / 5), abs=1e-3)


@pytest.mark.parametrize(
    "values", [[1.0], [1.0, math.nan], [1.0, math.inf], [math.inf, -math.inf], [1.7e308, -1.7e308]]
)
def test_what_has_no_interval_has_none(values: list[float]) -> None:
    found = estimate(values)
    assert (found.half_width, found.n) == (None, len(values))
    assert welch(values, [1.0, 2.0, 3.0]) is None
    assert welch([1.0, 2.0, 3.0], values) is None


def test_values_that_do_not_vary_are_not_tested() -> None:
    assert welch([1.0, 1.0], [2.0, 2.0]) is None
    assert welch([0.1] * 3, [0.3] * 3) is None, "a third of three times 0.1 is not 0.1"
    assert welch([], [1.0, 2.0]) is None
    assert welch([1.0, 1.0], [2.0, 3.0]) is not None


def test_runs_that_agree_in_all_but_the_seed_are_one_group() -> None:
    runs = [
        run(f"{depth}-{seed}", {"rmse": depth + seed / 10}, depth=str(depth), lr="0.1", seed=str(seed))
        for depth in (1, 2)
        for seed in (1, 2, 3)
    ]
    one, two = groups(runs, ["seed"], runs[0])
    assert (one.name, one.run_ids, one.is_baseline) == ("depth=1", ["1-1", "1-2", "1-3"], True)
    assert (two.name, two.params, two.is_baseline) == ("depth=2", {"depth": "2", "lr": "0.1"}, False)
    assert one.estimates["rmse"].mean == pytest.approx(1.2)
    expected = stats.ttest_ind([2.1, 2.2, 2.3], [1.1, 1.2, 1.3], equal_var=False)
    test = two.estimates["rmse"].test
    assert test is not None
    assert (test.t, test.p, test.df) == pytest.approx((expected.statistic, expected.pvalue, expected.df))
    assert one.estimates["rmse"].test is None
    assert [group.name for group in groups(runs, ["seed", "depth"], None)] == ["all runs"]
    with pytest.raises(NotFound, match="'sed'"):
        groups(runs, ["sed"], None)


def test_a_metric_that_some_runs_lack_counts_those_that_have_it() -> None:
    runs = [run("a", {"x": 1.0, "y": 1.0}, seed="1"), run("b", {"x": 3.0}, seed="2"), run("c", {}, seed="3")]
    (group,) = groups(runs, ["seed"], None)
    assert (group.estimates["x"].n, group.estimates["x"].mean) == (2, 2.0)
    assert (group.estimates["y"].n, group.estimates["y"].half_width) == (1, None)


def test_thousands_of_params_and_groups_stay_apart() -> None:
    wide = {f"p{number}": "v" for number in range(3_000)}
    runs = [run(str(at), {"x": float(at)}, **wide, last=str(at), seed="0") for at in range(50)]
    assert [group.name for group in groups(runs, ["seed"], None)] == [f"last={at}" for at in range(50)]
    deep = [run(str(at), {"x": 1.0}, a="1", b="1", c="1", d="1", **{f"z{at}": "1"}, seed="0") for at in range(60)]
    assert len({group.name for group in groups(deep, ["seed"], None)}) == 60


def test_a_group_is_not_named_by_what_another_merely_lacks() -> None:
    runs = [run(f"r{at}", {"auc": 0.5}, data="d", epochs="9", opt="ab"[at % 2], seed=str(at)) for at in range(4)]
    parent = run("sweep", {}, strategy="random")
    assert [group.name for group in groups([*runs, parent], ["seed"], None)] == ["opt=a", "opt=b", "opt=-"]
