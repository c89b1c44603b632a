"""What an MLproject file says.

The format is MLflow's (docs: «MLflow Projects», MLproject file). A folder without the file is a project too: its `.py` and
`.sh` files are its entry points.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from amlflow import documents
from amlflow.errors import NotFound, UsageError, nearest

ParameterType = Literal["string", "float", "path", "uri"]
PARAMETER_TYPES = ("string", "float", "path", "uri")
FILE_NAME = "MLproject"

_PROJECT_KEYS = ("name", "entry_points", "python_env", "conda_env", "docker_env", "databricks_spark_job")
_ENTRY_POINT_KEYS = ("parameters", "command")
_PARAMETER_KEYS = ("type", "default")
_ENVIRONMENT_KEYS = ("python_env", "conda_env", "docker_env")


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of an entry point; without a default it must be given."""

    name: str
    type: ParameterType = "string"
    default: str | None = None


@dataclass(frozen=True, slots=True)
class EntryPoint:
    name: str
    command: str
    parameters: Mapping[str, Parameter] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Project:
    """A project's files. `source_file` is the MLproject file, or the folder where there is none."""

    folder: Path
    source_file: Path
    name: str = ""
    entry_points: Mapping[str, EntryPoint] = field(default_factory=dict)
    python_env: Path | None = None
    conda_env: Path | None = None
    docker_env: Mapping[str, Any] | None = None

    def entry_point(self, name: str) -> EntryPoint:
        """The entry point of that name, or the `.py` or `.sh` file. Raises `NotFound`, naming the nearest."""
        if name in self.entry_points:
            return self.entry_points[name]
        return self._script(name)

    def _script(self, name: str) -> EntryPoint:
        path = self.folder / name
        suffix = path.suffix.lower()
        inside = path.resolve().is_relative_to(self.folder.resolve())
        if suffix in (".py", ".sh") and path.is_file() and inside:
            from shlex import quote

            program = "python" if suffix == ".py" else "${SHELL:-bash}"
            return EntryPoint(name, f"{program} {quote(name).replace('{', '{{').replace('}', '}}')}")
        known = [*self.entry_points, *self._scripts()]
        if not known and self.source_file == self.folder:
            raise NotFound(
                f"The folder {str(self.folder)!r} is not an MLflow Project: it has no {FILE_NAME} file.",
                "Write one with an entry point 'main', or name a .py or .sh file of it with --entry-point.",
            )
        raise NotFound(
            f"The project {str(self.folder)!r} has no entry point {name!r}.",
            f"It has: {', '.join(known) or 'none'}; choose with --entry-point.",
            name=name,
            known=known,
        )

    def _scripts(self) -> list[str]:
        return sorted(item.name for item in self.folder.iterdir() if item.suffix.lower() in (".py", ".sh"))


def load(folder: Path) -> Project:
    """Read the project in a folder. Raises `UsageError` naming the file, the line and the nearest known key."""
    if not folder.is_dir():
        raise NotFound(f"There is no project folder {str(folder)!r}.", "Give a folder, or a Git URL.")
    file = _find(folder)
    if file is None:
        return Project(folder, folder, **_implicit_environment(folder))
    content = documents.read(file, _PROJECT_KEYS, "the project")
    given = [key for key in _ENVIRONMENT_KEYS if content.get(key) is not None]
    if len(given) > 1:
        raise UsageError(f"{file} gives {' and '.join(given)}; a project has one environment.", "Remove one of them.")
    if "databricks_spark_job" in content:
        raise UsageError(
            f"{file} describes a Databricks Spark job, which does not run here.", "Use `mlflow run` for it."
        )
    entry_points = content.get("entry_points") or {}
    documents.mapping(file, entry_points, "entry_points")
    docker = content.get("docker_env")
    if docker is not None:
        documents.mapping(file, docker, "docker_env")
        if not docker.get("image"):
            raise UsageError(f"{file}: docker_env names no 'image'.")
    environment = {key: _environment_file(file, content[key], key) for key in given if key != "docker_env"}
    return Project(
        folder,
        file,
        str(content.get("name") or ""),
        {str(name): _entry_point(file, str(name), body) for name, body in entry_points.items()},
        docker_env=docker,
        **(environment if given else _implicit_environment(folder)),
    )


def _find(folder: Path) -> Path | None:
    for entry in sorted(folder.iterdir()):
        if entry.name.lower() == FILE_NAME.lower() and entry.is_file():
            return entry
    return None


def _entry_point(file: Path, name: str, body: Any) -> EntryPoint:
    what = f"entry point {name!r}"
    documents.check_keys(file, documents.mapping(file, body, what), _ENTRY_POINT_KEYS, what)
    command = body.get("command")
    if not isinstance(command, str) or not command.strip():
        raise UsageError(f"{file}: entry point {name!r} has no command.", "Add a 'command:' to it.")
    parameters = body.get("parameters") or {}
    documents.mapping(file, parameters, f"the parameters of {name!r}")
    return EntryPoint(name, command, {str(key): _parameter(file, str(key), value) for key, value in parameters.items()})


def _parameter(file: Path, name: str, body: Any) -> Parameter:
    default: str | None = None
    if isinstance(body, str):
        kind: Any = body
    else:
        what = f"parameter {name!r}"
        documents.check_keys(file, documents.mapping(file, body, what), _PARAMETER_KEYS, what)
        kind = body.get("type", "string")
        default = None if body.get("default") is None else _text(body["default"])
    if kind not in PARAMETER_TYPES:
        near = nearest(str(kind), PARAMETER_TYPES)
        hint = f" Did you mean {near}?" if near else ""
        raise UsageError(
            f"{file}: parameter {name!r} has the type {kind!r}.{hint}", f"It is one of {', '.join(PARAMETER_TYPES)}."
        )
    return Parameter(name, kind, default)


def _text(value: Any) -> str:
    """A default as Python writes it, which is what `mlflow run` passes on."""
    return str(value)


def _implicit_environment(folder: Path) -> dict[str, Any]:
    for key in ("python_env", "conda_env"):
        file = folder / ("python_env.yaml" if key == "python_env" else "conda.yaml")
        if file.is_file():
            return {key: file}
    return {}


def _environment_file(file: Path, value: Any, key: str) -> Path:
    path = file.parent / str(value)
    if not path.is_file():
        raise UsageError(f"{file} names {value!r} as its {key}, and there is no such file.", "Correct the path.")
    return path
