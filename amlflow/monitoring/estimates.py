"""Metrics of predictions against the truth, each with a 95 % confidence interval; every docstring names where that comes from."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Task = Literal["classification", "regression"]
# Over classes: the plain mean, or one weighted by how many rows are truly of each.
Average = Literal["macro", "weighted"]
Array = Any

LOWER_IS_BETTER = ("mae", "rmse", "mape")
# The 97.5 % point of the standard normal distribution.
_Z = 1.959963984540054
_DRAWS, _SEED = 1000, 0
# So many numbers of draws are held at once.
_DRAWN_AT_ONCE = 2**22


@dataclass(frozen=True, slots=True)
class Estimate:
    """A metric's value, the interval from `low` to `high`, and the way it was made: wilson, bootstrap, hanley-mcneil, delong,
    delta or normal. All are NaN where the rows tell nothing, as with the recall of a class that no row has."""

    metric: str
    value: float
    low: float
    high: float
    interval: str

    def is_worse_than(self, before: float) -> bool:
        """Whether the value that was logged before lies beyond the interval, on its better side."""
        return self.low > before if self.metric in LOWER_IS_BETTER else self.high < before


def of_labels(
    truth: Sequence[str],
    predicted: Sequence[str],
    positive: str,
    labels: Sequence[str],
    average: Average = "macro",
) -> list[Estimate]:
    """Accuracy, precision, recall and F1: of the class `positive`, or the mean over all classes where it is empty."""
    import numpy as np

    place = {label: index for index, label in enumerate(labels)}
    rows = np.array([place[label] for label in truth])
    columns = np.array([place[label] for label in predicted])
    cells, weights = np.unique(rows * len(labels) + columns, return_counts=True)
    table = _Table(cells // len(labels), cells % len(labels), weights, len(labels))
    found = [wilson("accuracy", int(np.count_nonzero(rows == columns)), len(rows))]
    if positive:
        at = place[positive]
        right = int(np.count_nonzero((rows == at) & (columns == at)))
        found.append(wilson("precision", right, int(np.count_nonzero(columns == at))))
        found.append(wilson("recall", right, int(np.count_nonzero(rows == at))))
        return [*found, *_bootstrapped(table, ["f1"], at, average)]
    return [*found, *_bootstrapped(table, ["precision", "recall", "f1"], None, average)]


def wilson(metric: str, hits: int, of: int) -> Estimate:
    """The score interval of a share (Wilson, JASA 22, 1927): (p + z²/2n ± z sqrt(p(1-p)/n + z²/4n²)) / (1 + z²/n)."""
    if of == 0:
        return Estimate(metric, math.nan, math.nan, math.nan, "wilson")
    share, more = hits / of, _Z**2 / of
    middle = (share + more / 2) / (1 + more)
    half = _Z * math.sqrt(share * (1 - share) / of + more / (4 * of)) / (1 + more)
    # Of no hits the lower end is 0, and of nothing but hits the upper one 1, but for rounding.
    low, high = middle - half if hits else 0.0, middle + half if hits < of else 1.0
    return Estimate(metric, share, max(0.0, low), min(1.0, high), "wilson")


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


def of_class_scores(truth: Array, scores: Mapping[str, Array], average: Average = "macro") -> Estimate:
    """The mean over the classes in `scores` of each one's area under the ROC curve against all others, as scikit-learn's
    `roc_auc_score(multi_class="ovr")` has it; NaN where one of them is the truth of no row, or of every row. The standard error
    is that of the areas' structural components, which are summed over the classes row by row, since the classes share their rows
    (DeLong, DeLong and Clarke-Pearson, Biometrics 44, 1988)."""
    import numpy as np

    count = len(truth)
    masks = {label: truth == label for label in scores}
    shares = {label: np.count_nonzero(mask) / max(1, count) for label, mask in masks.items()}
    if any(share in (0.0, 1.0) for share in shares.values()):
        return Estimate("auc", math.nan, math.nan, math.nan, "delong")
    areas: dict[str, float] = {}
    parts: Array = np.zeros(count)
    for label, mask in masks.items():
        weight = shares[label] if average == "weighted" else 1 / len(masks)
        placed = _placements(mask, scores[label])
        areas[label] = float(placed[mask].mean())
        parts += weight * (placed - areas[label]) / np.where(mask, shares[label], 1 - shares[label])
        if average == "weighted":
            # The weights are estimates, too.
            parts += (mask - shares[label]) * areas[label]
    value = sum(areas[label] * (shares[label] if average == "weighted" else 1 / len(areas)) for label in areas)
    half = _Z * math.sqrt(float((parts**2).sum())) / count
    return Estimate("auc", value, max(0.0, value - half), min(1.0, value + half), "delong")


def _placements(mask: Array, scores: Array) -> Array:
    """For each row of the mask the share of the others that it is above, and for each other the share of the mask's that are
    above it; a tie counts half."""
    import numpy as np

    placed: Array = np.empty(len(scores))
    for own, sign in ((mask, 1), (~mask, -1)):
        others = np.sort(sign * scores[~own])
        wanted = sign * scores[own]
        below = np.searchsorted(others, wanted, side="left") + np.searchsorted(others, wanted, side="right")
        placed[own] = below / (2 * len(others))
    return placed


def of_numbers(truth: Array, predicted: Array) -> list[Estimate]:
    """MAE, RMSE, MAPE (a share: 0.1 is ten percent; NaN where a true value is nought) and R². The intervals of the mean
    absolute errors are the normal ones of a mean; those of the other two come from it by the delta method (Cramér,
    «Mathematical Methods of Statistics», 1946, ch. 27-28): for RMSE the root of the mean squared error's, for R² = 1 - MSE / Var
    the spread of each row's part in it, (MSE (y - mean)² / Var - e²) / Var."""
    import numpy as np

    # Infinite answers make infinite errors, and intervals that are no numbers.
    with np.errstate(invalid="ignore", over="ignore"):
        return _of_numbers(truth, predicted)


