"""Categories that two columns write in different ways."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from amlflow.errors import AmlflowError, UsageError
from amlflow.monitoring import drift, frames, metrics, performance, thresholds, windows
from amlflow.monitoring.drift import ColumnReport, Data, Pair
from amlflow.monitoring.performance import Joined, Names

Compare = Callable[[Any, Any], ColumnReport]
Score = Callable[[Any, Any], Joined]
ZERO_ONE = [Decimal("0.00"), Decimal("1.00")]


@pytest.fixture(name="compare")
def _compare(tmp_path: Path) -> Compare:
    def run(baseline: Any, sample: Any) -> ColumnReport:
        sides = [
            frames.of_table(pa.table({"v": side}), tmp_path / str(i), "t") for i, side in enumerate((baseline, sample))
        ]
        data = [Data(sides[1], None, [Pair("v", "v")])]
        return drift.assess(sides[0], data, [windows.Window()], thresholds.parse([], [], ["v"]), {})[0].columns[0]

    return run


@pytest.fixture(name="score")
def _score(tmp_path: Path) -> Score:
    """Predictions and truths of the same rows, joined as classes."""

    def run(predicted: Any, truth: Any) -> Joined:
        made = [pa.table({"id": range(len(side)), "v": side}) for side in (predicted, truth)]
        sides = [frames.of_table(table, tmp_path / str(i), "t") for i, table in enumerate(made)]
        return performance.join(sides[0], sides[1], Names("id", "id", "v", "v"), "classification")

    return run


@pytest.mark.parametrize(
    ("predicted", "truth"),
    [
        ([0, 1], [False, True]),
        ([False, True], [0.0, 1.0]),
        ([0, 1], ["false", "True"]),
        (["0", "1"], ["False", "True"]),
        ([False, True], ["no", "yes"]),
        (["true", "false"], ["True", "False"]),
        ([0, 1], ZERO_ONE),
        (["0", "1"], ZERO_ONE),
        ([0, 1], ["0.0", "1.0"]),
        ([0.0, 1.0], ["0", "1.00"]),
        ([7, 10], ["07", "10"]),
        ([0.5, 1.5], [Decimal("0.50"), Decimal("1.50")]),
        (["a", "b"], ["a", "b"]),
    ],
)
def test_equal_classes_are_equal_however_they_are_written(score: Score, predicted: Any, truth: Any) -> None:
    for one, other in ((predicted, truth), (truth, predicted)):
        found = score(one * 5, other * 5)
        assert found.truth.tolist() == found.predicted.tolist()
        assert len(set(found.truth)) == 2
        assert performance.evaluate(found, [windows.Window()], None, "")[0].estimates[0].value == 1.0


@pytest.mark.parametrize("classes", [("0", "1"), ("no", "yes")])
def test_a_class_is_asked_for_as_either_side_writes_it(tmp_path: Path, classes: tuple[str, str]) -> None:
    rows = {"id": range(8), "v": [0, 1] * 4, "p0": [0.9, 0.2, 0.8, 0.6, 0.7, 0.1, 0.3, 0.4]}
    rows["p1"] = [1 - value for value in rows["p0"]]
    data = frames.of_table(pa.table(rows), tmp_path / "data", "d")
    truth = frames.of_table(pa.table({"id": range(8), "v": ["no", "yes"] * 4}), tmp_path / "truth", "t")
    names = Names("id", "id", "v", "v", dict(zip(classes, ("p0", "p1"), strict=True)))
    found = performance.join(data, truth, names, None)
    positive = performance.positive_label(found, classes[1])
    assert positive == "1"
    shown = performance.evaluate(found, [windows.Window()], None, positive)[0].estimates
    assert {item.metric: item.value for item in shown}["auc"] == 14 / 16
    with pytest.raises(UsageError, match="There is no class 'Yes'"):
        performance.positive_label(found, "Yes")
    with pytest.raises(UsageError, match="names the class '0' twice"):
        performance.join(data, truth, Names("id", "id", "v", "v", {"0": "p0", "no": "p1", "yes": "p1"}), None)


def test_codes_of_text_stay_apart_on_both_sides(score: Score) -> None:
    found = score(["01", "1", "1.0"] * 5, ["1", "01", "1.0"] * 5)
    assert set(found.truth) == set(found.predicted) == {"01", "1", "1.0"}
    assert performance.evaluate(found, [windows.Window()], None, "")[0].estimates[0].value == pytest.approx(1 / 3)
    # Where zeros tell two classes apart, no number is one of both.
    assert set(score([1, 2], ["01", "1"]).truth) == {"01", "1"}


@pytest.mark.parametrize(
    ("predicted", "truth", "said"),
    [
        (["cat", "dog"], ["chat", "chien"], "'v' holds 'chat', 'chien', and 'v' 'cat', 'dog'"),
        ([0, 1, 2], [True, False, True], "'v' holds 'true', 'false', and 'v' '0', '1', '2'"),
        ([1, 1], ["good", "good"], "'v' holds 'good', and 'v' '1'"),
    ],
)
def test_sides_without_a_class_in_common_are_an_error(score: Score, predicted: Any, truth: Any, said: str) -> None:
    with pytest.raises(AmlflowError, match=said):
        score(predicted, truth)


def test_few_rows_that_are_all_wrong_are_a_finding(score: Score) -> None:
    found = score(["a", "a"], ["b", "b"])
    assert found.truth.tolist() == ["b", "b"]
    assert any("No prediction is right" in note and "'a'" in note and "'b'" in note for note in found.notes)


@pytest.mark.parametrize(
    ("baseline", "sample"),
    [
        ([True, False], ["True", "False"]),
        (["True", "False"], [True, False]),
        ([0, 1], [False, True]),
        ([True, False], ["1.0", "0.0"]),
        ([1, 2], ["1.0", "2.0"]),
        ([1, 2], [Decimal("1.00"), Decimal("2.00")]),
        (["True", "False", "unknown"], [True, False]),
        (["01000", "02000"], [1000, 2000]),
    ],
)
def test_the_same_categories_do_not_drift_however_they_are_written(
    compare: Compare, baseline: Any, sample: Any
) -> None:
    report = compare(baseline * 100, sample * 100)
    assert report.kind in ("categorical", "boolean")
    rates = {reading.metric: reading.value for reading in report.readings}
    assert rates[metrics.OUT_OF_BOUNDS_RATE] == rates[metrics.TYPE_ERROR_RATE] == 0
    assert rates[metrics.JENSEN_SHANNON] < 0.5
    assert not any("New categories" in note for note in report.notes)


@pytest.mark.parametrize(
    "baseline",
    [[f"{i:05}" for i in range(500, 2500)], [*map(str, range(3000, 5000)), "00500"]],
    ids=["all padded", "one padded"],
)
def test_padded_numbers_that_hardly_repeat_drift_by_their_values(compare: Compare, baseline: list[str]) -> None:
    moved = [value + 50_000 for value in range(2000)]
    for sample in (moved, [f"{value:07}" for value in moved]):
        found = compare(baseline, sample)
        assert (found.kind, found.fails) == ("numeric", True)
    assert not compare(baseline, [*map(int, baseline)]).fails


def test_padding_alone_makes_no_classes(tmp_path: Path) -> None:
    def task(values: list[str]) -> str:
        sides = [frames.of_table(pa.table({"id": range(len(values)), "v": values}), tmp_path, "t") for _ in range(2)]
        return performance.join(sides[0], sides[1], Names("id", "id", "v", "v"), None).task

    assert task([f"{i % 40:06}" for i in range(400)]) == "regression"
    assert task([f"{i % 4:06}" for i in range(400)]) == "classification"
    assert task([f"0{i % 40}x" for i in range(400)]) == "classification"


def test_text_that_differs_from_text_is_another_category(compare: Compare) -> None:
    assert any("'1'" in note for note in compare(["01", "02"] * 50, ["1", "02"] * 50).notes)
