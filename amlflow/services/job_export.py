"""A planned job as the YAML file that Azure's own command line takes (`az ml job create -f job.yml`)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from amlflow.services.submission import RemotePlan
from amlflow.workspaces.abilities import JobInput, JobOutput

_SCHEMA = "https://azuremlschemas.azureedge.net/latest/commandJob.schema.json"
_IDENTITIES = {"token": "aml_token", "managed": "managed", "user": "user_identity"}
_SERVERLESS = "serverless"


def write(planned: RemotePlan, file: Path) -> None:
    """Write the file, paths relative to it; a conda file goes beside it. Raises `OSError`."""
    import yaml

    content = document(planned, file)
    file.parent.mkdir(parents=True, exist_ok=True)
    conda = planned.spec.environment.conda
    if conda:
        _conda_file(file).write_text(conda, encoding="utf-8")
    file.write_text(yaml.safe_dump(content, sort_keys=False, allow_unicode=True), encoding="utf-8")


def document(planned: RemotePlan, file: Path) -> dict[str, Any]:
    """What the file says."""
    spec = planned.spec
    folder = file.parent.absolute()
    content: dict[str, Any] = {
        "$schema": _SCHEMA,
        "type": "command",
        "experiment_name": spec.experiment,
        "display_name": spec.display_name or None,
        "code": _relative(spec.code, folder),
        "command": spec.command,
        "environment": _environment(planned, file),
        "compute": None if spec.compute == _SERVERLESS else f"azureml:{spec.compute}",
        "inputs": {name: _input(value, folder) for name, value in spec.inputs.items()},
        "outputs": {name: _output(value) for name, value in spec.outputs.items()},
        "environment_variables": dict(spec.variables),
        "resources": {
            "instance_count": spec.instances,
            "instance_type": spec.size,
            "shm_size": spec.shm_size,
            "docker_args": spec.docker_args,
        },
        "distribution": _distribution(planned),
        "limits": {"timeout": spec.timeout_s} if spec.timeout_s else None,
        "identity": {"type": _IDENTITIES[spec.identity]} if spec.identity else None,
        "queue_settings": {"job_tier": "spot"} if spec.compute == _SERVERLESS and spec.tier == "spot" else None,
        "tags": dict(spec.tags),
    }
    content["resources"] = {key: value for key, value in content["resources"].items() if value}
    return {key: value for key, value in content.items() if value}


def _environment(planned: RemotePlan, file: Path) -> Any:
    wanted = planned.spec.environment
    if wanted.named:
        return wanted.named if wanted.named.startswith(("azureml:", "/")) else f"azureml:{wanted.named}"
    if not wanted.conda:
        return {"image": wanted.image}
    return {"image": wanted.image, "conda_file": f"./{_conda_file(file).name}"}


def _conda_file(file: Path) -> Path:
    return file.with_name(f"{file.stem}.conda.yml")


def _input(value: JobInput, folder: Path) -> dict[str, Any]:
    place = Path(value.value)
    content = {"type": value.kind, "path": _relative(place, folder) if place.is_absolute() else value.value}
    return {**content, "mode": value.mode} if value.mode else content


def _output(value: JobOutput) -> dict[str, Any]:
    return {"type": value.kind, "path": value.uri} if value.uri else {"type": value.kind}


def _distribution(planned: RemotePlan) -> dict[str, Any] | None:
    spec = planned.spec
    if not spec.distribution:
        return None
    content: dict[str, Any] = {"type": spec.distribution}
    if spec.distribution in ("pytorch", "mpi"):
        content["process_count_per_instance"] = spec.processes or 1
    if spec.distribution == "tensorflow":
        content["worker_count"] = spec.instances
    return content


def _relative(place: Path, folder: Path) -> str:
    try:
        relative = os.path.relpath(place, folder)
    except ValueError:
        return str(place)
    return relative if relative.startswith("..") else f"./{relative}" if relative != "." else "."
