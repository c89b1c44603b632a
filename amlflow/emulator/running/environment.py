"""The environment of a job: made by uv from its conda file, a visible step with a log of its own."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path
from typing import IO, Any

from amlflow.emulator.store import Document
from amlflow.emulator.web import iso_now
from amlflow.environments import build, spec
from amlflow.errors import AmlflowError


class BuildFailed(Exception):
    """The environment cannot be made; the message is what the log ends with."""


def prepare(environment: Document, log: Path, scratch: Path) -> dict[str, str]:
    """The variables that activate the environment of the asset. What happens is written to `log`. Raises `BuildFailed`.

    Images are not pulled: an environment that is an image alone gets the Python that runs the emulator, which has MLflow."""
    log.parent.mkdir(parents=True, exist_ok=True)
    body = environment.body
    with log.open("a", encoding="utf-8") as sink:
        _say(sink, f"Environment {environment.id.split('/')[-3]}:{environment.name}")
        if body.get("build"):
            _say(sink, "A Dockerfile is not built here: the job gets the emulator's own Python.")
        if body.get("image"):
            _say(sink, f"The image {body['image']} is not pulled: only its conda file counts.")
        if not body.get("condaFile"):
            return build.ensure(spec.EnvironmentSpec("the emulator"), "local").variables()
        started = time.monotonic()
        try:
            made = _build(body, sink, scratch)
        except AmlflowError as error:
            _say(sink, f"ERROR: {error.paragraph()}")
            raise BuildFailed(error.paragraph()) from error
        _say(
            sink,
            f"Environment is ready after {time.monotonic() - started:.1f}s ({'made' if made.created else 'cached'}).",
        )
    return made.variables()


def _build(body: dict[str, Any], sink: IO[str], scratch: Path) -> build.Environment:
    text = str(body["condaFile"])
    # The file's name is part of no environment: equal content is built once, whoever asks.
    file = scratch / f"conda-{hashlib.sha256(text.encode()).hexdigest()[:16]}.yaml"
    scratch.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    wanted = spec.from_conda(file)
    for line in (f"python {wanted.python or '(any)'}", *wanted.requirements):
        _say(sink, f"  {line}")
    manager: build.Manager = "conda" if wanted.conda_file is not None else "uv"
    return build.ensure(wanted, manager, lambda line: _say(sink, line))


def base_variables() -> dict[str, str]:
    """What a job sees of the emulator's own environment: nothing that leads to another workspace, or names a secret."""
    hidden = (
        "AMLFLOW_",
        "MLFLOW_",
        "_MLFLOW_",
        "AZUREML_",
        "AZURE_",
        "IDENTITY_",
        "MSI_",
        "ARM_",
        "VIRTUAL_ENV",
        "PYTHONPATH",
    )
    return {name: value for name, value in os.environ.items() if not name.startswith(hidden)}


def _say(sink: IO[str], line: str) -> None:
    sink.write(f"{iso_now()} {line}\n")
    sink.flush()
