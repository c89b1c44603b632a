"""Gates: expressions that no compared run may make true."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from amlflow.errors import GateFailed, NotFound, UsageError, closest
from amlflow.reports.gates import Finding, Outcome, summary, written
from amlflow.services.expression_parser import parse
from amlflow.services.expressions import Expression, Kind, Name, Undecided, Value

_SHOWN = 5
_MEANT = 3
# Names that a run itself lacks may be nearer than the ones it has.
_CLOSE = 20
_NO_BASELINE = ("none is given", "Name it with --baseline RUN, --baseline MODEL@ALIAS or --baseline best:METRIC.")
_NOT_OF_DRIFT = (
    "gates of drift have none: the data of --baseline are not measured by themselves",
    "Write a number, as in 'rows < 1000'; each metric of a column is its distance from the baseline already.",
)


@dataclass(frozen=True, slots=True)
class Subject:
    """What a gate is held to: a run, or the mean of a group of `size` runs, which has no id. `lacking` is how many of these lack
    a metric that others of them have; `metrics` has none of those."""

    id: str
    label: str
    metrics: Mapping[str, float]
    params: Mapping[str, str]
    size: int = 1
    lacking: Mapping[str, int] = field(default_factory=dict)


def read(texts: Iterable[str], has_baseline: bool, of_drift: bool = False) -> list[Expression]:
    """Raises `UsageError` for what is no expression, for one that asks nothing of a run, and for one that needs a baseline where
    there is none, as there never is `of_drift`."""
    expressions = [parse(text) for text in texts]
    for expression in expressions:
        if not expression.names:
            raise UsageError(
                f"The gate {expression.text!r} names no metric or param, so it says the same of every run.",
                "Write for example 'rmse > 0.5'; in a shell, put single quotes around it.",
            )
        if not has_baseline and any(name.baseline for name in expression.names):
            why, mend = _NOT_OF_DRIFT if of_drift else _NO_BASELINE
            raise UsageError(f"The gate {expression.text!r} speaks of a baseline, and {why}.", mend)
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
    hints = _Hints(subjects)
    return [_finding(gate, subject, baseline, hints) for subject in judged for gate in gates]


def check(findings: Sequence[Finding], what: str = "group") -> None:
    """Raises `GateFailed`, naming run, expression and values, where a gate did not hold. `what` is what has no id."""
    bad = [finding for finding in findings if finding.outcome != "passed"]
    if not bad:
        return
    told = "; ".join(f"{_called(finding, what)}: {finding.sentence()}" for finding in bad[:_SHOWN])
    more = f"; and {len(bad) - _SHOWN} more" if len(bad) > _SHOWN else ""
    raise GateFailed(f"{summary(findings)}. {told}{more}.")


def _finding(gate: Expression, subject: Subject, baseline: Subject | None, hints: _Hints) -> Finding:
    values: dict[Name, Value] = {}
    missing = []
    for name in gate.names:
        of = baseline if name.baseline and baseline is not None else subject
        found = _value(name, of)
        if found is None:
            missing.append(_missing(name, of, hints))
        else:
            values[name] = found
    shown = {name.shown(): value for name, value in values.items()}
    if missing:
        return Finding(gate.text, subject.label, subject.id, "error", shown, " and ".join(missing))
    try:
        outcome = gate.holds(values.__getitem__)
    except Undecided as error:
        return Finding(gate.text, subject.label, subject.id, "error", shown, str(error))
    verdict: Outcome = "failed" if outcome else "passed"
    return Finding(gate.text, subject.label, subject.id, verdict, shown, exactly=_rounding_turns(gate, values, outcome))


def _rounding_turns(gate: Expression, values: Mapping[Name, Value], outcome: bool) -> bool:
    """Whether the values as they would be written make the gate say another thing: 0.8 < 0.8 is not true."""
    rounded = {name: value if isinstance(value, str) else float(written(value)) for name, value in values.items()}
    try:
        return gate.holds(rounded.__getitem__) != outcome
    except Undecided:
        return True


def _value(name: Name, of: Subject) -> Value | None:
    if name.kind != "params" and (name.key in of.metrics or name.key in of.lacking):
        return of.metrics.get(name.key)
    return None if name.kind == "metrics" else of.params.get(name.key)


def _missing(name: Name, of: Subject, hints: _Hints) -> str:
    if name.kind != "params" and name.key in of.lacking:
        count, whose = of.lacking[name.key], " of the baseline's group" if name.baseline else ""
        return f"{count} of {of.size} runs{whose} lack{'s' if count == 1 else ''} the metric {name.key!r}"
    what = {"metrics": "metric", "params": "param", "": "metric or param"}[name.kind]
    near = hints.near(name, of)
    return f"{'the baseline' if name.baseline else 'it'} has no {what} {name.key!r}" + (
        f" (is {near} meant?)" if near else ""
    )


class _Hints:
    """What a name that is missing may have been meant to be. The search for the nearest is slow, so it is done once for a name,
    over what any subject has."""

    def __init__(self, subjects: Sequence[Subject]) -> None:
        self._subjects = subjects
        self._close: dict[tuple[str, Kind], list[str]] = {}

    def near(self, name: Name, of: Subject) -> str:
        """Those that this subject has, quoted and joined by «or»; empty where none is close."""
        if (name.key, name.kind) not in self._close:
            known = {key for subject in self._subjects for place in _places(subject, name.kind) for key in place}
            self._close[name.key, name.kind] = closest(name.key, sorted(known), _CLOSE)
        own = [key for key in self._close[name.key, name.kind] if any(key in place for place in _places(of, name.kind))]
        return " or ".join(repr(Name(key).shown()) for key in own[:_MEANT])


def _places(of: Subject, kind: Kind) -> list[Mapping[str, Value]]:
    """Where a name of that kind may stand."""
    return [*([of.metrics] if kind != "params" else []), *([of.params] if kind != "metrics" else [])]


def _called(finding: Finding, what: str) -> str:
    return f"run {finding.subject!r} ({finding.subject_id})" if finding.subject_id else f"{what} {finding.subject!r}"
