"""What `amlflow compare` reads and how it shows it: as a table, charts, a document, Markdown, and while runs go on."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from amlflow.cli import ci, files
from amlflow.cli.framework import in_settings, typed
from amlflow.cli.output import Column, console, moment, number, print_rows, print_table, table
from amlflow.cli.state import State
from amlflow.errors import AmlflowError, NotFound, Unavailable, UsageError
from amlflow.reports import comparison as records
from amlflow.reports import gates, grid, groups
from amlflow.reports.comparison import Comparison
from amlflow.services import comparison, sources
from amlflow.services.comparison import CompareRequest
from amlflow.services.sources import Source, Sources
from amlflow.workspaces.resolve import without_login

if TYPE_CHECKING:
    import typer

    from amlflow.workspaces.base import Run

_EVERY_S = 2.0
_PAGE_EVERY_S = 10.0
_MOST_FAILURES = 10
_MOST_CHECKS = 20
_GOING_ON = ("RUNNING", "SCHEDULED")


@dataclass(frozen=True, slots=True)
class View:
    """How it is shown. `plot` names the metrics that are drawn, by step or time; `history` those whose values a document has;
    `junit` and `html` are files that are written besides."""

    history: Sequence[str] = ()
    plot: Sequence[str] = ()
    by: str = "step"
    markdown: bool = False
    junit: str = ""
    html: str = ""


def as_markdown(state: State, ctx: typer.Context, asked: bool) -> bool:
    """Whether it is shown as Markdown: what is typed wins over `amlflow.yaml`. Raises `UsageError` where two forms are typed."""
    forms = {"output_format": f"-o {state.output_format}", "quiet": "-q", "query": "--query"}
    others = [shown for name, shown in forms.items() if getattr(state, name) and not in_settings(ctx, name)]
    if asked and others and typed(ctx, "markdown"):
        raise UsageError(f"--markdown and {others[0]} are two forms of one output.", "Leave one of them out.")
    return asked and not others


def check(state: State, request: CompareRequest, view: View) -> None:
    """Raises `UsageError` for options that do not fit together, and for gates that cannot be read."""
    if view.by not in ("step", "time"):
        raise UsageError(f"--x is step or time, not {view.by!r}.")
    if view.junit and not request.fail_if:
        raise UsageError("--junit writes what the gates found, and there is none.", "Add --fail-if 'rmse > 0.5'.")
    asked = state.output_format or state.config.output
    if view.plot and not view.markdown and (state.quiet or state.query or asked not in ("", "table")):
        raise UsageError(
            "--plot draws for people, and this output is for programs.",
            "`--history METRIC -o json` has the values; `-o table` or --markdown the chart.",
        )
    both = [metric for metric in request.lower if metric in request.higher]
    if both:
        raise UsageError(f"--lower and --higher both name {both[0]!r}.", "Less of a metric is better, or more of it.")
    if request.fail_if and set(request.runs) == {request.baseline} and not comparison.seeks_best(request.baseline):
        raise UsageError(
            f"There is nothing to hold the gates to: {request.baseline!r} is the run and its own baseline.",
            "Name the run that is to be judged, or another --baseline.",
        )
    comparison.read_gates(request)
    files.check("--junit", view.junit)
    files.check("--html", view.html)


def gather(state: State, request: CompareRequest) -> Sources:
    """The workspaces that -w and the runs name, each opened once."""
    wheres = [sources.split(asked)[0] for asked in (*request.runs, request.baseline)]
    bare = bool(request.experiment) or not request.runs or any(not where for where in wheres[: len(request.runs)])
    bare = bare or bool(request.baseline and not wheres[-1])
    named = [
        Source(without_login(where), state.open(where, "a run on the command line"))
        for where in dict.fromkeys(filter(None, wheres))
    ]
    if len(state.workspace_options) > 1:
        said = dict.fromkeys(state.workspace_options)
        return Sources([Source(without_login(w), state.open(w, "-w on the command line")) for w in said], named)
    return Sources([Source(state.resolved.asked, state.workspace)] if bare else [], named)


def compare(
    state: State, origin: Sources, request: CompareRequest, view: View, report: Callable[[str], None]
) -> Comparison:
    document = (state.out.wants_document() or state.quiet) and not view.markdown
    drawn = not document and (_as_table(state, view) or view.markdown)
    wanted = view.history or (comparison.shown_metrics(request) if drawn and not request.seeds else None)
    return comparison.compare(origin, request, wanted, report)


def show(state: State, origin: Sources, result: Comparison, view: View, request: CompareRequest) -> None:
    """To stdout; Markdown also to the page of a CI run."""
    cells = _cells(state, result, request)
    if view.markdown:
        text = _markdown(origin, result, view, cells)
        sys.stdout.write(text)
        ci.summarize(text)
    elif state.out.wants_document() or state.quiet:
        document = records.document(result)
        if state.quiet and not state.query:
            state.out.many(document["runs"], (), "run_id")
        else:
            state.out.one(document, "baseline")
    elif _as_table(state, view):
        print_table(cells.rows, _columns(cells))
        for text in _charts(origin, result, view):
            print_text(f"\n{text}")
        _print_checks(state, result)
    else:
        print_rows([cells.headings, *cells.rows])
    for note in _notes(result, cells) if not view.markdown and not state.out.wants_document() else ():
        state.note(note)
    if result.findings and all(found.outcome == "passed" for found in result.findings):
        state.note(f"{gates.summary(result.findings)}.")


def follow(state: State, origin: Sources, request: CompareRequest, view: View) -> CompareRequest:
    """Show the runs as they go until all have ended, those beyond the first so many too: redrawn on a terminal, a line for each
    change elsewhere. Returns the request with the names of runs as what they meant at first."""
    request = comparison.pinned(origin, request)
    # The first so many groups are of more runs than that.
    top = None if request.seeds else request.top
    waiting = replace(request, seeds=(), top=top, patient=True)
    seen, failures, written = False, 0, 0.0
    state.stays = "The runs go on."
    with _board(state, origin, view) as draw:
        while True:
            started = time.monotonic()
            try:
                result = compare(state, origin, waiting, view, (lambda line: None) if seen else state.note)
                seen, failures = True, 0
            except Unavailable as error:
                failures += 1
                if failures == _MOST_FAILURES or not seen:
                    raise
                state.note(f"{error.message} Trying again.")
            else:
                if not _going_on(result):
                    state.stays = ""
                    return request
                draw(result, _cells(state, result, waiting))
                if view.html and time.monotonic() - written > _PAGE_EVERY_S:
                    _rewrite_page(origin, result, Path(view.html))
                    written = time.monotonic()
            # Reading thousands of runs must not become all that the workspace does.
            time.sleep(max(_EVERY_S, 3 * (time.monotonic() - started)))


def write_files(state: State, origin: Sources, result: Comparison, view: View, seconds: float) -> files.Files:
    """JUnit's XML, and the page. `seconds` is how long the comparison has taken."""
    written = files.Files(state)
    if view.junit:
        with written.writing():
            _write_junit(view.junit, result, seconds)
    if view.html:
        with written.writing():
            _write_page(state, origin, result, Path(view.html))
    return written


