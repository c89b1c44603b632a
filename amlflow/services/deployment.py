"""Models as web services: deploy one to a target, call it, manage what runs."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from amlflow.errors import NotFound, NotSupported, UsageError, nearest
from amlflow.services import references, registry
from amlflow.services.references import ModelSource
from amlflow.serving import signature
from amlflow.targets import payloads
from amlflow.targets.base import Collecting, DeployOptions, DeployTarget, Endpoint, ModelToDeploy, Plan, plain_name
from amlflow.workspaces.abilities import HasOnlineEndpoints
from amlflow.workspaces.base import Workspace

TARGETS = ("local", "managed", "aks", "aci", "batch")
# These are endpoints of one kind in the workspace, and each of them looks at the other's names by itself.
_ONLINE = ("managed", "aks")


@dataclass(frozen=True, slots=True)
class DeployRequest:
    """`model` is whatever names a model; `options.name` is empty for a name made of the model's."""

    model: str
    target: str
    options: DeployOptions


def plan(workspace: Workspace, request: DeployRequest) -> tuple[DeployTarget, Plan]:
    """What deploying would do, and the target whose `apply` does it; nothing is changed. Raises for a model that is missing or
    incomplete."""
    target = find_target(workspace, request.target)
    source, model = find_model(workspace, request.model)
    registry.check_complete(model.folder, model.mlmodel, source.label)
    options = request.options.named(request.options.name or endpoint_name(source))
    unchecked = _check_columns(model.mlmodel, source.label, options.collect) if options.collect is not None else []
    made = target.plan(model, options)
    made = replace(made, warnings=(*made.warnings, *unchecked))
    if made.fresh:
        _check_free(workspace, request.target, options.name)
    return target, made


def find_model(workspace: Workspace, asked: str) -> tuple[ModelSource, ModelToDeploy]:
    """Whatever names a model, and its files on this machine. Raises for one that is not there or has no MLmodel file, and for a
    bare name that is both a folder and a registered model."""
    registry.check_unambiguous(workspace, asked)
    source = registry.find_source(workspace, asked)
    folder = workspace.fetch(source.location)
    mlmodel = registry.read_mlmodel(folder)
    example = payloads.of_example(folder, mlmodel.get("saved_input_example_info") or {})
    registered = f"{source.version.name}:{source.version.version}" if source.version else ""
    return source, ModelToDeploy(folder, source.label, source.run_id, registered, example, mlmodel)


def find_target(workspace: Workspace, name: str) -> DeployTarget:
    if name not in TARGETS:
        near = nearest(name, TARGETS)
        raise UsageError(
            f"There is no deploy target {name!r}.{f' Did you mean {near}?' if near else ''}",
            f"It is one of {', '.join(TARGETS)}.",
        )
    if name == "local":
        from amlflow.targets.local import LocalTarget

        return LocalTarget(workspace.state_folder())
    if not isinstance(workspace, HasOnlineEndpoints):
        raise NotSupported(
            f"The target {name!r} needs an Azure ML workspace, and {workspace.name!r} is none.",
            "Name one with -w, or deploy here with `--target local`.",
        )
    if name == "aks":
        from amlflow.targets.aks import AksTarget

        return AksTarget(workspace.service)
    if name == "batch":
        from amlflow.targets.batch import BatchTarget

        return BatchTarget(workspace.service)
    if name == "aci":
        from amlflow.targets.aci import AciTarget

        return AciTarget(workspace.service)
    from amlflow.targets.managed import ManagedTarget

    return ManagedTarget(workspace.service)


def endpoints(workspace: Workspace) -> list[Endpoint]:
    """Those of every target that the workspace has."""
    return [endpoint for target in _targets(workspace).values() for endpoint in target.list()]


def find_endpoint(workspace: Workspace, name: str) -> tuple[DeployTarget, Endpoint]:
    """Raises `NotFound`, naming the nearest."""
    for target in _targets(workspace).values():
        with contextlib.suppress(NotFound):
            return target, target.status(name)
    raise NotFound(
        f"There is no endpoint {name!r} in workspace {workspace.name!r}.",
        "`amlflow endpoint list` shows them; `amlflow deploy MODEL` makes one.",
        name=name,
        known=[endpoint.name for endpoint in endpoints(workspace)],
    )


def invoke(workspace: Workspace, name: str, body: bytes, content_type: str) -> Any:
    """The endpoint's answer, parsed."""
    target, endpoint = find_endpoint(workspace, name)
    return target.invoke(endpoint.name, body, content_type)


