from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from sklearn import metrics as peer

from amlflow.monitoring import estimates


# Newcombe, «Two-sided confidence intervals for the single proportion», Statist. Med. 17 (1998), table I, method 3.
@pytest.mark.parametrize(
    ("hits", "of", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilsons_interval_is_the_published_one(hits: int, of: int, low: float, high: float) -> None:
    found = estimates.wilson("accuracy", hits, of)
    assert (found.low, found.high) == pytest.approx((low, high), abs=5e-5)
    assert found.value == pytest.approx(hits / of)


def test_a_share_of_nothing_is_unknown() -> None:
    assert math.isnan(estimates.wilson("precision", 0, 0).value)


def test_no_hits_are_from_0_and_nothing_but_hits_up_to_1() -> None:
    ends = {
        (estimates.wilson("accuracy", 0, of).low, estimates.wilson("accuracy", of, of).high) for of in range(1, 200)
    }
    assert ends == {(0.0, 1.0)}


@pytest.mark.filterwarnings("error")
def test_an_infinite_answer_is_an_infinite_error() -> None:
    found = {item.metric: item for item in estimates.of_numbers(np.array([1.0, 2.0]), np.array([1.0, np.inf]))}
    assert found["rmse"].value == found["mae"].value == math.inf
    endless = {item.metric: item for item in estimates.of_numbers(np.array([1.0, np.inf]), np.array([1.0, 2.0]))}
    assert math.isnan(endless["r2"].value)


@pytest.fixture(scope="module", name="labels")
def _labels() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    truth = rng.choice(["a", "b", "c"], size=1500, p=[0.6, 0.3, 0.1])
    return truth, np.where(rng.random(1500) < 0.7, truth, rng.choice(["a", "b", "c"], size=1500))


def test_classes_are_scored_as_scikit_learn_does(labels: tuple[np.ndarray, np.ndarray]) -> None:
    truth, guess = labels
    found = {item.metric: item for item in estimates.of_labels(truth, guess, "", ["a", "b", "c"])}
    assert found["accuracy"].value == pytest.approx(peer.accuracy_score(truth, guess))
    for name, score in (("precision", peer.precision_score), ("recall", peer.recall_score), ("f1", peer.f1_score)):
        assert found[name].value == pytest.approx(score(truth, guess, average="macro"))
        assert found[name].low < found[name].value < found[name].high
    weighted = {item.metric: item for item in estimates.of_labels(truth, guess, "", ["a", "b", "c"], "weighted")}
    for name, score in (("precision", peer.precision_score), ("recall", peer.recall_score), ("f1", peer.f1_score)):
        assert weighted[name].value == pytest.approx(score(truth, guess, average="weighted"))
        assert weighted[name].low < weighted[name].value < weighted[name].high
    own = {item.metric: item for item in estimates.of_labels(truth, guess, "b", ["a", "b", "c"])}
    for name, score in (("precision", peer.precision_score), ("recall", peer.recall_score), ("f1", peer.f1_score)):
        assert own[name].value == pytest.approx(score(truth, guess, average=None, labels=["b"])[0])
    assert own["precision"].interval == "wilson"


def test_the_bootstrap_of_cells_is_that_of_rows(labels: tuple[np.ndarray, np.ndarray]) -> None:
    truth, guess = labels
    found = next(item for item in estimates.of_labels(truth, guess, "", ["a", "b", "c"]) if item.metric == "f1")
    rng = np.random.default_rng(5)
    drawn = []
    for _ in range(300):
        rows = rng.integers(0, len(truth), len(truth))
        drawn.append(peer.f1_score(truth[rows], guess[rows], average="macro"))
    low, high = np.percentile(drawn, [2.5, 97.5])
    assert found.high - found.low == pytest.approx(high - low, rel=0.2)
    assert found.low == pytest.approx(low, abs=0.01)


def test_the_area_under_the_curve_and_its_error() -> None:
    rng = np.random.default_rng(11)
    truth = rng.random(600) < 0.4
    scores = np.round(rng.normal(truth * 0.8, 1.0), 1)
    found = estimates.of_scores(truth, scores)
    assert found.value == pytest.approx(peer.roc_auc_score(truth, scores))
    drawn = []
    for _ in range(400):
        rows = rng.integers(0, 600, 600)
        drawn.append(peer.roc_auc_score(truth[rows], scores[rows]))
    assert (found.high - found.low) / (2 * 1.96) == pytest.approx(np.std(drawn), rel=0.2)
    assert math.isnan(estimates.of_scores(np.ones(3, bool), np.arange(3.0)).value)


def class_scores(truth: np.ndarray, seed: int) -> np.ndarray:
    """Probabilities of a, b and c, with ties."""
    rng = np.random.default_rng(seed)
    raw = np.exp(rng.normal((truth[:, None] == np.array(["a", "b", "c"])) * 0.9, 1.0)).round(1) + 0.1
    return raw / raw.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("average", ["macro", "weighted"])
def test_the_area_of_several_classes_and_its_error(
    labels: tuple[np.ndarray, np.ndarray], average: estimates.Average
) -> None:
    truth = labels[0]
    made = class_scores(truth, 4)

    def area(rows: Any) -> float:
        return float(peer.roc_auc_score(truth[rows], made[rows], multi_class="ovr", average=average))

    found = estimates.of_class_scores(truth, dict(zip("abc", made.T, strict=True)), average)
    assert found.value == pytest.approx(area(slice(None)), abs=1e-12)
    rng = np.random.default_rng(5)
    drawn = [area(rng.integers(0, len(truth), len(truth))) for _ in range(300)]
    assert (found.high - found.low) / (2 * 1.96) == pytest.approx(np.std(drawn), rel=0.15)
    assert math.isnan(estimates.of_class_scores(truth[:0], {"a": made[:0, 0]}, average).value)
    assert math.isnan(estimates.of_class_scores(np.array(["a", "b"]), dict.fromkeys("abc", np.ones(2)), average).value)


def test_many_classes_take_no_table_of_all_pairs() -> None:
    rng = np.random.default_rng(6)
    truth = np.array([f"c{i}" for i in rng.integers(0, 3000, 6000)])
    guess = np.where(rng.random(6000) < 0.5, truth, truth[::-1])
    found = {item.metric: item for item in estimates.of_labels(truth, guess, "", sorted({*truth, *guess}))}
    assert found["f1"].value == pytest.approx(peer.f1_score(truth, guess, average="macro"))


def test_quantities_are_scored_as_scikit_learn_does() -> None:
    rng = np.random.default_rng(2)
    truth = rng.normal(size=800) * 3
    guess = truth + rng.standard_t(5, size=800)
    found = {item.metric: item for item in estimates.of_numbers(truth, guess)}
    assert found["mae"].value == pytest.approx(peer.mean_absolute_error(truth, guess))
    assert found["rmse"].value == pytest.approx(peer.root_mean_squared_error(truth, guess))
    assert found["r2"].value == pytest.approx(peer.r2_score(truth, guess))
    assert found["mape"].value == pytest.approx(peer.mean_absolute_percentage_error(truth, guess))
    assert found["mape"].low < found["mape"].value < found["mape"].high
    zero = {item.metric: item for item in estimates.of_numbers(np.array([0.0, 1.0]), np.ones(2))}
    assert math.isnan(zero["mape"].value)
    drawn: dict[str, list[float]] = {"mae": [], "rmse": [], "r2": []}
    for _ in range(1000):
        rows = rng.integers(0, 800, 800)
        drawn["mae"].append(peer.mean_absolute_error(truth[rows], guess[rows]))
        drawn["rmse"].append(peer.root_mean_squared_error(truth[rows], guess[rows]))
        drawn["r2"].append(peer.r2_score(truth[rows], guess[rows]))
    for name, values in drawn.items():
        low, high = np.percentile(values, [2.5, 97.5])
        assert found[name].high - found[name].low == pytest.approx(high - low, rel=0.2), name


def test_a_constant_truth_has_no_r2_and_one_row_no_bounds() -> None:
    constant = {item.metric: item for item in estimates.of_numbers(np.ones(4), np.arange(4.0))}
    assert math.isnan(constant["r2"].value)
    single = {item.metric: item for item in estimates.of_numbers(np.array([1.0]), np.array([3.0]))}
    assert single["rmse"].value == 2.0
    assert single["rmse"].high == math.inf


def test_worse_is_told_by_the_metrics_direction() -> None:
    assert estimates.Estimate("accuracy", 0.8, 0.75, 0.85, "wilson").is_worse_than(0.9)
    assert not estimates.Estimate("accuracy", 0.8, 0.75, 0.85, "wilson").is_worse_than(0.84)
    assert estimates.Estimate("rmse", 2.0, 1.8, 2.2, "delta").is_worse_than(1.7)
    assert not estimates.Estimate("rmse", 2.0, 1.8, 2.2, "delta").is_worse_than(2.5)
