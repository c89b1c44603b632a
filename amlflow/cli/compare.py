"""`amlflow compare`: which run, and by how much."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from amlflow.cli.completers import complete_experiment, complete_run
from amlflow.cli.framework import Command, verb
from amlflow.cli.state import State

if TYPE_CHECKING:
    from amlflow.reports.comparison import Comparison

app = verb()


@app.command(cls=Command)
def compare(
    ctx: typer.Context,
    runs: Annotated[list[str] | None, typer.Argument(metavar="RUN…", autocompletion=complete_run)] = None,
    experiment: Annotated[
        str, typer.Option("--experiment", "-e", help="Compare its runs.", autocompletion=complete_experiment)
    ] = "",
    filter: Annotated[str, typer.Option("--filter", help="Only runs that fit MLflow's filter language.")] = "",
    sort: Annotated[
        str, typer.Option("--sort", help="Best first by this metric; +METRIC upwards, -METRIC downwards.")
    ] = "",
    top: Annotated[int | None, typer.Option("--top", "-n", min=1, help="Only the first so many.")] = None,
    baseline: Annotated[
        str, typer.Option("--baseline", help="Show how far each is from this run.", autocompletion=complete_run)
    ] = "",
    metric: Annotated[list[str] | None, typer.Option("--metric", "-m", help="Only this metric.")] = None,
    param: Annotated[list[str] | None, typer.Option("--param", help="Only this parameter.")] = None,
    lower: Annotated[list[str] | None, typer.Option("--lower", help="A metric of which less is better.")] = None,
    higher: Annotated[list[str] | None, typer.Option("--higher", help="A metric of which more is better.")] = None,
    history: Annotated[
        list[str] | None, typer.Option("--history", metavar="METRIC", help="Every logged value of it, in -o json.")
    ] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print a Markdown table.")] = False,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Also write a page with charts and artifacts.")
    ] = None,
) -> None:
    """Compare runs side by side: parameters that differ, metrics with the best marked.

    Example: amlflow compare --experiment wine --sort rmse --top 10
    """
    from amlflow.cli.output import Column, number, print_table
    from amlflow.reports import comparison as report
    from amlflow.services import comparison

    state = State.of(ctx)
    request = comparison.CompareRequest(
        runs or [], experiment, filter, sort, top, baseline, lower or [], higher or [], metric or [], param or []
    )
    document = state.out.wants_document() or state.quiet
    drawn = not document and (state.out.format == "table" or markdown)
    read = history or (comparison.shown_metrics(request) if drawn else None)
    result = comparison.compare(state.workspace, request, read)
    if html:
        _write_page(state, result, html)
    if document and not markdown:
        records = report.document(result)
        state.out.many(records["runs"], (), "run_id") if state.quiet else state.out.one(records, "baseline")
        return
    table = report.grid(result, number, everything=bool(metric or param) or state.out.format == "tsv")
    if markdown:
        sys.stdout.write(report.markdown(table))
    elif state.out.format == "tsv":
        sys.stdout.write("".join("\t".join(row) + "\n" for row in [table.headings, *table.rows]))
    else:
        columns = [Column(heading, "", right=index in table.right) for index, heading in enumerate(table.headings)]
        print_table(table.rows, columns)
        if table.left_out:
            state.note(table.left_out)


def _write_page(state: State, result: Comparison, file: Path) -> None:
    from amlflow.cli import progress
    from amlflow.cli.output import size
    from amlflow.services import comparison_page

    with progress.steps(state) as report:
        written = comparison_page.write(lambda run_id: (state.workspace, run_id), result, file, report)
    state.note(f"{file} ({size(written)}) opens in any browser.")
