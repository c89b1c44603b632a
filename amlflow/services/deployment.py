"""Models as web services: deploy one to a target, call it, manage what runs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from amlflow.errors import NotFound, NotSupported, UsageError, nearest
from amlflow.services import registry
from amlflow.services.references import ModelSource
from amlflow.targets.base import DeployOptions, DeployTarget, Endpoint, ModelToDeploy, Plan
from amlflow.workspaces.base import Workspace

TARGETS = ("local", "aci", "managed", "aks", "batch")


@dataclass(frozen=True, slots=True)
class DeployRequest:
    """`model` is whatever names a model; `options.name` is empty for a name made of the model's."""

    model: str
    target: str
    options: DeployOptions


def plan(workspace: Workspace, request: DeployRequest) -> tuple[DeployTarget, ModelToDeploy, Plan]:
    """What deploying would do; nothing is changed. Raises for a model that is missing or incomplete."""
    target = find_target(workspace, request.target)
    source = registry.find_source(workspace, request.model)
    folder = workspace.fetch(source.location)
    registry.check_complete(folder, registry.read_mlmodel(folder), source.label)
    model = ModelToDeploy(folder, source.label, source.run_id)
    options = request.options.named(request.options.name or _endpoint_name(source))
    return target, model, target.plan(model, options)


def deploy(workspace: Workspace, request: DeployRequest, report: Callable[[str], None]) -> Endpoint:
    """Deploy the model and wait until it answers."""
    target, _, steps = plan(workspace, request)
    return target.apply(steps, report)


def find_target(workspace: Workspace, name: str) -> DeployTarget:
    if name not in TARGETS:
        near = nearest(name, TARGETS)
        raise UsageError(
            f"There is no deploy target {name!r}.{f' Did you mean {near}?' if near else ''}",
            f"It is one of {', '.join(TARGETS)}.",
        )
    if name != "local":
        raise NotSupported(
            f"This version of amlflow does not deploy to {name!r} yet.",
            "Deploy here with `--target local`.",
        )
    from amlflow.targets.local import LocalTarget

    return LocalTarget(workspace.state_folder())


def endpoints(workspace: Workspace) -> list[Endpoint]:
    return find_target(workspace, "local").list()


def find_endpoint(workspace: Workspace, name: str) -> tuple[DeployTarget, Endpoint]:
    """Raises `NotFound`, naming the nearest."""
    target = find_target(workspace, "local")
    found = {endpoint.name: endpoint for endpoint in target.list()}
    if name not in found:
        raise NotFound(
            f"There is no endpoint {name!r} in workspace {workspace.name!r}.",
            "`amlflow endpoint list` shows them; `amlflow deploy MODEL` makes one.",
            name=name,
            known=found,
        )
    return target, found[name]


def invoke(workspace: Workspace, name: str, body: bytes, content_type: str) -> Any:
    """The endpoint's answer, parsed."""
    target, endpoint = find_endpoint(workspace, name)
    return target.invoke(endpoint.name, body, content_type)


def example_payload(workspace: Workspace, name: str) -> bytes:
    """The input example of the model that the endpoint serves, as a request body. Raises `NotFound` without one."""
    _, endpoint = find_endpoint(workspace, name)
    folder = Path(endpoint.model_folder)
    mlmodel = registry.read_mlmodel(folder)
    info = mlmodel.get("saved_input_example_info") or {}
    served = folder / str(info.get("serving_input_path") or "serving_input_example.json")
    if served.is_file():
        return served.read_bytes()
    path = folder / str(info.get("artifact_path") or "input_example.json")
    if not path.is_file():
        raise NotFound(
            f"The model {endpoint.model} of endpoint {name!r} has no input example.",
            "Log the model with `input_example=`, or give the data in a file.",
        )
    example = json.loads(path.read_text(encoding="utf-8"))
    if isinstance(example, dict) and set(example) <= {"columns", "data", "index"} and "data" in example:
        return json.dumps({"dataframe_split": example}).encode()
    return json.dumps(example if _is_payload(example) else {"inputs": example}).encode()


def read_payload(file: str, stdin: Callable[[], bytes]) -> tuple[bytes, str]:
    """A request body and its content type from a `.json` or `.csv` file, or from stdin for `-`. Raises `UsageError`
    for JSON that does not parse, with the place."""
    if file == "-":
        body, csv = stdin(), False
        csv = body.lstrip()[:1] not in (b"{", b"[")
    else:
        path = Path(file)
        if not path.is_file():
            raise NotFound(f"There is no file {file!r} to send.")
        body, csv = path.read_bytes(), path.suffix.lower() == ".csv"
    if csv:
        return body, "text/csv"
    try:
        content = json.loads(body)
    except ValueError as error:
        raise UsageError(f"{file} is not valid JSON: {error}.", "Name it *.csv if it is CSV.") from error
    if not _is_payload(content):
        # A bare table is what people have at hand: a list of records or of rows.
        records = isinstance(content, list) and content and all(isinstance(row, dict) for row in content)
        body = json.dumps({"dataframe_records" if records else "inputs": content}).encode()
    return body, "application/json"


def logs(workspace: Workspace, name: str, follow: bool, lines: int) -> Iterator[str]:
    target, endpoint = find_endpoint(workspace, name)
    return target.logs(endpoint.name, follow=follow, lines=lines)


def keys(workspace: Workspace, name: str, rotate: bool) -> Sequence[str]:
    target, endpoint = find_endpoint(workspace, name)
    return target.keys(endpoint.name, rotate=rotate)


def delete(workspace: Workspace, name: str) -> None:
    target, endpoint = find_endpoint(workspace, name)
    target.delete(endpoint.name)


def _is_payload(content: Any) -> bool:
    forms = {"dataframe_split", "dataframe_records", "inputs", "instances", "input_data"}
    return isinstance(content, dict) and bool(forms & set(content))


def _endpoint_name(source: ModelSource) -> str:
    base = source.version.name if source.version else source.label.rstrip("/").split("/")[-1]
    name = "".join(character if character.isalnum() else "-" for character in base.lower()).strip("-")
    return name[:60].encode("ascii", "ignore").decode().strip("-") or "model"
