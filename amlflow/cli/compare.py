"""`amlflow compare`: which run, and by how much."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from amlflow.cli.completers import complete_experiment, complete_run_anywhere
from amlflow.cli.framework import CommandOverWorkspaces, typed, verb
from amlflow.cli.state import State

app = verb()


@app.command(cls=CommandOverWorkspaces)
def compare(
    ctx: typer.Context,
    runs: Annotated[list[str] | None, typer.Argument(metavar="RUN…", autocompletion=complete_run_anywhere)] = None,
    experiment: Annotated[
        str,
        typer.Option(
            "--experiment",
            "-e",
            help="Compare its runs, or look for the named ones in it first.",
            autocompletion=complete_experiment,
        ),
    ] = "",
    filter: Annotated[str, typer.Option("--filter", help="Only runs that fit MLflow's filter language.")] = "",
    sort: Annotated[
        str, typer.Option("--sort", help="Best first by this metric; +METRIC upwards, -METRIC downwards.")
    ] = "",
    top: Annotated[int | None, typer.Option("--top", "-n", min=1, help="Only the first so many.")] = None,
    baseline: Annotated[
        str,
        typer.Option(
            "--baseline",
            help="Show how far each is from this run, model or best:METRIC.",
            autocompletion=complete_run_anywhere,
        ),
    ] = "",
    metric: Annotated[list[str] | None, typer.Option("--metric", "-m", help="Only this metric.")] = None,
    param: Annotated[list[str] | None, typer.Option("--param", help="Only this parameter.")] = None,
    lower: Annotated[list[str] | None, typer.Option("--lower", help="A metric of which less is better.")] = None,
    higher: Annotated[list[str] | None, typer.Option("--higher", help="A metric of which more is better.")] = None,
    history: Annotated[
        list[str] | None, typer.Option("--history", metavar="METRIC", help="Every logged value of it, in -o json.")
    ] = None,
    plot: Annotated[
        list[str] | None, typer.Option("--plot", metavar="METRIC", help="Draw its history as a chart.")
    ] = None,
    x: Annotated[str, typer.Option("--x", metavar="step|time", help="What charts have from left to right.")] = "step",
    watch: Annotated[bool, typer.Option("--watch", help="Follow the runs until all have ended.")] = False,
    fail_if: Annotated[
        list[str] | None,
        typer.Option(
            "--fail-if", metavar="EXPR", help="End with exit code 6 where a run makes it true: 'rmse > baseline*1.02'."
        ),
    ] = None,
    junit: Annotated[
        str, typer.Option("--junit", metavar="FILE", help="Write what --fail-if found as JUnit's XML.")
    ] = "",
    seeds: Annotated[
        list[str] | None,
        typer.Option(
            "--seeds", metavar="PARAM", help="Compare groups of runs that differ in this param only, by their means."
        ),
    ] = None,
    markdown: Annotated[
        bool,
        typer.Option("--markdown", help="Print Markdown; on GitHub Actions and Azure Pipelines also to the summary."),
    ] = False,
    html: Annotated[
        str,
        typer.Option(
            "--html",
            metavar="FILE",
            help="Also write a page with charts and artifacts; with --watch it follows the runs.",
        ),
    ] = "",
) -> None:
    """Compare runs side by side: parameters that differ, metrics with the best marked.

    Runs of other workspaces are WORKSPACE::RUN; -w may be given several times.

    Example: amlflow compare --experiment wine --sort rmse --top 10
    """
    from amlflow.cli import comparing
    from amlflow.services import comparison

    started, state = time.monotonic(), State.of(ctx)
    said = {way: typed(ctx, way) for way in ("lower", "higher")}
    if said["lower"] != said["higher"]:
        # What is typed wins over `amlflow.yaml`.
        lower = [key for key in lower or [] if said["lower"] or key not in (higher or [])]
        higher = [key for key in higher or [] if said["higher"] or key not in lower]
    request = comparison.CompareRequest(
        runs=runs or [],
        experiment=experiment,
        filter=filter,
        sort=sort,
        top=top,
        baseline=baseline,
        lower=lower or [],
        higher=higher or [],
        expected=[*(lower or [] if said["lower"] else []), *(higher or [] if said["higher"] else [])],
        metrics=metric or [],
        params=param or [],
        seeds=seeds or [],
        fail_if=fail_if or [],
    )
    view = comparing.View(history or [], plot or [], x, comparing.as_markdown(state, ctx, markdown), junit, html)
    comparing.check(state, request, view)
    origin = comparing.gather(state, request)
    if watch:
        request = comparing.follow(state, origin, request, view)
    result = comparing.compare(state, origin, request, view, state.note)
    files = comparing.write_files(state, origin, result, view, time.monotonic() - started)
    with files.result():
        comparing.show(state, origin, result, view, request)
        if result.findings:
            from amlflow.services import gates

            gates.check(result.findings)
