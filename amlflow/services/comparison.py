"""Runs side by side: which is best by each metric, what differs between them, how far each is from a baseline."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from amlflow.errors import NotFound, UsageError
from amlflow.reports.comparison import MOST_IN_COLUMNS, Comparison, MetricRow, ParamRow
from amlflow.reports.gates import Finding
from amlflow.reports.grid import Direction
from amlflow.reports.groups import Group, Grouping, GroupMetric
from amlflow.services.directions import direction
from amlflow.services.references import Choice
from amlflow.services.sources import Sources, split
from amlflow.workspaces.base import Run, RunQuery

if TYPE_CHECKING:
    from amlflow.services.expressions import Expression
    from amlflow.services.gates import Subject


@dataclass(frozen=True, slots=True)
class CompareRequest:
    """Either `runs`, or an experiment with an optional filter. `sort` is a metric: best first, by its direction;
    `top` keeps the first so many, of the groups where `seeds` names the params that runs of one group may differ in. `lower` and
    `higher` name metrics whose direction the names do not tell; one of the runs must have each of `expected`. `fail_if` are the
    gates, as text. `patient` is for runs that go on: it judges none, and takes a metric or param that no run has for one that is
    still to come."""

    runs: Sequence[str] = ()
    experiment: str = ""
    filter: str = ""
    sort: str = ""
    top: int | None = None
    baseline: str = ""
    lower: Sequence[str] = ()
    higher: Sequence[str] = ()
    expected: Sequence[str] = ()
    metrics: Sequence[str] = ()
    params: Sequence[str] = ()
    seeds: Sequence[str] = ()
    fail_if: Sequence[str] = ()
    patient: bool = False

    @property
    def sort_key(self) -> str:
        return self.sort.lstrip("+-")


def compare(
    sources: Sources,
    request: CompareRequest,
    history: Sequence[str] | None = None,
    report: Callable[[str], None] = lambda line: None,
) -> Comparison:
    """`history` names the metrics whose histories are read too (all when empty, none when None); `report` is told of workspaces
    that lack the experiment, and of a run that is its own baseline. Raises `UsageError` for a gate that cannot be read, before
    anything else is, and `NotFound` for a metric or param that no run has."""
    expressions = [] if request.patient else read_gates(request)
    named = _named(sources, request)
    baseline = _baseline(sources, request, named)
    found = _sorted(named, request) if named else _searched(sources, request, report)
    runs = found[: None if request.seeds else request.top]
    beyond_top = found[len(runs) :] if named else []
    if baseline is not None and all(run.id != baseline.id for run in runs):
        runs = [baseline, *runs]
        beyond_top = [run for run in beyond_top if run.id != baseline.id]
    if not request.patient:
        asked = [*request.metrics, *([request.sort_key] if request.sort else [])]
        _check_known(asked, {key for run in runs for key in run.metrics}, "metric")
        _check_known(request.params, {key for run in runs for key in run.params}, "param")
        _check_beyond_top([*request.expected, *(history or ())], [*runs, *beyond_top], sources, request)
    histories = sources.histories(runs, history) if history is not None else {}
    grouping = _grouping(runs, baseline, request) if request.seeds else None
    alone = baseline is not None and not request.seeds and [run.id for run in named] == [baseline.id]
    if alone and expressions:
        report(f"Run {named[0].name!r} is the baseline itself: the gates hold it to its own values.")
    return Comparison(
        runs,
        _metric_rows(runs, baseline, request),
        _param_rows(runs, request),
        baseline,
        histories,
        sources.labels(runs),
        grouping,
        _findings(expressions, runs, baseline, grouping, alone),
        beyond_top,
    )


def pinned(sources: Sources, request: CompareRequest) -> CompareRequest:
    """With the runs that its names mean now, and the baseline; `best:` stays, as which run that is changes while runs go on."""
    named = _named(sources, request)
    baseline = _baseline(sources, request, named)
    return replace(
        request,
        runs=[run.id for run in named],
        baseline=baseline.id if baseline is not None and not seeks_best(request.baseline) else request.baseline,
    )


def seeks_best(asked: str) -> bool:
    """Whether it is `best:METRIC`, of whatever workspace."""
    return split(asked)[1].startswith("best:")


def read_gates(request: CompareRequest) -> list[Expression]:
    """Raises `UsageError` for a gate that cannot be read, and for one over a baseline where there is none."""
    if not request.fail_if:
        return []
    from amlflow.services import gates

    return gates.read(request.fail_if, bool(request.baseline))


def shown_metrics(request: CompareRequest) -> list[str] | None:
    """The metrics worth a sparkline: those asked for, else the sorted-by one, else all of a few named runs."""
    asked = [*request.metrics, *([request.sort_key] if request.sort else [])]
    if asked:
        return list(dict.fromkeys(asked))
    return [] if request.runs and len(request.runs) <= MOST_IN_COLUMNS else None


def best_positions(values: Sequence[float | None], way: Direction) -> frozenset[int]:
    """Where the best value stands; nowhere when the direction is unknown or there is nothing to choose between."""
    numbers = [value for value in values if value is not None and not math.isnan(value)]
    if way == "unknown" or len(set(numbers)) < 2:
        return frozenset()
    best = min(numbers) if way == "lower" else max(numbers)
    return frozenset(index for index, value in enumerate(values) if value == best)


def _named(sources: Sources, request: CompareRequest) -> list[Run]:
    """Each once."""
    if request.runs and request.filter:
        raise UsageError("Runs and --filter exclude each other.", "Name runs, or an --experiment with --filter.")
    choice = Choice(request.lower, request.higher)
    found = [run for name in request.runs for run in sources.find(name, request.experiment, choice)]
    return list({run.id: run for run in found}.values())


def _baseline(sources: Sources, request: CompareRequest, named: Sequence[Run]) -> Run | None:
    """The best run is sought in the experiments of the runs that are named, and where there are gates among those that are not
    judged themselves: the best of all would have nothing to be held to."""
    if not request.baseline:
        return None
    judged = [run.id for run in named] if request.fail_if else []
    experiments = list(dict.fromkeys(run.experiment_name for run in named))
    choice = Choice(request.lower, request.higher, judged, experiments)
    return sources.find_one(request.baseline, request.experiment, choice)


def _searched(sources: Sources, request: CompareRequest, report: Callable[[str], None]) -> list[Run]:
    if not request.experiment:
        raise UsageError(
            "There is nothing to compare: no run is named and no experiment.",
            "Try `amlflow compare --experiment NAME`, or name runs.",
        )
    way = direction(request.sort_key, request.lower, request.higher)
    query = RunQuery(
        (),
        request.filter,
        order_by=f"metrics.`{request.sort_key}`" if request.sort else "",
        descending=_descending(request.sort, way),
        limit=None if request.seeds else request.top,
    )
    runs = sources.search(request.experiment, query, report)
    if not runs:
        which = f" that fit {request.filter!r}" if request.filter else ""
        raise NotFound(f"The experiment {request.experiment!r} has no runs{which}.")
    return _sorted(sorted(runs, key=lambda run: -(run.start_time_ms or 0)), request) if sources.several else runs


def _descending(sort: str, way: Direction) -> bool:
    return not sort.startswith("+") and (sort.startswith("-") or way != "lower")


def _sorted(runs: Sequence[Run], request: CompareRequest) -> list[Run]:
    """As they are where no order is asked for."""
    if not request.sort:
        return list(runs)
    return [runs[index] for index in _order([run.metrics.get(request.sort_key) for run in runs], request)]


def _order(values: Sequence[float | None], request: CompareRequest) -> list[int]:
    """The positions of the values, best first; those that are missing or NaN come last."""
    sign = -1 if _descending(request.sort, direction(request.sort_key, request.lower, request.higher)) else 1

    def rank(index: int) -> tuple[bool, float]:
        value = values[index]
        missing = value is None or math.isnan(value)
        return missing, 0.0 if missing or value is None else sign * value

    return sorted(range(len(values)), key=rank)


def _metric_keys(runs: Sequence[Run], request: CompareRequest) -> list[str]:
    known = {key for run in runs for key in run.metrics}
    return list(request.metrics) or sorted(known, key=lambda key: (key != request.sort_key, key))


def _metric_rows(runs: Sequence[Run], baseline: Run | None, request: CompareRequest) -> list[MetricRow]:
    rows = []
    for key in _metric_keys(runs, request):
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


def _grouping(runs: Sequence[Run], baseline: Run | None, request: CompareRequest) -> Grouping:
    from amlflow.services import seeds

    groups = seeds.groups(runs, request.seeds, baseline)
    if request.sort:
        means = [group.estimates.get(request.sort_key) for group in groups]
        order = _order([of.mean if of else None for of in means], request)
        groups = [groups[index] for index in order]
    if request.top and len(groups) > request.top:
        kept = groups[: request.top]
        groups = [*(group for group in groups[request.top :] if group.is_baseline), *kept]
    rows = []
    for key in _metric_keys(runs, request):
        way = direction(key, request.lower, request.higher)
        means = [group.estimates.get(key) for group in groups]
        rows.append(GroupMetric(key, way, best_positions([of.mean if of else None for of in means], way)))
    return Grouping(request.seeds, groups, rows)


def _findings(
    expressions: Sequence[Expression],
    runs: Sequence[Run],
    baseline: Run | None,
    grouping: Grouping | None,
    alone: bool,
) -> list[Finding]:
    """`alone`: the baseline is the one run that is named, and is judged although it is the baseline."""
    if not expressions:
        return []
    from amlflow.services import gates
    from amlflow.services.gates import Subject

    if grouping is None:
        subjects = [Subject(run.id, run.name, run.metrics, run.params) for run in runs]
        base = next((subject for subject in subjects if baseline is not None and subject.id == baseline.id), None)
        if alone:
            # What is judged is all but this very subject.
            subjects = [replace(subject) for subject in subjects]
    else:
        subjects = [_subject(group) for group in grouping.groups]
        whose = next((at for at, group in enumerate(grouping.groups) if group.is_baseline), None)
        base = subjects[whose] if whose is not None else None
    return gates.judge(expressions, subjects, base)


def _subject(group: Group) -> Subject:
    """A group for its gates. A mean over the runs that did not crash says nothing of those that did."""
    from amlflow.services.gates import Subject

    size = len(group.run_ids)
    means = {key: of.mean for key, of in group.estimates.items() if of.n == size}
    lacking = {key: size - of.n for key, of in group.estimates.items() if of.n < size}
    return Subject("", group.name, means, group.params, size, lacking)


def _check_beyond_top(asked: Sequence[str], runs: Sequence[Run], sources: Sources, request: CompareRequest) -> None:
    """That one of all runs has each metric, those that `top` leaves out among them: a search has not read these yet."""
    known = {key for run in runs for key in run.metrics}
    if not request.runs and request.top and not known.issuperset(asked):
        everything = sources.search(request.experiment, RunQuery((), request.filter), lambda line: None)
        known.update(key for run in everything for key in run.metrics)
    _check_known(asked, known, "metric")


def _check_known(asked: Sequence[str], known: set[str], what: str) -> None:
    for key in asked:
        if key not in known:
            raise NotFound(
                f"None of these runs has the {what} {key!r}.",
                f"They have: {', '.join(sorted(known)[:20]) or 'none'}.",
                name=key,
                known=known,
            )
