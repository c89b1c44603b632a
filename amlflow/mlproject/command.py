"""From an entry point and parameters to one shell line, in which a value is always one word and never syntax."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from pathlib import Path

from amlflow.errors import NotFound, UsageError, nearest
from amlflow.mlproject.file import EntryPoint, Parameter
from amlflow.mlproject.source import ProjectSource

_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:/.*", re.DOTALL)
_OPTION_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


class Place(str):
    """A value that the platform which runs the command replaces by a path there, such as `${{inputs.data}}`."""

    __slots__ = ()


def shell_line(
    entry_point: EntryPoint, given: Mapping[str, str], storage: Path | None = None
) -> tuple[str, dict[str, str]]:
    """The line for the shell, and the parameters to record: as given or by default, before a path is made absolute.

    Parameters that the entry point does not declare are appended as `--name value`, as `mlflow run` does. A `path` that is
    a URI is downloaded below `storage` (left as it is without one). A `Place` stays what it is; what merely looks like one is
    no syntax. Raises `UsageError` for missing or wrong values."""
    values = _values(entry_point, given)
    resolved = {
        name: _resolved(entry_point.parameters[name], value, storage, position)
        for position, (name, value) in enumerate(values.items())
    }
    line = _substituted(entry_point, resolved)
    extra = {name: value for name, value in given.items() if name not in entry_point.parameters}
    for name, value in extra.items():
        if not _OPTION_NAME.fullmatch(name):
            raise UsageError(
                f"{name!r} cannot name a parameter: it becomes the option --{name} of the entry point's command."
            )
        _check_no_nul(name, value)
        line += f" --{name} {_quoted(value)}"
    return line, {**values, **extra}


def tags(source: ProjectSource, entry_point: str, manager: str) -> dict[str, str]:
    """The tags by which `mlflow run` says where a run came from (mlflow/projects/utils.py)."""
    found = {
        "mlflow.source.name": source.name,
        "mlflow.source.type": "PROJECT",
        "mlflow.project.entryPoint": entry_point,
        "mlflow.project.backend": "local",
        "mlflow.source.git.commit": source.commit,
        "mlflow.source.git.repoURL": source.repo_url,
        "mlflow.source.git.branch": source.version if source.version_is_branch else "",
        "mlflow.project.env": manager if manager in ("uv", "conda", "docker") else "",
    }
    return {key: value for key, value in found.items() if value}


def _values(entry_point: EntryPoint, given: Mapping[str, str]) -> dict[str, str]:
    missing = [
        name for name, parameter in entry_point.parameters.items() if name not in given and parameter.default is None
    ]
    if missing:
        near = [nearest(name, set(given) - set(entry_point.parameters), 1) for name in missing]
        hint = f" (is {near[0]} a misspelling of it?)" if near[0] else ""
        raise UsageError(
            f"Entry point {entry_point.name!r} needs {', '.join(missing)}, for which no value was given{hint}.",
            "Give " + " ".join(f"-P {name}=VALUE" for name in missing) + ".",
        )
    values = {}
    for name, parameter in entry_point.parameters.items():
        value = given.get(name, parameter.default)
        assert value is not None
        _check_no_nul(name, value)
        values[name] = value
    return values


def _resolved(parameter: Parameter, value: str, storage: Path | None, position: int) -> str:
    if isinstance(value, Place):
        return value
    if parameter.type == "float":
        try:
            float(value)
        except ValueError:
            raise UsageError(
                f"The parameter {parameter.name!r} is a float and cannot be {value!r}.",
                f"Give a number: -P {parameter.name}=0.5.",
            ) from None
        return value
    if parameter.type == "path":
        return _path(parameter, value, storage, position)
    if parameter.type == "uri" and not _URI.fullmatch(value):
        return str(_existing(parameter, value))
    return value


def _path(parameter: Parameter, value: str, storage: Path | None, position: int) -> str:
    if value.startswith("file:"):
        from urllib.parse import unquote, urlparse

        return str(_existing(parameter, unquote(urlparse(value).path)))
    if not _URI.fullmatch(value):
        return str(_existing(parameter, value))
    if storage is None:
        return value
    from mlflow.artifacts import download_artifacts

    target = storage / f"param_{position}"
    target.mkdir()
    try:
        return str(download_artifacts(artifact_uri=value, dst_path=str(target)))
    except Exception as error:
        raise NotFound(
            f"The parameter {parameter.name!r} is {value!r}, which cannot be downloaded: {str(error).splitlines()[0]}."
        ) from error


def _existing(parameter: Parameter, value: str) -> Path:
    path = Path(value).expanduser()
    if not value or not path.exists():
        raise NotFound(
            f"The parameter {parameter.name!r} is a {parameter.type}, and there is no file or folder {value!r}.",
            f"A relative path is relative to the current folder, {Path.cwd()}.",
        )
    return path.absolute()


def _substituted(entry_point: EntryPoint, values: Mapping[str, str]) -> str:
    """The command with each `{name}` replaced; `{{` and `}}` stand for braces. A placeholder inside quotes of the
    project's own gets its value in a way that keeps those quotes' meaning and its own bytes."""
    text, out, quote, index = entry_point.command, [], "", 0
    while index < len(text):
        character = text[index]
        if text.startswith(("{{", "}}"), index):
            out.append(character)
            index += 2
            continue
        if character == "{":
            end = text.find("}", index)
            name = text[index + 1 : end] if end > 0 else ""
            if name not in values:
                raise _unknown_placeholder(entry_point, name, text[index:], values)
            out.append(_in_quotes(values[name], quote))
            index = end + 1
            continue
        if character == "}":
            raise UsageError(
                f"The command of entry point {entry_point.name!r} has a single '}}' at {text[index:][:20]!r}.",
                "Write '}}' for a brace.",
            )
        if character == "\\" and quote != "'" and index + 1 < len(text):
            out.append(text[index : index + 2])
            index += 2
            continue
        if character in "'\"" and quote in ("", character):
            quote = "" if quote else character
        out.append(character)
        index += 1
    return "".join(out)


def _in_quotes(value: str, quote: str) -> str:
    if quote == "":
        return _quoted(value)
    # Leave the project's quotes, give the value as a word of its own, and open them again: the shell joins the three.
    return f"{quote}{_quoted(value)}{quote}"


def _quoted(value: str) -> str:
    """One word of the shell. Azure ML replaces `${{…}}` before the shell sees the line; two words that the shell joins again
    are nothing to it."""
    word = shlex.quote(value)
    return word if isinstance(value, Place) else word.replace("${{", "$''{{")


def _unknown_placeholder(entry_point: EntryPoint, name: str, rest: str, values: Mapping[str, str]) -> UsageError:
    near = nearest(name, values)
    hint = f" Did you mean {near}?" if near else ""
    return UsageError(
        f"The command of entry point {entry_point.name!r} has {rest.split('}')[0] + '}'!r}, which is not a parameter of "
        f"it.{hint}",
        "Declare it under 'parameters:', or write '{{' for a brace.",
    )


def _check_no_nul(name: str, value: str) -> None:
    if "\0" in value:
        raise UsageError(f"The value of the parameter {name!r} has a NUL character, which no program can be given.")
