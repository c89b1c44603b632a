"""Columns of every kind and oddity, compared."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from scipy import stats

from amlflow.errors import AmlflowError, UsageError
from amlflow.monitoring import columns, drift, frames, metrics, thresholds, windows
from amlflow.monitoring.drift import ColumnReport, Data, Pair

RNG = np.random.default_rng(1)
Compare = Callable[..., ColumnReport]


@pytest.fixture(name="compare")
def _compare(tmp_path: Path) -> Compare:
    """One column against another, with thresholds as a user writes them."""
    made = iter(range(100))

    def run(
        baseline: Any, sample: Any, given: Sequence[str] = (), asked: Sequence[str] = (), **kinds: Any
    ) -> ColumnReport:
        sides = [frames.of_table(pa.table({"v": side}), tmp_path / str(next(made)), "t") for side in (baseline, sample)]
        limits = thresholds.parse(asked, given, ["v"])
        data = [Data(sides[1], None, [Pair("v", "v")])]
        return drift.assess(sides[0], data, [windows.Window()], limits, kinds)[0].columns[0]

    return run


def value(report: ColumnReport, metric: str) -> float:
    found = report.reading(metric)
    assert found is not None
    return found.value


def test_numbers_that_moved_have_drifted_and_the_same_have_not(compare: Compare) -> None:
    base = RNG.normal(size=4000)
    moved = compare(base, RNG.normal(0.5, 1, size=3000))
    assert moved.kind == "numeric"
    assert moved.fails
    assert value(moved, metrics.WASSERSTEIN) == pytest.approx(0.5, abs=0.08)
    assert not compare(base, RNG.normal(size=3000)).fails


def test_the_largest_double_for_what_is_missing_hides_no_drift(compare: Compare) -> None:
    base = np.append(RNG.normal(size=1000), [np.finfo(float).max] * 20 + [np.finfo(float).min] * 20)
    lost = np.append(RNG.normal(size=600), [np.finfo(float).max] * 400)
    moved = compare(base, lost, asked=[*metrics.OF_NUMBERS])
    crossed = {reading.metric for reading in moved.readings if reading.crossed}
    assert crossed == {*metrics.OF_NUMBERS}
    assert not any(reading.crossed for reading in compare(base, base, asked=[*metrics.OF_NUMBERS]).readings)


def test_categories_that_moved_have_drifted(compare: Compare) -> None:
    base = ["red"] * 50 + ["blue"] * 50
    moved = compare(base, ["red"] * 90 + ["blue"] * 10)
    assert moved.kind == "categorical"
    assert moved.fails
    assert not compare(base, ["red"] * 51 + ["blue"] * 49).fails


def test_a_new_category_is_named_and_out_of_bounds(compare: Compare) -> None:
    found = compare(["a", "b"] * 50, ["a", "b"] * 45 + ["new"] * 10)
    assert value(found, metrics.OUT_OF_BOUNDS_RATE) == 0.1
    assert any("'new'" in note and "10 rows" in note for note in found.notes)


def test_integers_with_few_values_are_categories_as_in_azure(compare: Compare) -> None:
    assert compare([1, 2, 3] * 100, [1, 2, 3] * 50).kind == "categorical"
    assert compare(list(range(300)), list(range(300))).kind == "numeric"
    assert compare([1, 2, 3] * 100, [1, 2, 3] * 50, v="numeric").kind == "numeric"
    # Whole numbers are the same categories when a null has made them floats, or a CSV text.
    assert value(compare([1, 2, 3] * 100, [1.0, 2.0, 3.0, None] * 50), metrics.OUT_OF_BOUNDS_RATE) == 0


def test_booleans_times_and_texts_have_their_own_ways(compare: Compare) -> None:
    assert compare([True, False] * 20, [True] * 40).fails
    assert value(compare([True, False] * 20, ["true", "false", "maybe", "1"] * 10), metrics.TYPE_ERROR_RATE) == 0.25
    days = [dt.datetime(2026, 1, 1) + dt.timedelta(days=i) for i in range(60)]
    later = compare(days, [day + dt.timedelta(days=90) for day in days])
    assert later.kind == "time"
    assert value(later, metrics.WASSERSTEIN) == pytest.approx(90 / np.std(range(60), ddof=1))
    assert not later.fails
    assert compare(days, [day + dt.timedelta(days=90) for day in days], ["v=0.1"]).fails
    texts = [f"review number {i} {'x' * (i % 9)}" for i in range(200)]
    longer = compare(texts, [text * 3 for text in texts])
    assert longer.kind == "text"
    assert longer.fails
    assert longer.reading(metrics.OUT_OF_BOUNDS_RATE) is None


def test_times_written_as_text_are_times(compare: Compare) -> None:
    found = compare(["2026-01-01", "2026-01-03"] * 20, ["2026-01-02T00:00:00Z", "never"] * 20)
    assert found.kind == "time"
    assert value(found, metrics.TYPE_ERROR_RATE) == 0.5


def test_text_among_numbers_is_a_type_error_and_the_rest_is_compared(compare: Compare) -> None:
    found = compare([float(i) for i in range(100)], [str(i) for i in range(90)] + ["n/a?"] * 10)
    assert value(found, metrics.TYPE_ERROR_RATE) == 0.1
    assert value(found, metrics.WASSERSTEIN) < 0.3
    assert any("10 values are not numbers" in note for note in found.notes)


def test_a_column_of_another_kind_altogether_is_an_error_with_its_name(compare: Compare) -> None:
    with pytest.raises(AmlflowError, match=r"'v'.*numbers.*'red'"):
        compare([1.5, 2.5, 3.5], ["red", "blue", "red"])


def test_numbers_out_of_bounds_are_counted_on_both_sides(compare: Compare) -> None:
    found = compare([0.0, 10.0] * 5, [-1.0, 0.0, 5.0, 10.0, 11.0, float("inf"), float("nan"), 3.0, 4.0, 5.0])
    assert value(found, metrics.OUT_OF_BOUNDS_RATE) == 0.3
    assert value(found, metrics.NULL_RATE) == 0.1
    assert any("1 infinite" in note for note in found.notes)


@pytest.mark.parametrize(
    ("baseline", "sample", "said"),
    [
        ([1.5, 2.5], [None, None], "The data have no value"),
        ([None, None], [1.5, 2.5], "The baseline has no value"),
        (["a", "b"], pa.array([None, None], pa.string()), "The data have no value"),
        ([7.0] * 9, [7.0] * 9, "The baseline is constant"),
    ],
)
def test_empty_and_constant_columns_have_a_sentence(compare: Compare, baseline: Any, sample: Any, said: str) -> None:
    found = compare(baseline, sample)
    assert any(said in note for note in found.notes)
    assert not found.fails


def test_a_column_that_lost_all_its_values_is_bad_data(compare: Compare) -> None:
    base = [1.5, 2.5, None] * 20
    lost = compare(base, [None] * 20)
    assert lost.fails
    assert [reading.metric for reading in lost.readings if reading.fails] == [metrics.NULL_RATE]
    assert not lost.is_compared
    assert not compare(base, [None] * 20, ["nullValueRate=1"]).fails
    for asked in ([metrics.WASSERSTEIN], [metrics.OUT_OF_BOUNDS_RATE]):
        of_others = compare(base, [None] * 20, asked=asked)
        assert [reading.metric for reading in of_others.readings if reading.fails] == [metrics.NULL_RATE]
        assert not compare(base, [None] * 20, ["nullValueRate=1"], asked).fails
    # So few without a value are a chance, and so is nothing new where there never was one.
    assert not compare(base, [None] * 3).fails
    assert not compare([None] * 60, [None] * 20).fails


def test_azures_rates_are_shown_above_nought_and_fail_once_named(compare: Compare) -> None:
    base, sample = [1.5, 2.5, 3.5] * 20, [*([1.5, 2.5, 3.5] * 3), None] * 6
    shown = compare(base, sample).reading(metrics.NULL_RATE)
    assert shown is not None
    assert shown.crossed
    assert not shown.fails
    assert shown.baseline == 0
    assert compare(base, sample, ["nullValueRate=0.05"]).fails
    assert not compare(base, sample, ["null_value_rate=0.2"]).fails


def test_thresholds_by_metric_column_and_both(compare: Compare) -> None:
    base, sample = RNG.normal(size=500), RNG.normal(0.5, 1, size=500)
    assert not compare(base, sample, ["normalizedWassersteinDistance=2"]).fails
    assert not compare(base, sample, ["v=2"]).fails
    assert compare(base, sample, ["v=2", "v.normalizedWassersteinDistance=0.1"]).fails
    asked = compare(base, sample, asked=["population_stability_index"])
    assert [reading.metric for reading in asked.readings] == [metrics.POPULATION_STABILITY]
    assert asked.readings[0].threshold is not None
    for wrong in ("w=1", "v", "v=much", "v.nosuch=1", "v=-1"):
        with pytest.raises(UsageError):
            compare(base, sample, [wrong])
    with pytest.raises(UsageError, match="'jensenShannonDistance'"):
        thresholds.metric_name("jensenShanonDistance")


def test_tests_are_corrected_for_the_number_of_columns(tmp_path: Path) -> None:
    """Ten columns, of which one is at p = 0.02: alone that would be drift, among ten it is not."""
    rng = np.random.default_rng(0)
    base = {f"c{i}": np.arange(400.0) for i in range(10)}
    sample = {name: rng.permutation(400)[:200].astype(float) for name in base}
    shifted = next(shift for shift in range(400) if stats.ks_2samp(base["c0"], base["c0"][::2] + shift).pvalue < 0.025)
    sample["c0"] = base["c0"][::2] + shifted
    sides = [frames.of_table(pa.table(side), tmp_path / str(i), "t") for i, side in enumerate((base, sample))]
    limits = thresholds.parse(["twoSampleKolmogorovSmirnovTest"], [], list(base))
    data = [Data(sides[1], None, [Pair(name, name) for name in base])]
    report = drift.assess(sides[0], data, [windows.Window()], limits, {})[0]
    first = report.columns[0].readings[0]
    assert first.value < 0.05
    assert first.adjusted is not None
    assert first.adjusted > 0.05
    assert not first.crossed


def test_windows_are_compared_each_for_itself(tmp_path: Path) -> None:
    base = frames.of_table(pa.table({"v": RNG.normal(size=2000)}), tmp_path / "b", "b")
    values = np.append(np.column_stack([RNG.normal(2, 1, size=500), RNG.normal(size=500)]).ravel(), 1e9)
    data = frames.of_table(pa.table({"v": values}), tmp_path / "d", "d")
    # Rows of the windows stand among one another, and the last row lies in none.
    numbers = np.append(np.tile([1, 0], 500), -1)
    spans = windows.split(0, 3 * 86_400_000, 86_400_000)
    found = drift.assess(base, [Data(data, numbers, [Pair("v", "v")])], spans, thresholds.parse([], [], ["v"]), {})
    assert [window.rows for window in found] == [500, 500, 0]
    assert [bool(window.failing) for window in found] == [False, True, False]
    assert found[2].columns == []


def test_kinds_of_text_columns() -> None:
    def kind(values: list[Any]) -> str:
        return columns.kind_of(pa.chunked_array([pa.array(values, pa.string())]))

    assert kind(["1", "2.5", None, "-1e3"]) == "numeric"
    assert kind(["2026-01-01", "2026-01-02T10:00:00Z"]) == "time"
    assert kind(["red", "blue"] * 100) == "categorical"
    assert kind([f"text {i}" for i in range(100)]) == "text"
    assert kind([None, None]) == "categorical"
