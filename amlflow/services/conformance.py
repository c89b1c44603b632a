"""Whether an endpoint answers as its model does: the same requests to the service and to MLflow's `pyfunc.predict`."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from amlflow.environments import build, spec
from amlflow.errors import AmlflowError, NotFound, UsageError
from amlflow.services import deployment, model_scripts, registry
from amlflow.targets import answers, payloads
from amlflow.targets.base import Endpoint
from amlflow.workspaces.base import Workspace

_REFERENCE_S = 900.0


@dataclass(frozen=True, slots=True)
class Conformance:
    """An endpoint that answers as its model. `requests` were compared, with `values` predicted values in all; `distance` is the
    largest difference between two numbers."""

    endpoint: Endpoint
    requests: int
    values: int
    distance: float


@dataclass(frozen=True, slots=True)
class Request:
    label: str
    body: bytes
    content_type: str


def check(
    workspace: Workspace,
    name: str,
    data: Request | None,
    tolerance: float,
    env_manager: str,
    report: Callable[[str], None],
) -> Conformance:
    """Ask the endpoint and its model the model's input example and `data`. Raises `AmlflowError` with the first difference, and
    `NotFound` where there is nothing to ask."""
    if env_manager not in ("uv", "local", "conda"):
        raise UsageError(f"There is no environment manager {env_manager!r}.", "It is uv, local or conda.")
    target, endpoint = deployment.find_endpoint(workspace, name)
    folder = deployment.model_folder(workspace, endpoint)
    requests = _requests(folder, endpoint, data)
    expected = _reference(folder, endpoint.model, requests, env_manager, report)
    report(f"Asking {name}…")
    values, distance = 0, 0.0
    for request, wanted in zip(requests, expected, strict=True):
        given = answers.predictions(target.invoke(endpoint.name, request.body, request.content_type))
        wanted = answers.predictions(wanted)
        if found := answers.first_difference(given, wanted, tolerance):
            raise AmlflowError(_said(endpoint, request, found, tolerance), _likely(endpoint))
        values += answers.size(given)
        distance = max(distance, answers.distance(given, wanted))
    return Conformance(endpoint, len(requests), values, distance)


def _requests(folder: Path, endpoint: Endpoint, data: Request | None) -> list[Request]:
    example = payloads.of_example(folder, registry.read_mlmodel(folder).get("saved_input_example_info") or {})
    found = [Request("the input example", example, "application/json")] if example is not None else []
    found += [data] if data is not None else []
    if not found:
        raise NotFound(
            f"The model {endpoint.model} of endpoint {endpoint.name!r} has no input example to compare by.",
            "Give requests with --data FILE, or log the model with `input_example=`.",
        )
    return found


def _reference(
    folder: Path, label: str, requests: Sequence[Request], env_manager: str, report: Callable[[str], None]
) -> list[Any]:
    environment = build.ensure(*model_environment(folder, env_manager), report)
    report(f"Asking {label} itself, by MLflow…")
    with tempfile.TemporaryDirectory(prefix="amlflow-") as scratch:
        asked, given = Path(scratch) / "requests.json", Path(scratch) / "answers.json"
        bodies = [payloads.as_mlflow(request.body, request.content_type) for request in requests]
        listed = [
            {"body": body.decode("utf-8-sig"), "content_type": request.content_type}
            for body, request in zip(bodies, requests, strict=True)
        ]
        asked.write_text(json.dumps(listed), encoding="utf-8")
        found: list[Any] = model_scripts.answer(
            environment,
            "reference.py",
            [folder, asked, given],
            _REFERENCE_S,
            f"MLflow's pyfunc.predict of {label} has not ended",
            f"MLflow cannot answer the request with {label} itself",
            "Correct the data, or the model's requirements where a package is missing.",
        )
        return found


def model_environment(folder: Path, env_manager: str) -> tuple[spec.EnvironmentSpec, build.Manager]:
    """An environment in which MLflow can load the model, and what makes it."""
    if env_manager == "local":
        return spec.EnvironmentSpec(""), "local"
    wanted = spec.of_model(folder).with_mlflow(str(registry.read_mlmodel(folder).get("mlflow_version") or ""))
    return wanted, "conda" if env_manager == "conda" or wanted.conda_file is not None else "uv"


def _said(endpoint: Endpoint, request: Request, found: answers.Difference, tolerance: float) -> str:
    place = f"predictions{found.place}" if found.place.startswith(("[", ".")) else found.place or "the predictions"
    one, other = (json.dumps(value)[:300] for value in (found.one, found.other))
    return (
        f"Endpoint {endpoint.name!r} answers {request.label} otherwise than {endpoint.model} itself: {place} is {one}, and "
        f"pyfunc.predict says {other} (tolerance {tolerance:g})."
    )


def _likely(endpoint: Endpoint) -> str:
    taking = [name for name, share in endpoint.traffic.items() if share]
    if len(taking) > 1:
        return f"Its requests are split between {', '.join(taking)}: the answer may be another deployment's."
    return (
        f"Deploy {endpoint.model} again; see `amlflow endpoint logs {endpoint.name}` for package versions that differ."
    )
