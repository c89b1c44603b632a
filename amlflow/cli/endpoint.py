"""`amlflow endpoint`: the web services that run."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from amlflow.cli import ci
from amlflow.cli.completers import complete_endpoint
from amlflow.cli.framework import Command, noun
from amlflow.cli.output import Column, moment, to_json
from amlflow.cli.state import State
from amlflow.targets.base import Endpoint, Plan

app = noun("List, show, call, follow and delete web services.")

NameArgument = Annotated[str, typer.Argument(metavar="NAME", autocompletion=complete_endpoint)]

_COLUMNS = (
    Column("ENDPOINT", "name", style="cyan"),
    Column("TARGET", "target"),
    Column("STATE", "state"),
    Column("MODEL", "model"),
    Column("TRAFFIC", lambda r: _shown(r["traffic"])),
    Column("URL", "scoring_url"),
    Column("SINCE", lambda r: moment(r["started_ms"])),
)


@app.command("list", cls=Command)
def list_(ctx: typer.Context) -> None:
    """List the endpoints."""
    from amlflow.services import deployment

    state = State.of(ctx)
    records = [endpoint_record(endpoint) for endpoint in deployment.endpoints(state.workspace)]
    state.out.many(records, _COLUMNS, "name", "No endpoints; `amlflow deploy MODEL` makes one.")


@app.command(cls=Command)
def show(ctx: typer.Context, name: NameArgument) -> None:
    """Show one endpoint: state, address, model, traffic."""
    from amlflow.services import deployment

    state = State.of(ctx)
    _, endpoint = deployment.find_endpoint(state.workspace, name)
    print_endpoint(state, endpoint_record(endpoint))


@app.command(cls=Command)
def invoke(
    ctx: typer.Context,
    name: NameArgument,
    file: Annotated[
        str,
        typer.Argument(
            help="A .json or .csv file; - for stdin. For a batch endpoint also a folder, azureml://datastores/…/paths/… or a "
            "data asset as NAME:VERSION."
        ),
    ] = "",
    example: Annotated[bool, typer.Option("--example", help="Send the model's own input example.")] = False,
    to: Annotated[
        Path | None,
        typer.Option("--to", help="The folder for a batch endpoint's predictions; stdout by default."),
    ] = None,
    detach: Annotated[
        bool, typer.Option("--detach", help="Print the id of a batch endpoint's job, and leave it to itself.")
    ] = False,
) -> None:
    """Ask an endpoint for predictions; prints its JSON answer.

    Takes any MLflow payload (dataframe_split, dataframe_records, inputs, instances), Azure ML's input_data, a bare list of
    records or rows, and CSV with a heading row. A batch endpoint scores files by a job, which is followed on stderr; its
    predictions are rows of number, prediction and file.
    """
    from amlflow.cli import batch as view
    from amlflow.cli import progress
    from amlflow.errors import UsageError
    from amlflow.services import batch, deployment

    state = State.of(ctx)
    if example == bool(file):
        raise UsageError(
            "There is nothing to send." if not file else "A file and --example exclude each other.",
            f"Try `amlflow endpoint invoke {name} data.json`, or --example for the model's input example.",
        )
    target, endpoint = deployment.find_endpoint(state.workspace, name)
    own = (deployment.example_payload(state.workspace, endpoint), "application/json") if example else None
    if batch.scores(target):
        with progress.transfer(state, "Sending") as advance:
            if own:
                begun = batch.submit_request(target, endpoint, *own, advance)
            else:
                begun = batch.submit(target, endpoint, file, sys.stdin.buffer.read, advance)
        view.show(state, begun, to, detach)
        return
    if to or detach:
        raise UsageError(f"--to and --detach are for batch endpoints, and {name!r} is none.", "Leave them out.")
    answer = target.invoke(endpoint.name, *(own or deployment.read_payload(file, sys.stdin.buffer.read)))
    if state.out.wants_document():
        state.out.one(answer if isinstance(answer, dict) else {"predictions": answer}, "predictions")
    else:
        sys.stdout.write(to_json(answer) + "\n")


@app.command(cls=Command)
def conformance(
    ctx: typer.Context,
    name: NameArgument,
    data: Annotated[str, typer.Option("--data", help="A .json or .csv file to compare by as well; - for stdin.")] = "",
    tolerance: Annotated[
        float, typer.Option("--tolerance", min=0, help="Numbers may differ by so much, absolute or relative.")
    ] = 1e-6,
    env_manager: Annotated[
        str,
        typer.Option("--env-manager", help="Where the model is asked: uv makes its environment; local, conda."),
    ] = "uv",
) -> None:
    """Check that an endpoint answers as its model does.

    Sends the model's input example, and the data given, to the endpoint and to MLflow's pyfunc.predict of the same model. Ends
    with 1 and the first difference where the predictions differ.
    """
    from amlflow.cli import progress
    from amlflow.services import conformance as service
    from amlflow.services import deployment

    state = State.of(ctx)
    request = service.Request(data, *deployment.read_payload(data, sys.stdin.buffer.read)) if data else None
    with progress.steps(state) as report:
        found = service.check(state.workspace, name, request, tolerance, env_manager, report)
    record = {
        "endpoint": found.endpoint.name,
        "target": found.endpoint.target,
        "model": found.endpoint.model,
        "requests": found.requests,
        "values": found.values,
        "largest_difference": found.distance,
    }
    state.out.one(record, "endpoint", list(record.items()))


@app.command(cls=Command)
def logs(
    ctx: typer.Context,
    name: NameArgument,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as lines come, until Ctrl-C.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=1, help="So many of the last lines.")] = 100,
    deployment_name: Annotated[
        str, typer.Option("--deployment", help="Of this one; by default of whichever answers, also when it changes.")
    ] = "",
) -> None:
    """Print an endpoint's log."""
    from amlflow.services import deployment

    for line in deployment.logs(State.of(ctx).workspace, name, follow, lines, deployment_name):
        sys.stdout.write(line.rstrip("\n") + "\n")
        sys.stdout.flush()


