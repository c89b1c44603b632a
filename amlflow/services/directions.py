"""Whether less or more of a metric is better."""

from __future__ import annotations

import re
from collections.abc import Sequence

from amlflow.reports.grid import Direction

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
