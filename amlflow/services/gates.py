"""Gates: expressions that no compared run may make true."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from amlflow.errors import GateFailed, NotFound, UsageError, nearest
from amlflow.reports.gates import Finding, summary
from amlflow.services.expression_parser import parse
from amlflow.services.expressions import Expression, Name, Undecided, Value

_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Subject:
    """What a gate is held to: a run, or the mean of a group of them, which has no id."""

    id: str
    label: str
    metrics: Mapping[str, float]
    params: Mapping[str, str]


def read(texts: Iterable[str], has_baseline: bool) -> list[Expression]:
    """Raises `UsageError` for what is no expression, for one that asks nothing of a run, and for one that needs a baseline where
    there is none."""
    expressions = [parse(text) for text in texts]
    for expression in expressions:
        if not expression.names:
            raise UsageError(
                f"The gate {expression.text!r} names no metric or param, so it says the same of every run.",
                "Write for example 'rmse > 0.5'; in a shell, put single quotes around it.",
            )
        if not has_baseline and any(name.baseline for name in expression.names):
            raise UsageError(
                f"The gate {expression.text!r} speaks of a baseline, and none is given.",
                "Name it with --baseline RUN, --baseline MODEL@ALIAS or --baseline best:METRIC.",
            )
    return expressions


def judge(gates: Sequence[Expression], subjects: Sequence[Subject], baseline: Subject | None) -> list[Finding]:
    """What each gate says of each subject, the baseline, which is one of them, excepted. Raises `NotFound` where nothing is left
    to hold them to."""
    judged = [subject for subject in subjects if subject is not baseline]
    if gates and not judged:
        raise NotFound(
            "There is nothing to hold the gates to: all that is compared is the baseline itself.",
            "Name the run that is to be judged, or another --baseline.",
        )
    return [_finding(gate, subject, baseline) for subject in judged for gate in gates]


def check(findings: Sequence[Finding], what: str = "group") -> None:
    """Raises `GateFailed`, naming run, expression and values, where a gate did not hold. `what` is what has no id."""
    bad = [finding for finding in findings if finding.outcome != "passed"]
    if not bad:
        return
    told = "; ".join(f"{_called(finding, what)}: {finding.sentence()}" for finding in bad[:_SHOWN])
    more = f"; and {len(bad) - _SHOWN} more" if len(bad) > _SHOWN else ""
    raise GateFailed(f"{summary(findings)}. {told}{more}.")


def _finding(gate: Expression, subject: Subject, baseline: Subject | None) -> Finding:
    values: dict[Name, Value] = {}
    missing = []
    for name in gate.names:
        of = baseline if name.baseline and baseline is not None else subject
        found = _value(name, of)
        if found is None:
            missing.append(_missing(name, of))
        else:
            values[name] = found
    shown = {name.shown(): value for name, value in values.items()}
    if missing:
        return Finding(gate.text, subject.label, subject.id, "error", shown, " and ".join(missing))
    try:
        outcome = gate.holds(values.__getitem__)
    except Undecided as error:
        return Finding(gate.text, subject.label, subject.id, "error", shown, str(error))
    return Finding(gate.text, subject.label, subject.id, "failed" if outcome else "passed", shown)


def _value(name: Name, of: Subject) -> Value | None:
    if name.kind != "params" and name.key in of.metrics:
        return of.metrics[name.key]
    return None if name.kind == "metrics" else of.params.get(name.key)


def _missing(name: Name, of: Subject) -> str:
    known = [*(of.metrics if name.kind != "params" else ()), *(of.params if name.kind != "metrics" else ())]
    what = {"metrics": "metric", "params": "param", "": "metric or param"}[name.kind]
    near = nearest(name.key, [Name(key).shown() for key in known])
    return f"{'the baseline' if name.baseline else 'it'} has no {what} {name.key!r}" + (
        f" (is {near} meant?)" if near else ""
    )


def _called(finding: Finding, what: str) -> str:
    return f"run {finding.subject!r} ({finding.subject_id})" if finding.subject_id else f"{what} {finding.subject!r}"
