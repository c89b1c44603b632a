"""A scoring script and an environment for models that Azure ML's own scorer of MLflow models cannot serve.

Both are assets named by their content: the same model, deployed again, makes neither anew.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from amlflow import documents, serving
from amlflow.environments import spec
from amlflow.errors import UsageError
from amlflow.targets import image
from amlflow.targets.base import ModelToDeploy
from amlflow.workspaces.abilities import JobEnvironment, Snapshot
from amlflow.workspaces.azure import snapshot
from amlflow.workspaces.azure.assets import Assets
from amlflow.workspaces.azure.datastores import AzureDatastores
from amlflow.workspaces.azure.service import Service

SCRIPT = "score.py"
MODES = ("auto", "azure", "own")
MONITORING = "azureml-ai-monitoring"
BASE_IMAGE = "mcr.microsoft.com/azureml/openmpi4.1.0-ubuntu22.04:latest"
_PACKAGE = "amlflow_serving"
_FILES = ("__init__", "loader", "payload", "signature")
# 1.3.4 crashes at its start (azureml-examples#4004). The loader reads the MLmodel file with pyyaml.
_REQUIREMENTS = ("azureml-inference-server-http>=1.0,!=1.3.4", "pyyaml>=6")
_PIN = re.compile(r"[=<>~!]")


@dataclass(frozen=True, slots=True)
class OwnScoring:
    """The script and the environment that a deployment is to have. `code` and `environment` are the ids that they have, or will
    have once they are made; `has_code` and `has_environment` say that the workspace has them."""

    files: Snapshot
    wanted: JobEnvironment
    code: str
    environment: str
    has_code: bool
    has_environment: bool


def why_own(model: ModelToDeploy) -> str:
    """Why Azure's scorer is said to fail with the model; empty where nothing speaks against it.

    Since May 2026 it imports azureml-ai-monitoring, and ends where the model's environment lacks it (azureml-examples#4008);
    models of MLflow 3 were seen to crash in it (azureml-examples#4051)."""
    version = str(model.mlmodel.get("mlflow_version") or "")
    if version.split(".")[0].isdigit() and int(version.split(".")[0]) >= 3:
        return f"the model was logged by MLflow {version}"
    for name in ("conda.yaml", "requirements.txt"):
        file = model.folder / name
        if file.is_file():
            text = file.read_text(encoding="utf-8", errors="replace").replace("_", "-").lower()
            return "" if MONITORING in text else f"the model's {name} lacks {MONITORING}"
    return "the model names no requirements"


def find(service: Service, model: ModelToDeploy, collect: bool) -> OwnScoring:
    """What the workspace has of it; nothing is made. Raises `UsageError` for requirements that an image cannot be made of."""
    assets = Assets(service, AzureDatastores(service))
    home = Path(serving.__file__).parent
    files = [(SCRIPT, home / SCRIPT), *((f"{_PACKAGE}/{name}.py", home / f"{name}.py") for name in _FILES)]
    taken = snapshot.of_files(files)
    wanted = JobEnvironment(image=BASE_IMAGE, conda=_conda(model, collect))
    with ThreadPoolExecutor(2) as pool:
        asked = pool.submit(assets.known_code, taken)
        environment, has_environment = assets.known_environment(wanted)
        code = asked.result()
    return OwnScoring(taken, wanted, code or assets.code_id(taken), environment, bool(code), has_environment)


def make(service: Service, found: OwnScoring, report: Callable[[str], None]) -> OwnScoring:
    """Have both in the workspace."""
    assets = Assets(service, AzureDatastores(service))
    code, environment = found.code, found.environment
    if not found.has_code:
        report("Uploading the scoring script…")
        code = assets.send_code(found.files, lambda done, total: None)
    if not found.has_environment:
        environment = assets.environment(found.wanted, report)
    return replace(found, code=code, environment=environment, has_code=True, has_environment=True)


def _conda(model: ModelToDeploy, collect: bool) -> str:
    """The model's packages and those of the script, as a conda file."""
    import yaml

    file = model.folder / "conda.yaml"
    found = spec.from_conda(file) if file.is_file() else spec.of_model(model.folder)
    if found.conda_file is None:
        found = spec.of_model(model.folder)
    lines = [*found.build_requirements, *found.requirements]
    for line in lines:
        _check(line, found.source)
    more = [*_REQUIREMENTS, *([MONITORING] if collect else [])]
    if found.conda_file is not None:
        content = _extended(documents.read(file, ("name", "channels", "dependencies", "prefix", "variables")), more)
    else:
        python = found.python or f"{sys.version_info.major}.{sys.version_info.minor}"
        head = [f"python{python}" if _PIN.match(python) else f"python={python}", "pip"]
        content = {"channels": ["conda-forge"], "dependencies": [*head, {"pip": [*lines, *more]}]}
    text: str = yaml.safe_dump({"name": "scoring", **content}, sort_keys=False, allow_unicode=True)
    return text


def _extended(content: dict[str, Any], more: list[str]) -> dict[str, Any]:
    entries = content.get("dependencies") or []
    pip = [line for entry in entries if isinstance(entry, dict) for line in entry["pip"]]
    rest = [entry for entry in entries if not isinstance(entry, dict)]
    kept = {key: value for key, value in content.items() if key in ("channels", "variables")}
    return {**kept, "dependencies": [*rest, *(["pip"] if "pip" not in rest else []), {"pip": [*pip, *more]}]}


def _check(line: str, source: str) -> None:
    if line.startswith("-c "):
        raise UsageError(
            f"{source} asks for {line!r}, a file of this machine, which the build of an image cannot reach.",
            "Write the versions into the requirements themselves.",
        )
    image.check_line(line, source)
