"""Predictions joined to what came true, and the task's metrics of each window of time."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from amlflow.errors import AmlflowError, UsageError, nearest
from amlflow.monitoring import columns, estimates, ids, windows
from amlflow.monitoring.columns import Values
from amlflow.monitoring.estimates import Average, Estimate, Task
from amlflow.monitoring.frames import Frame
from amlflow.monitoring.windows import Window

Array = Any
_SHOWN = 3
# A number of whole values, and few of them, are classes; any other number is a quantity.
_MOST_CLASSES = 20
_TRUE_LABELS = ("1", "true", "yes", "y", "positive", "pos")


@dataclass(frozen=True, slots=True)
class Names:
    """Which column is what: in the data `join`, `prediction` and, for the area under the curve, `scores`: the column of each
    class's probability, or the positive one's alone under the empty name; in the truth `truth_join` and `target`."""

    join: str
    truth_join: str
    prediction: str
    target: str
    scores: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Joined:
    """Rows of the data (by their places in it) that have a truth, with both values as labels or numbers, and the `scores` by
    class as `Names` has them. `spelling` is what a class that the truth writes in another way is called."""

    task: Task
    places: Array
    truth: Array
    predicted: Array
    scores: Mapping[str, Array]
    notes: Sequence[str]
    spelling: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Logged:
    """The metric of the training run that a metric is held against."""

    key: str
    value: float


@dataclass(frozen=True, slots=True)
class PerformanceWindow:
    window: Window
    rows: int
    estimates: Sequence[Estimate]


@dataclass(frozen=True, slots=True)
class PerformanceReport:
    """`before` holds, by metric, what the training run has logged; `positive` is the class that was taken for the positive
    one, empty where the metrics are a mean over all classes, by `average`."""

    data: str
    truth: str
    task: Task
    windows: Sequence[PerformanceWindow]
    notes: Sequence[str]
    positive: str = ""
    average: Average = "macro"
    before: Mapping[str, Logged] = field(default_factory=dict)
    baseline: str = ""

    def is_worse(self, estimate: Estimate) -> bool:
        known = self.before.get(estimate.metric)
        return known is not None and estimate.is_worse_than(known.value)

    @property
    def worse(self) -> list[str]:
        """Metrics that are worse than the training run's in any window, surely so at 95 %."""
        return list(
            dict.fromkeys(item.metric for window in self.windows for item in window.estimates if self.is_worse(item))
        )


def join(data: Frame, truth: Frame, names: Names, task: Task | None) -> Joined:
    """Each row of the data with the truth of the same id. Raises `AmlflowError` where none has one, or an id has two truths, or
    where the truth knows other classes than the predictions, and `UsageError` where they do not have a score each."""
    import numpy as np
    import pyarrow.compute as pc

    found = ids.of(data, names.join, truth, names.truth_join)
    places = pc.index_in(found.data, value_set=found.truth.combine_chunks(), skip_nulls=True)
    matched = places.is_valid().to_numpy().astype(bool)
    if not matched.any():
        raise AmlflowError(
            f"No row of {data.label} has a truth in {truth.label}: {names.join!r} holds {ids.examples(found.data)}, and "
            f"{names.truth_join!r} of the truth {ids.examples(found.truth)}.",
            "Join by the column that both have in common: --join ID, or --join COLUMN=TRUTH_COLUMN.",
        )
    rows = np.flatnonzero(matched)
    of_truth = places.drop_null().to_numpy()
    predicted = data.column(names.prediction).take(rows)
    target = truth.column(names.target).take(of_truth)
    task = task or _task(target, predicted)
    notes = [f"{len(rows)} of {data.rows} predictions have a truth.", *found.notes]
    kind: columns.Kind = "numeric" if task == "regression" else "categorical"
    sides = [columns.values(column, kind) for column in (target, predicted)]
    for name, side in zip((names.target, names.prediction), sides, strict=True):
        if wrong := int(side.errors.sum()):
            raise AmlflowError(
                f"The column {name!r} has {wrong} values that are no numbers, and the task is regression.",
                "Say --task classification for classes.",
            )
    there = ~(sides[0].nulls | sides[1].nulls)
    if not there.all():
        notes.append(f"{int((~there).sum())} rows without a prediction or a truth are left out.")
    spelling = sides[0].spelling(sides[1])
    if task == "regression":
        truths, guesses = (side.numbers[there] for side in sides)
    else:
        sides[0] = sides[0].spelled_as(sides[1])
        _check_classes(names, sides[0], sides[1], notes)
        truths, guesses = (np.array([*side.labels, ""], dtype=object)[side.codes][there] for side in sides)
    scores = {label: _scores(data, name, rows[there]) for label, name in _spelled(names.scores, spelling).items()}
    if task == "classification":
        scores = _of_known_classes(scores, truths, notes)
    return Joined(task, rows[there], truths, guesses, scores, notes, spelling)