def _write_junit(file: str, result: Comparison, seconds: float) -> None:
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    files.write("--junit", file, gates.junit(result.findings, now, seconds))


def _write_page(state: State, origin: Sources, result: Comparison, file: Path) -> None:
    from amlflow.cli import progress
    from amlflow.cli.output import size
    from amlflow.services import comparison_page

    with progress.steps(state) as report:
        written = comparison_page.write(origin.place, result, file, report)
    for sentence in written.left_out:
        state.note(sentence)
    state.note(f"{file} ({size(written.size_bytes)}) opens in any browser.")


def _rewrite_page(origin: Sources, result: Comparison, file: Path) -> None:
    """What cannot be read or written now can be the next time, and is told of the page that is written last."""
    from amlflow.services import comparison_page

    try:
        comparison_page.write(origin.place, result, file, lambda line: None, _PAGE_EVERY_S)
    except UsageError:
        raise
    except AmlflowError:
        return


def _going_on(result: Comparison) -> int:
    """How many of the runs, whether shown or not, have not ended."""
    return sum(run.status in _GOING_ON for run in (*result.runs, *result.beyond_top))


def _as_table(state: State, view: View) -> bool:
    return state.out.format == "table" or bool(view.plot)


def _cells(state: State, result: Comparison, request: CompareRequest) -> grid.Grid:
    return records.grid(result, number, bool(request.metrics or request.params) or state.out.format == "tsv")


