"""Runs side by side: which is best by each metric, what differs between them, how far each is from a baseline."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from amlflow.errors import NotFound, UsageError
from amlflow.reports.comparison import MOST_IN_COLUMNS, Comparison, Direction, MetricRow, ParamRow
from amlflow.services import references
from amlflow.workspaces.base import Run, RunQuery, Workspace

# Read as words of a metric's name: `val_loss`, `training_rmse`, `test.f1-score`. The first list wins, so that
# `error_rate` and `false_positive_rate` count as lower-is-better although `rate` alone says nothing.
_LOWER = (
    "loss|error|errors|err|rmse|mse|mae|mape|smape|msle|rmsle|logloss|crossentropy|entropy|perplexity|ppl|wer|cer|"
    "brier|distance|divergence|deviance|bic|aic|latency|duration|seconds|time|memory|residual|fpr|fnr|fdr|hamming|"
    "false|drift|psi|max_error|rss|cost"
)
_HIGHER = (
    "accuracy|acc|auc|auroc|auprc|roc|f1|f2|fbeta|precision|recall|sensitivity|specificity|tpr|tnr|npv|ppv|r2|score|"
    "map|ndcg|mrr|bleu|rouge|meteor|iou|dice|jaccard|kappa|mcc|likelihood|throughput|explained|silhouette|gini|lift|"
    "reward|true|correlation|pearson|spearman"
)
_LOWER_WORD = re.compile(rf"(?:^|[^a-z0-9])(?:{_LOWER})(?:$|[^a-z0-9])")
_HIGHER_WORD = re.compile(rf"(?:^|[^a-z0-9])(?:{_HIGHER})(?:$|[^a-z0-9])")


@dataclass(frozen=True, slots=True)
class CompareRequest:
    """Either `runs`, or an experiment with an optional filter. `sort` is a metric: best first, by its direction;
    `top` keeps the first so many. `lower` and `higher` name metrics whose direction the names do not tell."""

    runs: Sequence[str] = ()
    experiment: str = ""
    filter: str = ""
    sort: str = ""
    top: int | None = None
    baseline: str = ""
    lower: Sequence[str] = ()
    higher: Sequence[str] = ()
    metrics: Sequence[str] = ()
    params: Sequence[str] = ()


def compare(workspace: Workspace, request: CompareRequest, history: Sequence[str] | None = None) -> Comparison:
    """`history` names the metrics whose histories are read too (all when empty, none when None)."""
    baseline = references.find_run(workspace, request.baseline, request.experiment) if request.baseline else None
    runs = _runs(workspace, request)
    if baseline is not None and all(run.id != baseline.id for run in runs):
        runs = [baseline, *runs]
    histories = workspace.metric_histories([run.id for run in runs], history) if history is not None else {}
    _check_known(request.metrics, {key for run in runs for key in run.metrics}, "metric")
    if request.sort:
        _check_known([request.sort.lstrip("+-")], {key for run in runs for key in run.metrics}, "metric")
    _check_known(request.params, {key for run in runs for key in run.params}, "param")
    return Comparison(runs, _metric_rows(runs, baseline, request), _param_rows(runs, request), baseline, histories)


def shown_metrics(request: CompareRequest) -> list[str] | None:
    """The metrics worth a sparkline: those asked for, else the sorted-by one, else all of a few named runs."""
    asked = [*request.metrics, *([request.sort.lstrip("+-")] if request.sort else [])]
    if asked:
        return list(dict.fromkeys(asked))
    return [] if request.runs and len(request.runs) <= MOST_IN_COLUMNS else None


def direction(metric: str, lower: Sequence[str] = (), higher: Sequence[str] = ()) -> Direction:
    """Whether a lower or a higher value of the metric is better, by what the user said, else by the words of its name."""
    if metric in lower:
        return "lower"
    if metric in higher:
        return "higher"
    name = re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", metric).lower().replace("_", " ")
    if name.startswith(("neg ", "negative ")) and _LOWER_WORD.search(name):
        # scikit-learn's neg_mean_squared_error and its like: the sign is turned so that higher is better.
        return "higher"
    if _LOWER_WORD.search(name):
        return "lower"
    return "higher" if _HIGHER_WORD.search(name) else "unknown"


def best_positions(values: Sequence[float | None], way: Direction) -> frozenset[int]:
    """Where the best value stands; nowhere when the direction is unknown or there is nothing to choose between."""
    numbers = [value for value in values if value is not None and not math.isnan(value)]
    if way == "unknown" or len(set(numbers)) < 2:
        return frozenset()
    best = min(numbers) if way == "lower" else max(numbers)
    return frozenset(index for index, value in enumerate(values) if value == best)


def _runs(workspace: Workspace, request: CompareRequest) -> list[Run]:
    if request.runs and request.filter:
        raise UsageError("Runs and --filter exclude each other.", "Name runs, or an --experiment with --filter.")
    if request.runs:
        found = [references.find_run(workspace, name, request.experiment) for name in request.runs]
        unique = list({run.id: run for run in found}.values())
        if request.sort:
            unique = _sorted(unique, request)
        return unique[: request.top]
    if not request.experiment:
        raise UsageError(
            "There is nothing to compare: no run is named and no experiment.",
            "Try `amlflow compare --experiment NAME`, or name runs.",
        )
    experiment = workspace.find_experiment(request.experiment)
    way = direction(request.sort.lstrip("+-"), request.lower, request.higher)
    query = RunQuery(
        [experiment.id],
        request.filter,
        order_by=f"metrics.`{request.sort.lstrip('+-')}`" if request.sort else "",
        descending=_descending(request.sort, way),
        limit=request.top,
    )
    runs = workspace.search_runs(query)
    if not runs:
        which = f" that fit {request.filter!r}" if request.filter else ""
        raise NotFound(f"The experiment {experiment.name!r} has no runs{which}.")
    return runs


def _descending(sort: str, way: Direction) -> bool:
    return not sort.startswith("+") and (sort.startswith("-") or way != "lower")


def _sorted(runs: Sequence[Run], request: CompareRequest) -> list[Run]:
    key = request.sort.lstrip("+-")
    sign = -1 if _descending(request.sort, direction(key, request.lower, request.higher)) else 1

    def rank(run: Run) -> tuple[bool, float]:
        value = run.metrics.get(key)
        missing = value is None or math.isnan(value)
        return missing, 0.0 if missing or value is None else sign * value

    return sorted(runs, key=rank)


def _metric_rows(runs: Sequence[Run], baseline: Run | None, request: CompareRequest) -> list[MetricRow]:
    first = request.sort.lstrip("+-")
    keys = list(request.metrics) or sorted(
        {key for run in runs for key in run.metrics}, key=lambda key: (key != first, key)
    )
    rows = []
    for key in keys:
        values = [run.metrics.get(key) for run in runs]
        way = direction(key, request.lower, request.higher)
        base = baseline.metrics.get(key) if baseline else None
        deltas = [value - base if value is not None and base is not None else None for value in values]
        rows.append(MetricRow(key, way, values, best_positions(values, way), deltas))
    return rows


def _param_rows(runs: Sequence[Run], request: CompareRequest) -> list[ParamRow]:
    keys = list(request.params) or sorted({key for run in runs for key in run.params})
    rows = []
    for key in keys:
        values = [run.params.get(key) for run in runs]
        rows.append(ParamRow(key, values, len(set(values)) > 1))
    return rows if request.params else sorted(rows, key=lambda row: (not row.differs, row.key))


def _check_known(asked: Sequence[str], known: set[str], what: str) -> None:
    for key in asked:
        if key not in known:
            raise NotFound(
                f"None of these runs has the {what} {key!r}.",
                f"They have: {', '.join(sorted(known)[:20]) or 'none'}.",
                name=key,
                known=known,
            )
