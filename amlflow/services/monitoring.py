"""Whether the data that a model is asked about have drifted from those it was trained on."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from amlflow.errors import AmlflowError, NotFound, UsageError, nearest
from amlflow.monitoring import columns, drift, frames, metrics, records, thresholds
from amlflow.monitoring.columns import Kind
from amlflow.monitoring.drift import Data, DriftReport, Pair
from amlflow.monitoring.frames import Frame
from amlflow.monitoring.windows import Window
from amlflow.services import baselines, monitored_data
from amlflow.services.monitored_data import DataRequest, Opened
from amlflow.workspaces.base import Workspace

_SHOWN = 10
# The normalized Wasserstein distance of n normal values from their own distribution is about 1.3 / sqrt(n) on average:
# sqrt(2 / pi) times the integral of sqrt(F (1 - F)), divided by sqrt(n): 0.09 at 200, where Azure ML draws the line at 0.1.
_FEW_ROWS = 200


@dataclass(frozen=True, slots=True)
class DriftRequest:
    """`predictions` maps columns of the model's answers to the baseline's columns, `kinds` columns to what they are; `columns`
    are those to compare, all when empty, and `ignore` those to leave out; `metrics` are those wanted, all when empty,
    `thresholds` as `thresholds.parse` reads them."""

    data: DataRequest
    baseline: str = ""
    metrics: Sequence[str] = ()
    thresholds: Sequence[str] = ()
    predictions: Mapping[str, str] = field(default_factory=dict)
    ignore: Sequence[str] = ()
    kinds: Mapping[str, str] = field(default_factory=dict)
    columns: Sequence[str] = ()

    def takes(self, column: str) -> bool:
        if self.columns:
            return column in self.columns and column not in self.ignore
        return column not in self.ignore and not frames.is_index(column)


@dataclass(frozen=True, slots=True)
class Drifted:
    """`name` is what the monitor is called after; `run_id` the run whose data were the baseline, empty for a file."""

    report: DriftReport
    name: str
    run_id: str


def find_drift(workspace: Workspace, request: DriftRequest, scratch: Path, say: Callable[[str], None]) -> Drifted:
    """Hold the data against their baseline. Raises `NotFound` for a window without data, `AmlflowError` for data of another
    schema, naming the columns."""
    kinds = check_kinds(request.kinds)
    for metric in request.metrics:
        thresholds.metric_name(metric)
    located = monitored_data.locate(workspace, request.data)
    found = baselines.find(workspace, request.baseline, request.data.name, scratch / "baseline")
    say("Reading the data and their baseline…")
    opened, baseline = monitored_data.open_data(located, scratch, found.source)
    if not baseline.rows:
        raise NotFound(f"The baseline {baseline.label} has no rows.", "Name another with --baseline.")
    pairs, notes = _paired(opened, baseline, found.trained.inputs if found.trained else (), request)
    names = [pair.column for of_frame in pairs for pair in of_frame]
    limits = thresholds.parse(request.metrics, request.thresholds, names)
    _check_columns(kinds, names, "--kind")
    own = {pair.column: pair.baseline for of_frame in pairs for pair in of_frame}
    kind_of = functools.cache(lambda name: kinds.get(name) or columns.kind_of(baseline.column(own[name])))
    notes = [*thresholds.check(limits, own, kind_of), *notes]
    parted = monitored_data.part(opened, request.data)
    say(f"Comparing {len(names)} columns of {opened.rows} rows…")
    data = [Data(*item) for item in zip(opened.frames, parted.numbers, pairs, strict=True)]
    reports, unsaid = monitored_data.without_unfinished(drift.assess(baseline, data, parted.windows, limits, kinds))
    _check_rows(opened, reports)
    read = [note for frame in (*opened.frames, baseline) for note in frame.notes]
    report = DriftReport(
        opened.label, baseline.label, baseline.rows, reports, [*read, *notes, *parted.notes, *unsaid, *_thin(reports)]
    )
    return Drifted(report, request.data.name or found.name, found.trained.run.id if found.trained else "")


def check_compared(reports: Sequence[drift.WindowReport], request: DriftRequest) -> None:
    """Raises `NotFound` where of the newest window no column was compared, unless data quality alone was asked for: then nothing
    was found, and that is no pass."""
    newest = reports[-1]
    quality_alone = request.metrics and all(thresholds.metric_name(m) in metrics.OF_QUALITY for m in request.metrics)
    if not newest.rows or any(column.readings if quality_alone else column.is_compared for column in newest.columns):
        return
    whys = dict.fromkeys(_why_not(column, request) for column in newest.columns)
    where = "" if newest.window == Window() else f" in the newest window, {newest.window.label}"
    raise NotFound(
        f"No column was compared{where}, so that nothing can be said of drift. {' '.join(list(whys)[:_SHOWN])}",
        "Look at an earlier time with --until, or at other columns and metrics with --column and --metric.",
    )


def _why_not(column: drift.ColumnReport, request: DriftRequest) -> str:
    if column.notes:
        return f"{column.column!r}: {column.notes[0]}"
    return f"{column.column!r} is {column.kind}, of which there is no {' or '.join(request.metrics)}."


def _paired(
    opened: Opened, baseline: Frame, signature: Sequence[str], request: DriftRequest
) -> tuple[list[list[Pair]], list[str]]:
    """For each frame its pairs, and a sentence on what has no counterpart; `signature` are the inputs of the model."""
    asked = {column: target or column for column, target in request.predictions.items()}
    both = _in_both(opened, asked)
    others = _of_records(opened, request)
    answered = set(asked.values())
    # As keys, because tables of ten thousand columns are looked up in them.
    known = dict.fromkeys(
        name for name in baseline.names if name not in others and (request.takes(name) or name in answered)
    )
    every = list(dict.fromkeys(name for frame in (baseline, *opened.frames) for name in frame.names))
    _check_columns(request.ignore, every, "--ignore")
    _check_columns(request.columns, every, "--column")
    _check_columns(asked, [name for frame in opened.frames for name in frame.names], "--prediction")
    _check_columns(asked.values(), known, "--prediction")
    notes: list[str] = []
    mentioned = {*others, *request.ignore, *asked, *answered}
    indexes = [name for name in every if frames.is_index(name) and name not in mentioned]
    if indexes and not request.columns:
        notes.append(
            f"Row numbers, as pandas writes them, are left out: {_names(indexes)}; --column NAME compares them."
        )
    found: list[list[Pair]] = []
    used = answered
    if opened.inputs is not None:
        among_inputs = {name: target for name, target in asked.items() if name not in both}
        asking = dict.fromkeys(name for name in _values_of(opened, opened.inputs, request) if name not in among_inputs)
        unused = dict.fromkeys(name for name in known if name not in used or (name in both and request.takes(name)))
        _check_schema(opened, baseline, signature, asking, unused, notes)
        inputs = [Pair(name, name) for name in asking if name in known]
        used = used.union(pair.column for pair in inputs)
        found.append([*inputs, *_predictions(opened.inputs, among_inputs)])
    if opened.outputs is not None:
        own = _values_of(opened, opened.outputs, request)
        free = [name for name in known if name not in used]
        said = _predictions(opened.outputs, asked)
        found.append(said or _answers(own, free, notes))
    if not any(found):
        raise AmlflowError(
            f"{opened.label} and the baseline {baseline.label} have no column in common: there are "
            f"{_names(name for frame in opened.frames for name in frame.names)}, and {_names(known)} in the baseline.",
            "Give data with the model's columns, or pair its answers with --prediction COLUMN=BASELINE_COLUMN.",
        )
    return found, notes


def _in_both(opened: Opened, asked: Iterable[str]) -> set[str]:
    """Answers that are called like an input, which stays an input."""
    if opened.inputs is None or opened.outputs is None:
        return set()
    return {name for name in asked if name in opened.inputs.names and name in opened.outputs.names}


def _values_of(opened: Opened, frame: Frame, request: DriftRequest) -> list[str]:
    """The columns that are compared."""
    others = _of_records(opened, request)
    return [name for name in frame.names if name not in others and request.takes(name)]


def _of_records(opened: Opened, request: DriftRequest) -> set[str]:
    """The columns that say when and by which request a row came."""
    when = monitored_data.time_column(opened, request.data)
    return {name for name in (when, records.CORRELATION if opened.is_collected else "") if name}


def _predictions(frame: Frame, asked: Mapping[str, str]) -> list[Pair]:
    return [Pair(name, target, "prediction_drift") for name, target in asked.items() if name in frame.names]


def _answers(own: Sequence[str], free: Sequence[str], notes: list[str]) -> list[Pair]:
    """Answers are held against the column of their name, or the only one that both sides have left."""
    same = [Pair(name, name, "prediction_drift") for name in own if name in free]
    if same:
        return same
    if len(own) == 1 and len(free) == 1:
        notes.append(f"The answers {own[0]!r} are held against the baseline's {free[0]!r}, which no input is.")
        return [Pair(own[0], free[0], "prediction_drift")]
    if own:
        notes.append(
            f"The baseline has no column for the answers {_names(own)}: pair them with --prediction {own[0]}=BASELINE_COLUMN."
        )
    return []


def _check_schema(
    opened: Opened,
    baseline: Frame,
    signature: Sequence[str],
    own: Collection[str],
    known: Collection[str],
    notes: list[str],
) -> None:
    """Raises `AmlflowError` where the model's signature names a column that the data lack, or, without a signature, where
    both sides have columns that the other lacks: then one was renamed."""
    label = opened.label
    needed = [name for name in signature if name in known]
    missing = [name for name in needed or known if name not in own]
    new = [name for name in own if name not in known]
    common = [name for name in own if name in known]
    if missing and (needed or new) and common:
        near = {name: nearest(name, new, 1) for name in missing[:_SHOWN]}
        hints = [f"{name!r} may be {other}" for name, other in near.items() if other]
        raise AmlflowError(
            f"{label} has another schema than the baseline {baseline.label}: it lacks {_names(missing)}"
            + (f", and has {_names(new)} besides" if new else "")
            + f".{' ' + '; '.join(hints) + '.' if hints else ''}",
            "Compare data of one schema, or leave columns out with --ignore COLUMN; --prediction names the model's answers.",
        )
    if missing and common:
        notes.append(f"Columns of the baseline that the data lack: {_names(missing)}.")
    if new and common:
        notes.append(f"New columns, which the baseline has not: {_names(new)}.")


def _check_columns(asked: Iterable[str], known: Collection[str], option: str) -> None:
    for name in asked:
        if name not in known:
            near = nearest(name, list(known))
            raise UsageError(
                f"{option}: there is no column {name!r}.{f' Did you mean {near}?' if near else ''}",
                f"Columns: {', '.join(list(known)[:20])}.",
            )


def _check_rows(opened: Opened, reports: Sequence[drift.WindowReport]) -> None:
    if not any(report.rows for report in reports):
        raise NotFound(f"{opened.label} has no row in any window.", "Take a longer --window.")


def _thin(reports: Sequence[drift.WindowReport]) -> list[str]:
    """Sentences on windows with few rows, and on those with rows of some columns only: questions without answers."""
    filled = [report for report in reports if report.rows]
    every = dict.fromkeys(column.column for report in filled for column in report.columns)
    few = [report for report in filled if report.rows < _FEW_ROWS]
    partly = [report for report in filled if len(report.columns) < len(every)]
    notes = []
    if partly:
        lacking = [name for name in every if any(name not in {c.column for c in report.columns} for report in partly)]
        notes.append(
            f"In {len(partly)} of {len(reports)} windows there is no row of {_names(lacking)}: "
            f"{', '.join(report.window.label for report in partly[:_SHOWN])}."
        )
    if few:
        where = "The data have" if len(reports) == 1 else f"{len(few)} of {len(reports)} windows have"
        notes.append(
            f"{where} fewer than {_FEW_ROWS} rows, among which a distance of 0.1 comes about by chance: "
            "read the p-values beside it."
        )
    return notes


def check_kinds(asked: Mapping[str, str]) -> dict[str, Kind]:
    for column, kind in asked.items():
        if kind not in columns.KINDS:
            near = nearest(kind, columns.KINDS)
            raise UsageError(
                f"--kind {column}={kind}: there is no kind {kind!r}.{f' Did you mean {near}?' if near else ''}",
                f"It is one of {', '.join(columns.KINDS)}.",
            )
    return cast("dict[str, Kind]", dict(asked))


def _names(names: Iterable[str]) -> str:
    found = list(names)
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return ", ".join(repr(name) for name in found[:_SHOWN]) + more
