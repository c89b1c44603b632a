"""Whether a model still performs: its answers joined to what came true, beside what its training run has logged."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from amlflow.errors import AmlflowError, NotFound, UsageError
from amlflow.monitoring import frames, performance, records
from amlflow.monitoring.estimates import Average, Task
from amlflow.monitoring.frames import Frame, Source
from amlflow.monitoring.performance import Logged, Names, PerformanceReport
from amlflow.services import baselines, monitored_data
from amlflow.services.baselines import Trained
from amlflow.services.monitored_data import DataRequest, Opened
from amlflow.workspaces.base import Workspace

TASKS = ("classification", "regression")
AVERAGES = ("macro", "weighted")


@dataclass(frozen=True, slots=True)
class PerformanceRequest:
    """`join` is COLUMN, or COLUMN=TRUTH_COLUMN; `prediction` and `target` name columns, empty for the only one that can be
    meant; `scores` are the column of the positive class's score, or CLASS=COLUMN for each class; `average` is over classes, macro
    when empty; `against` maps our metrics to those of the training run that `baseline` (a run or model) names."""

    data: DataRequest
    truth: str
    join: str
    task: str = ""
    prediction: str = ""
    target: str = ""
    scores: Sequence[str] = ()
    positive: str = ""
    average: str = ""
    baseline: str = ""
    against: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Performed:
    """`name` is what the monitor is called after; `run_id` the training run, empty where none is known."""

    report: PerformanceReport
    name: str
    run_id: str


def find_performance(
    workspace: Workspace, request: PerformanceRequest, scratch: Path, say: Callable[[str], None]
) -> Performed:
    """Raises `NotFound` for a window without data or truth, `AmlflowError` where nothing joins."""
    if request.task not in ("", *TASKS):
        raise UsageError(f"There is no task {request.task!r}.", f"It is {' or '.join(TASKS)}.")
    if request.average not in ("", *AVERAGES):
        raise UsageError(f"There is no average {request.average!r}.", f"It is {' or '.join(AVERAGES)}.")
    average = cast("Average", request.average or AVERAGES[0])
    trained = _trained(workspace, request)
    located = monitored_data.locate(workspace, request.data)
    files = baselines.tables_in(Path(request.truth).expanduser())
    say("Reading the predictions and the truth…")
    own, truth_join = (request.join.partition("=")[0], request.join.partition("=")[2] or request.join)
    beside = Source(files, scratch / "truth", request.truth, [truth_join])
    opened, truth = monitored_data.open_data(located, scratch, beside, [own])
    if not truth.rows:
        raise NotFound(f"There is no row in the truth {request.truth!r}.", "Give a file with rows.")
    monitored_data.check_column(truth, truth_join, "--join")
    answers = _answers(opened, own, scratch / "answers")
    names = _names(opened, answers, truth, own, truth_join, request)
    say(f"Joining {answers.rows} predictions to {truth.rows} truths…")
    joined = performance.join(answers, truth, names, cast("Task | None", request.task or None))
    positive = performance.positive_label(joined, request.positive)
    whole = Opened(opened.label, answers, None, opened.span, opened.is_collected)
    parted = monitored_data.part(whole, request.data)
    found, unsaid = monitored_data.without_unfinished(
        performance.evaluate(joined, parted.windows, parted.numbers[0], positive, average)
    )
    if not any(window.rows for window in found):
        raise NotFound(
            f"No prediction of {opened.label} in this time has a truth yet.",
            "Take a longer --window, or another --until.",
        )
    read = [note for frame in (*opened.frames, truth) for note in frame.notes]
    notes = [*read, *joined.notes, *parted.notes, *unsaid]
    if joined.task == "classification" and "" in joined.scores and not positive:
        notes.append(
            "One score tells the area under the curve of one class: name it with --positive, or give --score CLASS=COLUMN for "
            "each."
        )
    before = _before(trained, request, joined.task, notes)
    report = PerformanceReport(
        opened.label,
        request.truth,
        joined.task,
        found,
        notes,
        positive,
        average,
        before,
        trained.run.name if trained else "",
    )
    name = request.data.name or (trained.name if trained else Path(request.data.files[0]).stem)
    return Performed(report, name, trained.run.id if trained else "")


def has_training(request: PerformanceRequest) -> bool:
    """Whether a training run is named, which could say what is worse."""
    return bool(request.baseline or request.data.name)


def check_can_fail(request: PerformanceRequest, fail_if: Sequence[str]) -> None:
    """Raises `UsageError` where neither a training run could say what is worse, nor a gate what is too bad."""
    if not has_training(request) and not fail_if:
        raise UsageError(
            "No metric can be worse than in training, for no training run is named.",
            "Name the run or model with --baseline, or hold the metrics to --fail-if 'accuracy < 0.9'.",
        )


def check_held(report: PerformanceReport) -> None:
    """Raises `AmlflowError` where no metric stands beside one of training: then nothing could be worse, and that is no pass."""
    found = list(dict.fromkeys(item.metric for window in report.windows for item in window.estimates))
    if not any(metric in report.before for metric in found):
        raise AmlflowError(
            f"Nothing says whether the model is worse than in training: the run {report.baseline!r} has logged none of "
            f"{', '.join(found)}.",
            "Name its own metrics with --against METRIC=KEY, or hold ours to --fail-if 'accuracy < 0.9'.",
        )


def _trained(workspace: Workspace, request: PerformanceRequest) -> Trained | None:
    """Files alone say nothing of a model: then there is nothing to hold the figures against."""
    if request.baseline:
        return baselines.find_trained(workspace, request.baseline, "")
    if not request.data.name:
        if request.against:
            raise UsageError("--against names metrics of a training run.", "Name the run or model with --baseline.")
        return None
    return baselines.find_trained(workspace, "", request.data.name)


def _before(trained: Trained | None, request: PerformanceRequest, task: Task, notes: list[str]) -> dict[str, Logged]:
    if trained is None:
        notes.append("There is no training run to compare with: name one, or a model, with --baseline.")
        return {}
    found = performance.logged_before(trained.run.metrics, request.against, task)
    if not found:
        notes.append(
            f"The training run {trained.run.name!r} has logged none of these metrics: name its own with --against METRIC=KEY."
        )
    return found


def _answers(opened: Opened, join: str, scratch: Path) -> Frame:
    """The predictions with the column to join by. Where only the questions have it, each answer gets that of its question,
    by the id of their request."""
    inputs, outputs = opened.inputs, opened.outputs
    if outputs is None or inputs is None or join in outputs.names:
        found = cast("Frame", outputs or inputs)
        monitored_data.check_column(found, join, "--join")
        return found
    monitored_data.check_column(inputs, join, "--join")
    if not opened.is_collected:
        raise UsageError(
            f"Nothing joins the answers to the questions, which have the column {join!r}.",
            "Give data in which a row has both, or collected records with their correlation ids.",
        )
    import pyarrow as pa
    import pyarrow.compute as pc

    ids = inputs.column(records.CORRELATION).cast(pa.string()).combine_chunks()
    places = pc.index_in(outputs.column(records.CORRELATION).cast(pa.string()), value_set=ids, skip_nulls=True)
    of_question = inputs.column(join).take(places)
    table = pa.table({**{name: outputs.column(name) for name in outputs.names}, join: of_question})
    return frames.of_table(table, scratch, outputs.label)


def _names(
    opened: Opened, answers: Frame, truth: Frame, join: str, truth_join: str, request: PerformanceRequest
) -> Names:
    target = request.target or _only(truth, {truth_join}, "--target", "the truth")
    monitored_data.check_column(truth, target, "--target")
    scores = _scores(answers, request.scores)
    others = {join, *scores.values(), records.CORRELATION, monitored_data.time_column(opened, request.data)}
    prediction = request.prediction or _only(answers, others, "--prediction", "the predictions")
    monitored_data.check_column(answers, prediction, "--prediction")
    return Names(join, truth_join, prediction, target, scores)


def _scores(answers: Frame, given: Sequence[str]) -> dict[str, str]:
    """The columns by their classes; of a single one that is no CLASS=COLUMN, by the empty name."""
    if len(given) == 1 and (given[0] in answers.names or "=" not in given[0]):
        monitored_data.check_column(answers, given[0], "--score")
        return {"": given[0]}
    found: dict[str, str] = {}
    for item in given:
        label, separator, column = item.partition("=")
        if not separator or not label or label in found:
            raise UsageError(
                f"--score {item!r} names {'no class' if not separator or not label else 'a class twice'}.",
                "With several, write CLASS=COLUMN for each class.",
            )
        monitored_data.check_column(answers, column, "--score")
        found[label] = column
    return found


def _only(frame: Frame, others: set[str], option: str, what: str) -> str:
    left = [name for name in frame.names if name not in others and not frames.is_index(name)]
    for usual in ("prediction", "predictions"):
        if option == "--prediction" and usual in left:
            return usual
    if len(left) != 1:
        raise UsageError(
            f"Which column of {frame.label} holds {what} is not clear: there are {', '.join(map(repr, left[:20])) or 'none'}.",
            f"Name it with {option} COLUMN.",
        )
    return left[0]
