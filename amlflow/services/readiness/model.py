"""The model's files by themselves: whether a web service can be made of them, and what it would miss."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from amlflow.errors import AmlflowError
from amlflow.services import registry
from amlflow.services.readiness.findings import Finding, Hosting, of_error
from amlflow.targets import image
from amlflow.targets.base import ModelToDeploy

# From here on the transfer of the model is what a start mostly waits for; a choice of ours, no limit of a service.
LARGE_BYTES = 1 << 30


def findings(model: ModelToDeploy, hosting: Hosting) -> Iterator[Finding]:
    mlmodel = registry.read_mlmodel(model.folder)
    yield _complete(model, mlmodel, hosting)
    yield _flavors(mlmodel)
    yield _signature(mlmodel, hosting)
    yield _example(model, hosting)
    yield _size(model, hosting)


def size_bytes(model: ModelToDeploy) -> int:
    return sum(file.stat().st_size for file in model.folder.rglob("*") if file.is_file())


def _complete(model: ModelToDeploy, mlmodel: Mapping[str, Any], hosting: Hosting) -> Finding:
    try:
        registry.check_complete(model.folder, mlmodel, model.label)
        if hosting.target == "aci":
            for _ in image.files(model):
                pass
    except AmlflowError as error:
        return of_error("files", error)
    return Finding("ok", "files", "all that the MLmodel file names is there")


def _flavors(mlmodel: Mapping[str, Any]) -> Finding:
    flavors = list(mlmodel["flavors"])
    if "python_function" in flavors:
        return Finding("ok", "flavors", ", ".join(flavors))
    return Finding(
        "error",
        "flavors",
        f"The model has {', '.join(flavors) or 'no flavor'}, and not python_function, by which every target asks a model.",
        "Log it with a flavor that has one, or wrap it in a `mlflow.pyfunc.PythonModel`.",
    )


def _signature(mlmodel: Mapping[str, Any], hosting: Hosting) -> Finding:
    signature = mlmodel.get("signature")
    inputs = _schema(signature, "inputs")
    if inputs:
        outputs = "" if _schema(signature, "outputs") else ", and nothing of what it answers"
        return Finding("ok", "signature", f"{len(inputs)} inputs{outputs}")
    effect = (
        "the job's rows are given to it as they are read"
        if hosting.target == "batch"
        else "nothing checks what it is asked, and a wrong request fails inside the model"
    )
    return Finding(
        "warning",
        "signature",
        f"The model has no signature: {effect}.",
        "Log it with `signature=mlflow.models.infer_signature(X, y)` or an `input_example`; --mend infers one from the input "
        "example.",
    )


def _schema(signature: Any, part: str) -> list[Any]:
    text = signature.get(part) if isinstance(signature, dict) else None
    try:
        found = json.loads(text) if isinstance(text, str) else text
    except ValueError:
        return []
    return found if isinstance(found, list) else []


def _example(model: ModelToDeploy, hosting: Hosting) -> Finding:
    if model.example is not None:
        return Finding("ok", "input example", f"{len(model.example)} bytes as a request")
    effect = (
        "there is nothing to try the deployment with"
        if hosting.target == "batch"
        else "a new deployment is given requests without having been asked, and `endpoint conformance` needs --data"
    )
    return Finding(
        "warning",
        "input example",
        f"The model has no input example: {effect}.",
        "Log it with `input_example=X.head(2)`.",
    )


def _size(model: ModelToDeploy, hosting: Hosting) -> Finding:
    size = size_bytes(model)
    if size < LARGE_BYTES or hosting.target == "local":
        return Finding("ok", "size", f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{size / 1e3:.1f} kB")
    return Finding(
        "warning",
        "size",
        f"The model has {size / 1e9:.1f} GB, which are copied to each machine that starts with it.",
        "Give the deployment longer to start, and leave out of the model what only its training needs.",
    )