def evaluate(
    joined: Joined, spans: Sequence[Window], numbers: Array | None, positive: str, average: Average = "macro"
) -> list[PerformanceWindow]:
    """`spans` are the windows, and `numbers` says which of them each of the data's rows lies in, as `windows.numbers` has them,
    None for all in one. Empty windows have no estimates."""
    labels = sorted({*joined.truth, *joined.predicted}) if joined.task == "classification" else []
    order = windows.in_order(None if numbers is None else numbers[joined.places], len(joined.places), len(spans))
    found = []
    for index, window in enumerate(spans):
        chosen = order.rows(index) if order.places is None else order.places[order.rows(index)]
        truth, predicted = joined.truth[chosen], joined.predicted[chosen]
        shown: list[Estimate] = []
        if len(truth) and joined.task == "regression":
            shown = estimates.of_numbers(truth, predicted)
        elif len(truth):
            shown = estimates.of_labels(truth, predicted, positive, labels, average)
            scores = {label: values[chosen] for label, values in joined.scores.items()}
            of_positive = scores.get(positive, scores.get("")) if positive else None
            if of_positive is not None:
                shown.append(estimates.of_scores(truth == positive, of_positive))
            elif scores and "" not in scores:
                shown.append(estimates.of_class_scores(truth, scores, average))
        found.append(PerformanceWindow(window, len(truth), shown))
    return found


def positive_label(joined: Joined, asked: str) -> str:
    """The class that precision and recall are of: the one asked for; of two classes the one that is called 1, true or yes.
    Empty for the mean of all. Raises `UsageError` for a class that is not there."""
    if joined.task == "regression":
        return ""
    labels = sorted({*joined.truth, *joined.predicted})
    asked = joined.spelling.get(asked, asked)
    if asked and asked not in labels:
        near = nearest(asked, labels)
        raise UsageError(
            f"There is no class {asked!r}.{f' Did you mean {near}?' if near else ''}",
            f"Classes: {', '.join(labels[:20])}.",
        )
    if asked or len(labels) > 2:
        return asked
    return next((label for label in labels if label.lower() in _TRUE_LABELS), "")


def logged_before(run_metrics: Mapping[str, float], said: Mapping[str, str], task: Task) -> dict[str, Logged]:
    """The training run's metric for each of ours: what the user says, else one of a usual name. Values on data that the
    model has not seen are preferred to those of its training. Raises `UsageError` for a metric that the run has not logged."""
    found: dict[str, Logged] = {}
    usual = _USUAL[task]
    for metric, key in said.items():
        if metric not in usual or key not in run_metrics:
            what, known = (metric, list(usual)) if metric not in usual else (key, sorted(run_metrics))
            near = nearest(what, known)
            raise UsageError(
                f"--against {metric}={key}: there is no metric {what!r}.{f' Did you mean {near}?' if near else ''}",
                f"Known: {', '.join(known[:20]) or 'none'}.",
            )
        found[metric] = Logged(key, run_metrics[key])
    for metric, suffixes in usual.items():
        ranked = [(rank, key) for key in run_metrics if (rank := _rank(key, suffixes)) is not None]
        if metric not in found and ranked:
            key = min(ranked)[1]
            if not math.isnan(run_metrics[key]):
                found[metric] = Logged(key, run_metrics[key])
    return found