def _columns(cells: grid.Grid) -> list[Column]:
    return [Column(heading, "", right=index in cells.right) for index, heading in enumerate(cells.headings)]


def _notes(result: Comparison, cells: grid.Grid) -> list[str]:
    explained = groups.explanation(result.grouping) if result.grouping else ""
    return [note for note in (explained, cells.left_out) if note]


def _markdown(origin: Sources, result: Comparison, view: View, cells: grid.Grid) -> str:
    parts = [grid.markdown(cells)]
    if result.grouping:
        parts.append(f"_{grid.escaped(groups.explanation(result.grouping))}_\n")
    if result.findings:
        parts.append(gates.markdown(result.findings, records.labels(result.runs, result.workspaces)))
    parts += [f"```text\n{text.replace('```', '` ` `')}\n```\n" for text in _charts(origin, result, view)]
    return "\n".join(parts)


def _charts(origin: Sources, result: Comparison, view: View) -> list[str]:
    if not view.plot:
        return []
    from amlflow.reports import chart

    known = {key for run in result.runs for key in run.metrics}
    for metric in view.plot:
        if metric not in known and not any(run.status in _GOING_ON for run in result.runs):
            raise NotFound(f"None of these runs has the metric {metric!r}.", name=metric, known=known)
    runs = _plotted(result, chart.MOST_LINES)
    histories = origin.histories(runs, view.plot)
    called = records.labels(result.runs, result.workspaces)
    labels = [called[run.id] + records.standing(result, run) for run in runs]
    terminal = sys.stdout.isatty() and not view.markdown
    coloured = terminal and not os.environ.get("NO_COLOR")
    width = console().width if terminal or os.environ.get("COLUMNS") else 100
    left = len(result.runs) - len(runs)
    drawn = []
    for metric in dict.fromkeys(view.plot):
        shown, x_name = chart.lines(runs, labels, histories, metric, "time" if view.by == "time" else "step")
        text = chart.chart(metric, shown, x_name, width, coloured)
        drawn.append(text + (f"\n  and {left} more runs, not drawn" if left else ""))
    return drawn


def _plotted(result: Comparison, most: int) -> list[Run]:
    """The first so many, the baseline among them."""
    runs = list(result.runs[:most])
    if result.baseline and all(run.id != result.baseline.id for run in runs):
        runs[-1] = result.baseline
    return runs


def _print_checks(state: State, result: Comparison) -> None:
    rows = gates.rows(result.findings, records.labels(result.runs, result.workspaces))
    if rows:
        headings = ("GATE", "GROUP" if result.grouping else "RUN", "FOUND")
        print_text("")
        print_table(rows[:_MOST_CHECKS], [Column(heading, "") for heading in headings])
    if len(rows) > _MOST_CHECKS:
        state.note(f"{len(rows) - _MOST_CHECKS} more checks: -o json and --junit have them all.")


def print_text(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


@contextlib.contextmanager
def _board(state: State, origin: Sources, view: View) -> Iterator[Any]:
    """Gives the function that draws one state of the runs."""
    if state.quiet or view.markdown or state.out.wants_document() or not sys.stdout.isatty():
        yield _changes(state, [*view.plot])
        return
    from rich.console import Group
    from rich.live import Live
    from rich.text import Text

    with Live(console=console(), auto_refresh=False, transient=True) as live:

        def draw(result: Comparison, cells: grid.Grid) -> None:
            parts = [Text.from_ansi(f"\n{text}") for text in _charts(origin, result, view)]
            runs = len(result.runs) + len(result.beyond_top)
            now = moment(int(time.time() * 1000))
            status = Text(f"{now}: {_going_on(result)} of {runs} runs go on; Ctrl-C leaves.", "dim")
            live.update(Group(table(cells.rows, _columns(cells)), *parts, Text(""), status), refresh=True)

        yield draw


def _changes(state: State, metrics: list[str]) -> Any:
    """Says a line on stderr for each run whose status or metrics are new."""
    said: dict[str, str] = {}

    def draw(result: Comparison, _: grid.Grid) -> None:
        for run in result.runs:
            keys = [key for key in metrics or [row.key for row in result.metrics] if key in run.metrics][:4]
            line = " ".join([run.name, run.status, *(f"{key}={number(run.metrics[key])}" for key in keys)])
            if said.get(run.id) != line:
                said[run.id] = line
                state.note(f"{moment(int(time.time() * 1000))} {line}")

    return draw
