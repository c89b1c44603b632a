"""From a project's environment files to the environment of a job: an image, and a conda file that it gets."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from amlflow import documents
from amlflow.environments import spec
from amlflow.environments.spec import EnvironmentSpec
from amlflow.errors import UsageError
from amlflow.mlproject.file import Project
from amlflow.workspaces.abilities import JobEnvironment

BASE_IMAGE = "mcr.microsoft.com/azureml/openmpi4.1.0-ubuntu22.04:latest"
_IMAGE_PREFIX = "image:"
# What sends a program's runs to the workspace from within a job.
_PLUGIN = "azureml-mlflow"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_PIN = re.compile(r"[=<>~!@]")


def chosen(project: Project, asked: str) -> tuple[JobEnvironment, list[str]]:
    """The environment, and what is to be said of it. `asked` is `NAME:VERSION` of one that the workspace has, or
    `image:REF`; without it the project's files decide. Raises `UsageError` where they cannot be had elsewhere."""
    if asked.startswith(_IMAGE_PREFIX):
        return JobEnvironment(image=asked.removeprefix(_IMAGE_PREFIX)), []
    if asked:
        return JobEnvironment(named=asked), []
    if project.docker_env is not None:
        image = str(project.docker_env["image"])
        return JobEnvironment(image=image), _image_warnings(image)
    if project.python_env is not None:
        found = spec.from_python_env(project.python_env)
    elif project.conda_env is not None:
        found = spec.from_conda(project.conda_env)
    else:
        raise UsageError(
            f"The project {str(project.folder)!r} has no environment file, and on a compute there is no environment at hand.",
            "Add a python_env.yaml or conda.yaml, or name one with --environment NAME:VERSION or --environment image:REF.",
        )
    content = _conda_content(found, project.conda_env)
    return JobEnvironment(image=BASE_IMAGE, conda=_written(content)), _pin_warnings(found)


def variables(project: Project) -> dict[str, str]:
    """What `docker_env` sets for the program. Raises `UsageError` for mounts, which a compute does not have."""
    docker = dict(project.docker_env or {})
    if documents.texts(project.source_file, docker, "volumes"):
        raise UsageError(
            f"{project.source_file} mounts folders of this machine (docker_env.volumes), which a compute does not have.",
            "Give them as --input.",
        )
    found: dict[str, str] = {}
    for item in docker.get("environment") or []:
        if isinstance(item, list) and len(item) == 2:
            found[str(item[0])] = str(item[1])
        elif isinstance(item, str):
            import os

            if item in os.environ:
                found[item] = os.environ[item]
        else:
            raise UsageError(
                f"{project.source_file}: {item!r} under docker_env.environment is neither NAME nor [NAME, VALUE]."
            )
    return found


def _conda_content(found: EnvironmentSpec, conda_env: Path | None) -> dict[str, Any]:
    for line in (*found.requirements, *found.build_requirements):
        if Path(line).is_absolute() or line.startswith("-c "):
            raise UsageError(
                f"{found.source} asks for {line!r}, a file of this machine, which the build of an image cannot reach.",
                "Put it into the project and import it from there, or name a package of an index.",
            )
    if found.conda_file is not None:
        assert conda_env is not None
        return _with_plugin(documents.read(conda_env, ("name", "channels", "dependencies", "prefix", "variables")))
    python = found.python or f"{sys.version_info.major}.{sys.version_info.minor}"
    head = [f"python{python}" if _PIN.match(python) else f"python={python}", "pip"]
    requirements = [*found.build_requirements, *found.requirements]
    return _with_plugin(
        {"name": "project", "channels": ["conda-forge"], "dependencies": [*head, {"pip": requirements}]}
    )


def _with_plugin(content: dict[str, Any]) -> dict[str, Any]:
    """With what sends runs to the workspace, where the file does not ask for it itself."""
    dependencies = list(content.get("dependencies") or [])
    pip = next((entry for entry in dependencies if isinstance(entry, dict)), None)
    if pip is None:
        pip = {"pip": []}
        dependencies += ["pip", pip]
    lines = [str(line) for line in pip["pip"]]
    if not any(_name(line) == _PLUGIN for line in lines):
        lines.append(_PLUGIN)
    kept = [{"pip": lines} if entry is pip else entry for entry in dependencies]
    return {**{key: value for key, value in content.items() if key != "prefix"}, "dependencies": kept}


def _pin_warnings(found: EnvironmentSpec) -> list[str]:
    loose = [name for line in found.requirements if (name := _name(line)) and not _PIN.search(line)]
    said = []
    if loose:
        shown = ", ".join(loose[:6]) + (", …" if len(loose) > 6 else "")
        said.append(f"Warning: {found.source} gives no version of {shown}: a later build may get others.")
    return said


def _image_warnings(image: str) -> list[str]:
    """Azure's nodes are amd64 and pull from a registry: an image of this machine alone is neither there nor of that kind."""
    import shutil
    import subprocess

    engine = shutil.which("docker") or shutil.which("podman")
    if engine is None:
        return []
    try:
        asked = subprocess.run(
            [engine, "image", "inspect", "--format", "{{.Architecture}}", image],
            capture_output=True,
            text=True,
            timeout=5,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    architecture = asked.stdout.strip()
    if asked.returncode == 0 and architecture and architecture != "amd64":
        return [
            f"Warning: the image {image} of this machine is for {architecture}, and Azure's nodes are amd64: push one that is."
        ]
    return []


def _name(line: str) -> str:
    match = _NAME.match(line)
    return match[0].lower().replace("_", "-") if match else ""


def _written(content: dict[str, Any]) -> str:
    import yaml

    text: str = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
    return text


def named_lines(lines: Sequence[str], what: str) -> dict[str, str]:
    """`["name=value", …]` as a mapping; a name that cannot be one of an input or output is a `UsageError`."""
    found: dict[str, str] = {}
    for line in lines:
        name, equals, value = line.partition("=")
        if not equals or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            raise UsageError(
                f"{line!r} is no {what}.", f"Write --{what} NAME=VALUE; a name has letters, digits and '_'."
            )
        found[name] = value
    return found
