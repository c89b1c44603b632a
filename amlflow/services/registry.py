"""Registered models: make a version of what a run, a job or a folder holds, and manage what is there."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from amlflow.errors import AmlflowError, NotFound, UsageError
from amlflow.services import references
from amlflow.services.references import ModelSource
from amlflow.workspaces.base import ModelVersion, Workspace

# Of a run that is made for the files of a version alone.
_EXPERIMENT, _FOLDER = "Default", "model"
_EXPLICIT = ("runs:/", "models:/", ".", "/", "~")


@dataclass(frozen=True, slots=True)
class RegisterRequest:
    """`source` is `runs:/…`, a run (its only model), `best:METRIC`, a model or a folder with an MLmodel file."""

    source: str
    name: str
    experiment: str = ""
    description: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    aliases: Sequence[str] = ()


def register(workspace: Workspace, request: RegisterRequest, warn: Callable[[str], None]) -> ModelVersion:
    """Make a version of the model. The source is looked at before anything is changed: its MLmodel file must be read,
    and a missing signature is warned of."""
    check_name(request.name)
    for alias in request.aliases:
        check_alias(alias)
    source = find_source(workspace, request.source, request.experiment)
    folder = workspace.fetch(source.location)
    mlmodel = read_mlmodel(folder)
    check_complete(folder, mlmodel, source.label)
    if not mlmodel.get("signature"):
        warn(
            f"The model {source.label} has no signature, so nothing checks what it is asked. Log it with "
            "`signature=mlflow.models.infer_signature(X, y)` or an `input_example`."
        )
    version = workspace.create_model_version(
        request.name, source.uri, source.run_id, request.description, dict(request.tags)
    )
    set_aliases(workspace, version, request.aliases, warn)
    return workspace.get_model_version(version.name, version.version) if request.aliases else version


def register_files(
    workspace: Workspace, name: str, folder: Path, run_name: str, description: str, tags: Mapping[str, str]
) -> ModelVersion:
    """A version whose files are copied from the folder into the workspace, as those of a new run."""
    run = workspace.create_run(workspace.ensure_experiment(_EXPERIMENT).id, run_name, {}, {})
    try:
        for entry in sorted(folder.iterdir()):
            workspace.log_artifact(run.id, entry, _FOLDER)
    except BaseException:
        workspace.finish_run(run.id, "FAILED")
        raise
    workspace.finish_run(run.id, "FINISHED")
    return workspace.create_model_version(name, f"runs:/{run.id}/{_FOLDER}", run.id, description, tags)


def wait_until_ready(workspace: Workspace, version: ModelVersion, timeout_s: float = 300.0) -> ModelVersion:
    """Ask until the version is READY (the local workspace answers so at once). Raises `AmlflowError` when its
    registration failed or takes longer than `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while version.status not in ("READY", ""):
        if "FAILED" in version.status or time.monotonic() > deadline:
            raise AmlflowError(f"{version.name}:{version.version} is not ready: its status is {version.status!r}.")
        time.sleep(1.0)
        version = workspace.get_model_version(version.name, version.version)
    return version


def find_source(workspace: Workspace, asked: str, experiment: str = "") -> ModelSource:
    """The model to register or deploy: a folder with an MLmodel file, a registered model, else a run's only model. NAME:VERSION
    and NAME@ALIAS are never folders."""
    versioned = references.names_version(asked)
    if asked.startswith(_EXPLICIT) or (not versioned and _is_model(asked)):
        return references.find_model(workspace, asked)
    missing: NotFound | None = None
    if versioned:
        try:
            return references.find_model(workspace, asked)
        except NotFound as error:
            missing = error
    names = [model.name for model in workspace.list_models()]
    if re.split("[@:]", asked)[0] in names and not asked.startswith("best:"):
        if missing is not None:
            raise missing
        return references.find_model(workspace, asked)
    try:
        run = references.find_run(workspace, asked, experiment)
    except NotFound as error:
        if not versioned and Path(asked).expanduser().is_dir():
            return references.find_model(workspace, str(Path(asked).absolute()))
        if asked.startswith("best:") or asked == "last" or references.is_id(asked):
            raise
        raise NotFound(
            f"There is no model, run or model folder {asked!r} in workspace {workspace.name!r}.",
            "`amlflow model list` and `amlflow run list` show what there is.",
            name=asked,
            known=names,
        ) from error
    model = references.only_model(workspace, run)
    return ModelSource(f"runs:/{run.id}/{model.name}", f"runs:/{run.id}/{model.name}", model.location, run.id)


def check_unambiguous(workspace: Workspace, asked: str) -> None:
    """Raises `UsageError` for the bare name of a folder with a model that is also the name of a registered one."""
    if (
        asked.startswith(_EXPLICIT)
        or references.names_version(asked)
        or Path(asked).name != asked
        or not _is_model(asked)
    ):
        return
    try:
        workspace.get_model(asked)
    except NotFound:
        return
    raise UsageError(
        f"{asked!r} is a folder with a model here, and a registered model of workspace {workspace.name!r}.",
        f"Write ./{asked} for the folder, or models:/{asked} or {asked}:VERSION for the registered one.",
    )


def _is_model(asked: str) -> bool:
    return (Path(asked) / "MLmodel").is_file()


def read_mlmodel(folder: Path) -> dict[str, Any]:
    """What the MLmodel file says. Raises `NotFound` without one, `AmlflowError` for one that cannot be read."""
    import yaml

    file = folder / "MLmodel"
    try:
        content = yaml.load(file.read_text(encoding="utf-8"), getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506
    except FileNotFoundError:
        raise NotFound(
            f"{str(folder)!r} is not an MLflow model: it has no MLmodel file.",
            "Save one with `mlflow.FLAVOR.save_model(model, path)`.",
        ) from None
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise AmlflowError(f"{file} cannot be read as YAML: {str(error).splitlines()[0]}.") from error
    if not isinstance(content, dict) or not isinstance(content.get("flavors"), dict):
        raise AmlflowError(f"{file} names no flavors, so it is not an MLmodel file that MLflow wrote.")
    return content


def check_complete(folder: Path, mlmodel: Mapping[str, Any], label: str) -> None:
    """Raises `AmlflowError` naming the file that the MLmodel refers to and the folder lacks."""
    for flavor, body in mlmodel["flavors"].items():
        if not isinstance(body, dict):
            continue
        for key in ("model_path", "pickled_model", "data", "model_data", "code", "python_model"):
            value = body.get(key)
            if isinstance(value, str) and value and not (folder / value).exists():
                raise AmlflowError(
                    f"The model {label} is incomplete: its MLmodel file names {value!r} ({flavor}.{key}), which is not "
                    f"in {folder}.",
                    "Log the model again; a download or upload of it was probably cut.",
                )


def set_alias(workspace: Workspace, model: str, alias: str, say: Callable[[str], None]) -> ModelVersion:
    """Let an alias mean this version, whatever it meant before."""
    check_alias(alias)
    version = references.find_version(workspace, model)
    set_aliases(workspace, version, [alias], say)
    return workspace.get_model_version(version.name, version.version)


def set_aliases(
    workspace: Workspace, version: ModelVersion, aliases: Sequence[str], say: Callable[[str], None]
) -> None:
    """Let each of the aliases mean the version; `say` is told where other tools do not see them."""
    own = [workspace.set_alias(version.name, alias, version.version) for alias in aliases]
    if not all(own):
        say(
            f"The registry of {workspace.name!r} has no aliases: they are kept as tags of the model, which amlflow reads as "
            "aliases and other tools do not."
        )


def delete_alias(workspace: Workspace, name: str, alias: str) -> None:
    model = workspace.get_model(name)
    if alias not in model.aliases:
        raise NotFound(f"The model {name!r} has no alias {alias!r}.", name=alias, known=model.aliases)
    workspace.delete_alias(name, alias)


def download(workspace: Workspace, asked: str, destination: Path) -> Path:
    """Copy a model's folder to `destination`, which must be new or empty. Raises `AmlflowError` where it is not."""
    source = find_source(workspace, asked)
    if destination.exists() and (not destination.is_dir() or any(destination.iterdir())):
        raise AmlflowError(f"{str(destination)!r} exists and is not empty.", "Choose another folder with --to.")
    shutil.copytree(workspace.fetch(source.location), destination, dirs_exist_ok=True)
    return destination


def delete(workspace: Workspace, asked: str) -> str:
    """Delete `name:version`, or a model with all its versions for a bare name. Returns what was deleted."""
    if ":" not in asked and "@" not in asked:
        workspace.get_model(asked)
        workspace.delete_model(asked)
        return asked
    version = references.find_version(workspace, asked)
    workspace.delete_model(version.name, version.version)
    return f"{version.name}:{version.version}"


def check_name(name: str) -> None:
    """Raises `UsageError` for what cannot name a model."""
    if not name or any(character in name for character in ":/@") or name in (".", ".."):
        raise UsageError(f"{name!r} cannot name a model.", "A name is not empty and has none of the characters : / @.")


def check_alias(alias: str) -> None:
    """Raises `UsageError` for what cannot be an alias."""
    numeric = alias.lower().removeprefix("v").isdigit()
    allowed = alias and all(character.isalnum() or character in "-_" for character in alias)
    if not allowed or numeric or alias.lower() == "latest":
        raise UsageError(
            f"{alias!r} cannot be an alias.",
            "An alias has letters, digits, - and _; it is neither 'latest' nor looks like a version (v3, 3).",
        )
