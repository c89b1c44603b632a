"""Projects with a `docker_env`: their entry point runs in a container of an engine on this machine."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from amlflow import documents
from amlflow.errors import AmlflowError, UsageError
from amlflow.journal import attach, datasets
from amlflow.mlproject.file import Project

_ENGINES = ("docker", "podman")
_ASK_S = 20


def command(project: Project, shell_line: str, state_folder: Path, plugins: Sequence[Path]) -> Sequence[str]:
    """What starts the entry point in the project's image. The project, the workspace's state with the journal, and the folders
    of PYTHONPATH (`plugins`) are mounted at their own paths, so that they mean the same inside; variables go in by name, so that
    no value stands in an argument.

    Raises `AmlflowError` where no engine runs, `UsageError` for a `docker_env` that cannot be read."""
    docker = dict(project.docker_env or {})
    engine = _running_engine(project)
    line = [engine, "run", "--rm", "--init", "--workdir", str(project.folder)]
    for place in (project.folder, state_folder):
        line += ["--volume", f"{place}:{place}"]
    for place in plugins:
        line += ["--volume", f"{place}:{place}:ro"]
    for volume in documents.texts(project.source_file, docker, "volumes"):
        line += ["--volume", volume]
    for name in sorted(name for name in _passed(os.environ) if "=" not in name):
        line += ["--env", name]
    for item in docker.get("environment") or []:
        if isinstance(item, str):
            line += ["--env", item]
        elif isinstance(item, list) and len(item) == 2:
            line += ["--env", f"{item[0]}={item[1]}"]
        else:
            raise UsageError(
                f"{project.source_file}: {item!r} under docker_env.environment is neither NAME nor [NAME, VALUE]."
            )
    return [*line, str(docker["image"]), "bash", "-c", shell_line]


def _passed(environment: os._Environ[str]) -> list[str]:
    """The variables by which a program finds its run, and those that the user set for MLflow."""
    own = [
        "MLFLOW_RUN_ID",
        "MLFLOW_TRACKING_URI",
        "MLFLOW_REGISTRY_URI",
        "MLFLOW_EXPERIMENT_ID",
        "MLFLOW_EXPERIMENT_NAME",
    ]
    journal = ["PYTHONPATH", "AMLFLOW_RUN", attach.JOURNAL, attach.BEHIND, attach.PREFIX, attach.TOKEN, attach.DRAINED]
    journal += [attach.DURABILITY, attach.RANK_ZERO, datasets.ROWS]
    return list(dict.fromkeys([*own, *journal, *(name for name in environment if name.startswith("MLFLOW_"))]))


def _running_engine(project: Project) -> str:
    found = [path for name in _ENGINES if (path := shutil.which(name))]
    for engine in found:
        try:
            asked = subprocess.run([engine, "info"], capture_output=True, timeout=_ASK_S, check=False)
        except (OSError, subprocess.TimeoutExpired):
            continue
        if asked.returncode == 0:
            return engine
    image = (project.docker_env or {}).get("image")
    reason = (
        f"{found[0]} is installed, but its engine does not answer"
        if found
        else "neither docker nor podman is installed"
    )
    raise AmlflowError(
        f"The project runs in the Docker image {image!r} (docker_env in {project.source_file}), and no container engine runs "
        f"here: {reason}.",
        "Start one, or run the project in the environment at hand with `--env-manager local`.",
    )
