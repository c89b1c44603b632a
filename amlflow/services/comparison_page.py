"""A comparison as one HTML file: gathers the histories, files and code changes of its runs, and writes it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from amlflow.errors import AmlflowError, UsageError
from amlflow.mlproject import source
from amlflow.reports import comparison_page
from amlflow.reports.comparison import Comparison
from amlflow.reports.comparison_page import CodeChange, PageContent, RunFiles
from amlflow.reports.histories import LEAST_OF_A_SERIES, POINTS_OF_A_PAGE, Packed, points_each
from amlflow.services import run_files
from amlflow.workspaces.base import MetricPoint, Run, Workspace

# From the id that a run has in the comparison to where it is, and its id there.
Place = Callable[[str], tuple[Workspace, str]]

_COMMIT_TAG = "mlflow.source.git.commit"
# The page shows files side by side, which is of use for few runs; each costs requests.
RUNS_WITH_FILES = 12
MOST_RUNS = 5_000
_FILE_BYTES = 3_500_000
_CHANGE_CHARACTERS = 100_000
# As many series are read at once as make requests worth while and fit in memory at 10,000 points each.
_SERIES_AT_ONCE = 64


@dataclass(frozen=True, slots=True)
class Written:
    """`left_out` are sentences on what the page does not hold."""

    size_bytes: int
    left_out: Sequence[str]


def write(
    place: Place, comparison: Comparison, file: Path, report: Callable[[str], None], again_s: float = 0
) -> Written:
    """Write the page. `report` is told the steps; `again_s` is after how many seconds it is to be read again. Raises
    `AmlflowError` where the file cannot be written, `UsageError` for more runs than a browser shows."""
    if len(comparison.runs) > MOST_RUNS:
        raise UsageError(
            f"A page holds {MOST_RUNS} runs at most, and these are {len(comparison.runs)}.",
            "Keep the best with --sort METRIC --top 1000, or choose some with --filter.",
        )
    content = replace(gather(place, comparison, report), again_s=again_s)
    report(f"Writing {file}")
    pieces, left_out = comparison_page.document(content)
    return Written(_written(file, pieces), left_out)


def gather(place: Place, comparison: Comparison, report: Callable[[str], None]) -> PageContent:
    notes: list[str] = []
    histories = _histories(place, comparison, notes, report)
    files = _files(place, comparison, notes, report)
    changes = _changes([comparison.runs[index] for index in files], notes)
    names = list(dict.fromkeys(run.experiment_name for run in comparison.runs))
    title = f"Comparison of {', '.join(names[:3])}" if any(names) else "Comparison of runs"
    where = [place(run.id)[0].name for run in comparison.runs]
    made = int(time.time() * 1000)
    return PageContent(comparison, title, where, made, histories, files, changes, notes)


def _histories(place: Place, comparison: Comparison, notes: list[str], report: Callable[[str], None]) -> Packed:
    positions = {row.key: index for index, row in enumerate(comparison.metrics)}
    logged = [sum(key in positions for key in run.metrics) for run in comparison.runs]
    runs = _that_fit(logged)
    if runs < len(comparison.runs):
        notes.append(f"Histories of the first {runs} of {len(comparison.runs)} runs: those of all would not fit.")
    packed = Packed(points_each(sum(logged[:runs])))
    at_once = max(1, _SERIES_AT_ONCE // max(1, len(positions)))
    known = {key for run in comparison.runs for key in run.metrics}
    keys = [] if known <= set(positions) else list(positions)
    for start in range(0, runs if positions else 0, at_once):
        part = comparison.runs[start : min(start + at_once, runs)]
        report(f"Reading histories: {start} of {runs} runs")
        found = _read(place, part, keys)
        for index, run in enumerate(part, start):
            for key, points in found.get(run.id, {}).items():
                if key in positions:
                    packed.add(index, positions[key], points)
    return packed


def _read(place: Place, runs: Sequence[Run], keys: Sequence[str]) -> dict[str, Mapping[str, Sequence[MetricPoint]]]:
    """By the id that each run has in the comparison; with one request a workspace."""
    groups: dict[int, tuple[Workspace, dict[str, str]]] = {}
    for run in runs:
        workspace, own = place(run.id)
        groups.setdefault(id(workspace), (workspace, {}))[1][own] = run.id
    found: dict[str, Mapping[str, Sequence[MetricPoint]]] = {}
    for workspace, ids in groups.values():
        found |= {ids[own]: lines for own, lines in workspace.metric_histories(list(ids), keys).items()}
    return found


def _that_fit(logged: Sequence[int]) -> int:
    """How many of the runs the page can hold with as few points for each of their series as make a curve."""
    left = POINTS_OF_A_PAGE // LEAST_OF_A_SERIES
    for index, series in enumerate(logged):
        left -= series
        if left < 0:
            return index
    return len(logged)


def _files(
    place: Place, comparison: Comparison, notes: list[str], report: Callable[[str], None]
) -> dict[int, RunFiles]:
    base = comparison.baseline.id if comparison.baseline else ""
    order = sorted(range(len(comparison.runs)), key=lambda index: comparison.runs[index].id != base)
    chosen = sorted(order[:RUNS_WITH_FILES])
    if len(chosen) < len(order):
        notes.append(f"Artifacts of {len(chosen)} of the {len(order)} runs: the first ones.")
    allowance = run_files.Allowance(_FILE_BYTES)
    found: dict[int, RunFiles] = {}
    for index in chosen:
        run = comparison.runs[index]
        report(f"Reading artifacts of {run.name}")
        try:
            found[index] = run_files.collect(*place(run.id), allowance)
        except (AmlflowError, OSError) as error:
            notes.append(f"The artifacts of {run.name} ({run.id}) could not be read: {error}")
    if allowance.refused:
        notes.append(f"Artifacts left out, being too large for the page: {allowance.refused}.")
    if allowance.unseen:
        notes.append(f"Runs with more folders or files of artifacts than were looked at: {allowance.unseen}.")
    return found


def _changes(runs: Sequence[Run], notes: list[str]) -> list[CodeChange]:
    """From the commit of the first run to each other commit, as the repository of the current folder has them."""
    commits = list(dict.fromkeys(run.tags[_COMMIT_TAG] for run in runs if run.tags.get(_COMMIT_TAG)))
    found, missing = [], 0
    for commit in commits[1:]:
        text = source.commit_diff(Path.cwd(), commits[0], commit)
        if text is None:
            missing += 1
            continue
        if len(text) > _CHANGE_CHARACTERS:
            text = text[:_CHANGE_CHARACTERS] + "\n# cut here\n"
        found.append(CodeChange(commits[0], commit, text))
    if missing:
        notes.append("The Git diff of these runs is shown when the comparison is made in a clone of their repository.")
    return found


def _written(file: Path, pieces: Iterable[str]) -> int:
    """Whole or not at all, unless it is something like a pipe."""
    aside = file.with_name(f".{file.name}.{os.getpid()}.part")
    target = file if file.exists() and not file.is_file() else aside
    size = 0
    try:
        with target.open("wb") as out:
            for piece in pieces:
                size += out.write(piece.encode("utf-8", "replace"))
        if target is aside:
            aside.replace(file)
    except OSError as error:
        raise AmlflowError(
            f"{file} cannot be written: {error.strerror}.", "Name another place with --html, or make room there."
        ) from error
    finally:
        aside.unlink(missing_ok=True)
    return size