# How metrics are called, MLflow's own autologging and evaluation included.
_USUAL: Mapping[Task, Mapping[str, Sequence[str]]] = {
    "classification": {
        "accuracy": ("accuracy", "accuracy_score", "acc"),
        "precision": ("precision", "precision_score"),
        "recall": ("recall", "recall_score"),
        "f1": ("f1", "f1_score"),
        "auc": ("auc", "roc_auc", "roc_auc_score", "roc_auc_ovr", "auroc"),
    },
    "regression": {
        "mae": ("mae", "mean_absolute_error"),
        "mape": ("mape", "mean_absolute_percentage_error"),
        "rmse": ("rmse", "root_mean_squared_error"),
        "r2": ("r2", "r2_score"),
    },
}
_UNSEEN = ("test", "holdout", "eval", "evaluation", "val", "valid", "validation")
_SEEN = ("training", "train")


def _rank(key: str, suffixes: Sequence[str]) -> int | None:
    """How good a match the key of a metric is, 0 the best; None for another metric."""
    plain = key.lower().replace("-", "_").replace("/", "_").replace(".", "_").replace(" ", "_")
    for suffix in suffixes:
        if plain == suffix:
            return len(_UNSEEN)
        for rank, prefix in enumerate((*_UNSEEN, "", *_SEEN)):
            if prefix and plain == f"{prefix}_{suffix}":
                return rank
    return None


def _check_classes(names: Names, truth: Values, predicted: Values, notes: list[str]) -> None:
    """Raises `AmlflowError` where no class is on both sides, and they are not merely few rows that are all wrong."""
    if not truth.labels or not predicted.labels or {*truth.labels} & {*predicted.labels}:
        return
    shown = [", ".join(map(repr, side.labels[:_MOST_CLASSES])) for side in (truth, predicted)]
    if truth.form == predicted.form and min(len(truth.labels), len(predicted.labels)) == 1:
        notes.append(f"No prediction is right: the truth is {shown[0]}, and predicted is {shown[1]}.")
        return
    raise AmlflowError(
        f"The truth and the predictions have no class in common: {names.target!r} holds {shown[0]}, and {names.prediction!r} "
        f"{shown[1]}.",
        "Write the classes of both in one way; --target and --prediction name other columns.",
    )


def _task(target: Any, predicted: Any) -> Task:
    """Classes where a value is no number, or where all are whole ones and few."""
    import numpy as np

    sides = [columns.values(column, "numeric") for column in (target, predicted)]
    if any(side.errors.any() for side in sides):
        return "classification"
    both = np.concatenate([side.numbers[~np.isnan(side.numbers)] for side in sides])
    few = len(np.unique(both)) <= _MOST_CLASSES and bool(np.all(both == np.floor(both)))
    return "classification" if few else "regression"


def _spelled(scores: Mapping[str, str], spelling: Mapping[str, str]) -> dict[str, str]:
    """By the classes as the predictions write them. Raises `UsageError` where two are one."""
    found: dict[str, str] = {}
    for label, column in scores.items():
        name = spelling.get(label, label)
        if name in found:
            raise UsageError(
                f"--score names the class {name!r} twice: the truth writes it in another way than the predictions.",
                "Give one column for each class.",
            )
        found[name] = column
    return found


def _scores(data: Frame, name: str, places: Array) -> Array:
    import numpy as np

    found = columns.values(data.column(name), "numeric").numbers[places]
    if np.isnan(found).any():
        raise AmlflowError(
            f"The column {name!r} has {int(np.isnan(found).sum())} rows without a number.",
            "--score names the column of the positive class's probability, or of each class: CLASS=COLUMN.",
        )
    return found


def _of_known_classes(scores: Mapping[str, Array], truths: Array, notes: list[str]) -> dict[str, Array]:
    """Without those of a class that is nowhere the truth. Raises `UsageError` where a class has no score while others have."""
    classes = sorted(set(truths))
    if not scores or "" in scores:
        return dict(scores)
    lacking = [label for label in classes if label not in scores]
    if lacking:
        near = nearest(lacking[0], list(scores))
        raise UsageError(
            f"--score: the class {lacking[0]!r} has no score.{f' Is it {near}?' if near else ''}",
            f"Give one for each class: {', '.join(f'--score {label}=COLUMN' for label in classes[:_SHOWN])}.",
        )
    extra = [label for label in scores if label not in classes]
    if extra:
        notes.append(f"The scores of {', '.join(map(repr, extra))} are left out: no truth is of that class.")
    return {label: scores[label] for label in classes}