@app.command(cls=Command)
def keys(
    ctx: typer.Context,
    name: NameArgument,
    rotate: Annotated[bool, typer.Option("--rotate", help="Make a new key; the old one stops working.")] = False,
) -> None:
    """Print the key that requests must carry: Authorization: Bearer KEY.

    Azure shows nobody the key of an aci endpoint: it is kept where the endpoint was deployed, and a new one starts it again.
    """
    from amlflow.services import deployment

    state = State.of(ctx)
    found = deployment.keys(state.workspace, name, rotate)
    for key in found:
        ci.mask(key)
    state.out.one({"primary": found[0]}, "primary", [("primary", found[0])])


@app.command(cls=Command)
def traffic(
    ctx: typer.Context,
    name: NameArgument,
    share: Annotated[list[str], typer.Argument(metavar="DEPLOYMENT=PERCENT...", help="100 together.")],
) -> None:
    """Split an endpoint's requests among its deployments.

    Example: amlflow endpoint traffic wine blue=90 green=10
    """
    from amlflow.services import deploy_options, deployment

    state = State.of(ctx)
    print_endpoint(state, endpoint_record(deployment.set_traffic(state.workspace, name, deploy_options.shares(share))))


@app.command(cls=Command)
def rollback(ctx: typer.Context, name: NameArgument) -> None:
    """Send all requests to the deployment before the one that has them; of a batch endpoint, all data."""
    from amlflow.services import deployment

    state = State.of(ctx)
    print_endpoint(state, endpoint_record(deployment.rollback(state.workspace, name)))


@app.command(cls=Command)
def data(
    ctx: typer.Context,
    name: NameArgument,
    to: Annotated[Path | None, typer.Option("--to", help="A folder, new or empty; NAME-data by default.")] = None,
    window: Annotated[str, typer.Option("--window", help="The last so much time: 30m, 24h, 7d, 2w.")] = "7d",
) -> None:
    """Download what an endpoint deployed with --collect was asked and answered.

    JSON lines in the layout of Azure ML's data collector: model_inputs/YYYY/MM/DD/HH/*.jsonl, and model_outputs.
    `amlflow monitor drift NAME` reads them where they are.
    """
    from amlflow.services import collected_data

    state = State.of(ctx)
    found = collected_data.download(state.workspace, name, window, to or Path(f"{Path(name).name}-data"))
    record = {"endpoint": name, "folder": str(found.folder), "files": found.files, "requests": found.requests}
    state.out.one(record, "folder", list(record.items()))


@app.command(cls=Command)
def delete(ctx: typer.Context, name: NameArgument) -> None:
    """Stop an endpoint and remove it, with all that was made for it; the image of an aci endpoint stays in the registry."""
    from amlflow.services import deployment

    state = State.of(ctx)
    deployment.delete(state.workspace, name)
    state.note(f"Endpoint {name} is gone.")


def endpoint_record(endpoint: Endpoint) -> dict[str, Any]:
    return {
        "name": endpoint.name,
        "target": endpoint.target,
        "state": endpoint.state,
        "model": endpoint.model,
        "url": endpoint.url,
        "scoring_url": endpoint.scoring_url,
        "traffic": dict(endpoint.traffic),
        "port": endpoint.port,
        "pid": endpoint.pid,
        "started_ms": endpoint.started_ms,
        "log_file": endpoint.log_file,
    }


def plan_record(plan: Plan) -> dict[str, Any]:
    return {
        "endpoint": plan.endpoint,
        "target": plan.target,
        "steps": [{"action": step.action, "what": step.what, "detail": step.detail} for step in plan.steps],
    }


def print_endpoint(state: State, record: dict[str, Any]) -> None:
    written = {**record, "started_ms": moment(record["started_ms"]), "traffic": _shown(record["traffic"])}
    rows = [(key, value) for key, value in written.items() if value not in ("", 0)]
    state.out.one(record, "name", [(key.removesuffix("_ms"), value) for key, value in rows])


def _shown(traffic: dict[str, int]) -> str:
    return ", ".join(f"{name} {share} %" for name, share in traffic.items())