def _of_numbers(truth: Array, predicted: Array) -> list[Estimate]:
    import numpy as np

    errors = truth - predicted
    squares, count = errors**2, len(truth)
    low, high = _around(float(squares.mean()), _spread(squares), count)
    mae = float(np.abs(errors).mean())
    found = [
        Estimate("mae", mae, *_around(mae, _spread(np.abs(errors)), count, least=0.0), "normal"),
        Estimate("rmse", math.sqrt(squares.mean()), math.sqrt(max(0.0, low)), math.sqrt(high), "delta"),
    ]
    if truth.all():
        shares = np.abs(errors / truth)
        mape = float(shares.mean())
        found.append(Estimate("mape", mape, *_around(mape, _spread(shares), count, least=0.0), "normal"))
    else:
        found.append(Estimate("mape", math.nan, math.nan, math.nan, "normal"))
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


@dataclass(frozen=True, slots=True)
class _Table:
    """How often which truth met which prediction: the cells that are not empty, of so many `classes` each way."""

    truth: Array
    predicted: Array
    counts: Array
    classes: int


def _bootstrapped(table: _Table, names: Sequence[str], positive: int | None, average: Average) -> list[Estimate]:
    """Percentile intervals of 1,000 resamples (Efron, Ann. Statist. 7, 1979) with the seed 0. To draw rows with replacement
    is to draw the cells of the table of truth by prediction from a multinomial distribution, which costs the same for any
    number of rows."""
    import numpy as np

    total = int(table.counts.sum())
    own = _scores(table, table.counts[None, :], positive, average)
    rng = np.random.default_rng(_SEED)
    drawn: dict[str, list[Array]] = {name: [] for name in names}
    at_once = max(1, _DRAWN_AT_ONCE // max(len(table.counts), table.classes))
    for start in range(0, _DRAWS, at_once):
        draws = rng.multinomial(total, table.counts / total, size=min(at_once, _DRAWS - start))
        scores = _scores(table, draws, positive, average)
        for name in names:
            drawn[name].append(scores[name])
    found = []
    for name in names:
        values = np.concatenate(drawn[name])
        low, high = np.nanpercentile(values, [2.5, 97.5]) if np.isfinite(values).any() else (math.nan, math.nan)
        found.append(Estimate(name, float(own[name][0]), float(low), float(high), "bootstrap"))
    return found


def _scores(table: _Table, draws: Array, positive: int | None, average: Average) -> dict[str, Array]:
    """Precision, recall and F1 of each draw. A class that is in neither truth nor prediction of a draw has no part in its
    mean."""
    import numpy as np

    hits = table.truth == table.predicted
    right = _by_class(draws[:, hits], table.truth[hits], table.classes)
    true, guessed = (_by_class(draws, side, table.classes) for side in (table.truth, table.predicted))
    with np.errstate(divide="ignore", invalid="ignore"):
        f1 = 2 * right / (true + guessed)
        there = (true + guessed) > 0
        precision = np.where(guessed > 0, right / guessed, np.where(there, 0.0, np.nan))
        recall = np.where(true > 0, right / true, np.where(there, 0.0, np.nan))
    found = {"precision": precision, "recall": recall, "f1": f1}
    if positive is not None:
        return {name: values[:, positive] for name, values in found.items()}
    weights = there if average == "macro" else true
    with np.errstate(invalid="ignore"):
        return {name: np.nansum(values * weights, axis=1) / weights.sum(axis=1) for name, values in found.items()}


def _by_class(draws: Array, classes: Array, count: int) -> Array:
    """Each draw's sum of the cells of each class."""
    import numpy as np

    found: Array = np.zeros((len(draws), count), dtype=np.int64)
    if len(classes):
        order = np.argsort(classes, kind="stable")
        present, starts = np.unique(classes[order], return_index=True)
        found[:, present] = np.add.reduceat(draws[:, order], starts, axis=1)
    return found
