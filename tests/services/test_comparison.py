from __future__ import annotations

import math

import pytest

from amlflow.services.comparison import best_positions
from amlflow.services.directions import direction


@pytest.mark.parametrize(
    ("metric", "way"),
    [
        ("rmse", "lower"),
        ("val_loss", "lower"),
        ("valLoss", "lower"),
        ("training_log_loss", "lower"),
        ("error_rate", "lower"),
        ("test.mean_absolute_error", "lower"),
        ("false_positive_rate", "lower"),
        ("latency_ms", "lower"),
        ("accuracy", "higher"),
        ("val/acc", "higher"),
        ("f1-score", "higher"),
        ("roc_auc", "higher"),
        ("R2", "higher"),
        ("training_score", "higher"),
        ("neg_mean_squared_error", "higher"),
        ("epoch", "unknown"),
        ("lossless", "unknown"),
        ("system/cpu_utilization_percentage", "unknown"),
    ],
)
def test_the_direction_is_read_from_the_words_of_the_name(metric: str, way: str) -> None:
    assert direction(metric) == way


def test_what_the_user_says_wins() -> None:
    assert direction("accuracy", lower=["accuracy"]) == "lower"
    assert direction("epoch", higher=["epoch"]) == "higher"


def test_the_best_is_marked_only_where_there_is_a_choice() -> None:
    assert best_positions([3.0, 1.0, 2.0], "lower") == {1}
    assert best_positions([3.0, 1.0, 3.0], "higher") == {0, 2}
    assert best_positions([1.0, 1.0], "lower") == frozenset()
    assert best_positions([1.0, 2.0], "unknown") == frozenset()
    assert best_positions([math.nan, 2.0, None, 1.0], "lower") == {3}
    assert best_positions([math.nan, 2.0], "lower") == frozenset()