def example_payload(workspace: Workspace, endpoint: Endpoint) -> bytes:
    """The input example of the model that the endpoint serves, as a request body. Raises `NotFound` without one."""
    folder = model_folder(workspace, endpoint)
    example = payloads.of_example(folder, registry.read_mlmodel(folder).get("saved_input_example_info") or {})
    if example is None:
        raise NotFound(
            f"The model {endpoint.model} of endpoint {endpoint.name!r} has no input example.",
            "Log the model with `input_example=`, or give the data in a file.",
        )
    return example


def model_folder(workspace: Workspace, endpoint: Endpoint) -> Path:
    """The folder on this machine of the model that the endpoint serves. Raises `NotFound` where it serves none."""
    if endpoint.model_folder:
        return Path(endpoint.model_folder)
    if not endpoint.model:
        raise NotFound(f"Endpoint {endpoint.name!r} serves no model.", "Deploy one with `amlflow deploy MODEL`.")
    return workspace.fetch(references.find_model(workspace, endpoint.model).location)


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
    if not payloads.is_payload(content):
        # A bare table is what people have at hand: a list of records or of rows, or columns and data.
        body = json.dumps({payloads.bare_form(content): content}).encode()
    return body, "application/json"


def logs(workspace: Workspace, name: str, follow: bool, lines: int, of: str = "") -> Iterator[str]:
    """Of the deployment `of`, or of the one that answers."""
    target, endpoint = find_endpoint(workspace, name)
    return target.logs(endpoint.name, follow, lines, of)


def keys(workspace: Workspace, name: str, rotate: bool) -> Sequence[str]:
    target, endpoint = find_endpoint(workspace, name)
    return target.keys(endpoint.name, rotate=rotate)


def set_traffic(workspace: Workspace, name: str, traffic: Mapping[str, int]) -> Endpoint:
    """Send each deployment its share, in percent."""
    target, endpoint = find_endpoint(workspace, name)
    return target.set_traffic(endpoint.name, traffic)


def rollback(workspace: Workspace, name: str) -> Endpoint:
    """Send all requests to the deployment before."""
    target, endpoint = find_endpoint(workspace, name)
    return target.rollback(endpoint.name)


def delete(workspace: Workspace, name: str) -> None:
    target, endpoint = find_endpoint(workspace, name)
    target.delete(endpoint.name)


def endpoint_name(source: ModelSource) -> str:
    """The model's name as the services of Azure take names."""
    return plain_name(source.version.name if source.version else source.label)


def _targets(workspace: Workspace) -> dict[str, DeployTarget]:
    known = TARGETS if isinstance(workspace, HasOnlineEndpoints) else ("local",)
    return {name: find_target(workspace, name) for name in known}


def _check_columns(mlmodel: Mapping[str, Any], label: str, collect: Collecting) -> list[str]:
    """Raises `UsageError` for a column that the model has not: a misspelt one would be collected after all. Returns what to say
    where the model does not tell its columns."""
    asked = [*dict.fromkeys([*collect.dropped, *collect.hashed])]
    known = signature.input_names(mlmodel.get("signature"))
    if asked and not known:
        return [
            f"Warning: The model {label} does not tell its columns by name, so nobody has checked that there is "
            f"{' or '.join(map(repr, asked))}: what is misspelt is collected as it is. `amlflow endpoint data` shows the names."
        ]
    for name in asked:
        if name not in known:
            near = nearest(name, known)
            raise UsageError(
                f"The model {label} has no column {name!r} to leave out or to hash.{f' Did you mean {near}?' if near else ''}",
                f"It has {', '.join(known)}.",
            )
    return []


def _check_free(workspace: Workspace, target: str, name: str) -> None:
    """Raises `UsageError` where another target has an endpoint of that name: the commands would not know which is meant."""
    others = [
        item for item in _targets(workspace).items() if item[0] != target and not {item[0], target} <= set(_ONLINE)
    ]

    def taken(other: tuple[str, DeployTarget]) -> bool:
        try:
            other[1].status(name)
        except NotFound:
            return False
        return True

    with ThreadPoolExecutor(len(others) or 1) as pool:
        for (other, _), has in zip(others, pool.map(taken, others), strict=True):
            if has:
                raise UsageError(
                    f"There is an endpoint {name!r} of the target {other} already.",
                    f"Choose another with --name, or delete it with `amlflow endpoint delete {name}`.",
                )
