"""Metrics of predictions against the truth, each with a 95 % confidence interval; every docstring names where that comes from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

Task = Literal["classification", "regression"]
Array = Any

LOWER_IS_BETTER = ("mae", "rmse")
# The 97.5 % point of the standard normal distribution.
_Z = 1.959963984540054
_DRAWS, _SEED = 1000, 0


@dataclass(frozen=True, slots=True)
class Estimate:
    """A metric's value, the interval from `low` to `high`, and the way it was made: wilson, bootstrap, hanley-mcneil, delta
    or normal. All are NaN where the rows tell nothing, as with the recall of a class that no row has."""

    metric: str
    value: float
    low: float
    high: float
    interval: str

    def is_worse_than(self, before: float) -> bool:
        """Whether the value that was logged before lies beyond the interval, on its better side."""
        return self.low > before if self.metric in LOWER_IS_BETTER else self.high < before


def of_labels(truth: Sequence[str], predicted: Sequence[str], positive: str, labels: Sequence[str]) -> list[Estimate]:
    """Accuracy, precision, recall and F1: of the class `positive`, or the plain mean over all classes where it is empty
    (macro)."""
    import numpy as np

    place = {label: index for index, label in enumerate(labels)}
    rows = np.array([place[label] for label in truth])
    columns = np.array([place[label] for label in predicted])
    table: Array = np.zeros((len(labels), len(labels)), dtype=np.int64)
    np.add.at(table, (rows, columns), 1)
    hits = int(np.trace(table))
    found = [wilson("accuracy", hits, len(rows))]
    if positive:
        at = place[positive]
        right = int(table[at, at])
        found.append(wilson("precision", right, int(table[:, at].sum())))
        found.append(wilson("recall", right, int(table[at].sum())))
        return [*found, *_bootstrapped(table, ["f1"], at)]
    return [*found, *_bootstrapped(table, ["precision", "recall", "f1"], None)]


def wilson(metric: str, hits: int, of: int) -> Estimate:
    """The score interval of a share (Wilson, JASA 22, 1927): (p + z²/2n ± z sqrt(p(1-p)/n + z²/4n²)) / (1 + z²/n)."""
    if of == 0:
        return Estimate(metric, math.nan, math.nan, math.nan, "wilson")
    share, more = hits / of, _Z**2 / of
    middle = (share + more / 2) / (1 + more)
    half = _Z * math.sqrt(share * (1 - share) / of + more / (4 * of)) / (1 + more)
    return Estimate(metric, share, max(0.0, middle - half), min(1.0, middle + half), "wilson")


def of_scores(truth: Array, scores: Array) -> Estimate:
    """The area under the ROC curve: the chance that a positive row (`truth` is a mask) has the higher score, a tie counting
    half. Its standard error is that of Hanley and McNeil (Radiology 143, 1982)."""
    import numpy as np

    positive, negative = int(truth.sum()), int((~truth).sum())
    if not positive or not negative:
        return Estimate("auc", math.nan, math.nan, math.nan, "hanley-mcneil")
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = np.cumsum(counts) - (counts - 1) / 2
    area = float((ranks[inverse][truth].sum() - positive * (positive + 1) / 2) / (positive * negative))
    q1, q2 = area / (2 - area), 2 * area**2 / (1 + area)
    spread = area * (1 - area) + (positive - 1) * (q1 - area**2) + (negative - 1) * (q2 - area**2)
    half = _Z * math.sqrt(max(0.0, spread) / (positive * negative))
    return Estimate("auc", area, max(0.0, area - half), min(1.0, area + half), "hanley-mcneil")


def of_numbers(truth: Array, predicted: Array) -> list[Estimate]:
    """MAE, RMSE and R². The interval of the mean absolute error is the normal one of a mean; those of the other two come
    from it by the delta method (Cramér, «Mathematical Methods of Statistics», 1946, ch. 27-28): for RMSE the root of the
    mean squared error's, for R² = 1 - MSE / Var the spread of each row's part in it, (MSE (y - mean)² / Var - e²) / Var."""
    import numpy as np

    errors = truth - predicted
    squares, count = errors**2, len(truth)
    low, high = _around(float(squares.mean()), _spread(squares), count)
    mae = float(np.abs(errors).mean())
    found = [
        Estimate("mae", mae, *_around(mae, _spread(np.abs(errors)), count, least=0.0), "normal"),
        Estimate("rmse", math.sqrt(squares.mean()), math.sqrt(max(0.0, low)), math.sqrt(high), "delta"),
    ]
    away = (truth - truth.mean()) ** 2
    variance = float(away.mean())
    if variance == 0:
        return [*found, Estimate("r2", math.nan, math.nan, math.nan, "delta")]
    r2 = 1 - float(squares.mean()) / variance
    parts = (float(squares.mean()) * away / variance - squares) / variance
    return [*found, Estimate("r2", r2, *_around(r2, _spread(parts), count, most=1.0), "delta")]


def _around(
    value: float, spread: float, count: int, least: float = -math.inf, most: float = math.inf
) -> tuple[float, float]:
    half = _Z * spread / math.sqrt(count)
    return max(least, value - half), min(most, value + half)


def _spread(values: Array) -> float:
    """One row alone says nothing of how far others lie."""
    return float(values.std(ddof=1)) if len(values) > 1 else math.inf


def _bootstrapped(table: Array, names: Sequence[str], positive: int | None) -> list[Estimate]:
    """Percentile intervals of 1,000 resamples (Efron, Ann. Statist. 7, 1979) with the seed 0. To draw rows with replacement
    is to draw the cells of the table of truth by prediction from a multinomial distribution, which costs the same for any
    number of rows."""
    import numpy as np

    rows, columns = np.nonzero(table)
    weights = table[rows, columns]
    total = int(weights.sum())
    draws = np.random.default_rng(_SEED).multinomial(total, weights / total, size=_DRAWS)
    size = len(table)
    own = _scores(weights[None, :], rows, columns, size, positive)
    drawn = _scores(draws, rows, columns, size, positive)
    found = []
    for name in names:
        low, high = (
            np.nanpercentile(drawn[name], [2.5, 97.5]) if np.isfinite(drawn[name]).any() else (math.nan, math.nan)
        )
        found.append(Estimate(name, float(own[name][0]), float(low), float(high), "bootstrap"))
    return found


def _scores(draws: Array, rows: Array, columns: Array, size: int, positive: int | None) -> dict[str, Array]:
    """Precision, recall and F1 of each draw. A class that is in neither truth nor prediction of a draw has no part in its
    mean."""
    import numpy as np

    classes = np.arange(size)
    right = draws @ ((rows == columns)[:, None] & (rows[:, None] == classes))
    true, guessed = draws @ (rows[:, None] == classes), draws @ (columns[:, None] == classes)
    with np.errstate(divide="ignore", invalid="ignore"):
        f1 = 2 * right / (true + guessed)
        there = (true + guessed) > 0
        precision = np.where(guessed > 0, right / guessed, np.where(there, 0.0, np.nan))
        recall = np.where(true > 0, right / true, np.where(there, 0.0, np.nan))
    found = {"precision": precision, "recall": recall, "f1": f1}
    if positive is not None:
        return {name: values[:, positive] for name, values in found.items()}
    with np.errstate(invalid="ignore"):
        return {name: np.nansum(values, axis=1) / there.sum(axis=1) for name, values in found.items()}
