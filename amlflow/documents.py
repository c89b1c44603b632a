"""YAML files that people write: read and checked, every complaint with the file, the line and the nearest known key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from amlflow.errors import AmlflowError, UsageError, nearest


def read(path: Path, known: Sequence[str], what: str = "the file") -> dict[str, Any]:
    """The mapping in the file, empty for an empty file. Raises `UsageError` for what is not YAML, not a mapping or has a key
    that is not known, `AmlflowError` for a file that cannot be read."""
    import yaml

    try:
        text = path.read_text(encoding="utf-8")
        node: Any = yaml.compose(text, Loader=yaml.SafeLoader)
        content = yaml.safe_load(text)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f" line {mark.line + 1}" if mark else ""
        raise UsageError(f"{path}{line} is not valid YAML: {getattr(error, 'problem', None) or error}.") from error
    except OSError as error:
        raise AmlflowError(f"{path} cannot be read: {error.strerror}.") from error
    if content is None:
        return {}
    found = mapping(path, content, what)
    check_keys(path, found, known, what, {str(key.value): key.start_mark.line + 1 for key, _ in node.value})
    return found


def mapping(path: Path, value: Any, what: str) -> dict[str, Any]:
    """The value, which must be a mapping. Raises `UsageError`."""
    if not isinstance(value, dict):
        raise UsageError(f"In {path}, {what} must be a mapping of names to values, not {value!r}.")
    return value


def texts(path: Path, content: Mapping[str, Any], key: str) -> list[str]:
    """The list of texts under the key; empty where there is none. Raises `UsageError`."""
    value = content.get(key) or []
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise UsageError(f"{path}: {key!r} must be a list of texts, not {value!r}.")
    return value


def check_keys(
    path: Path, value: Mapping[str, Any], known: Sequence[str], what: str, lines: Mapping[str, int] | None = None
) -> None:
    """Raises `UsageError` for a key that is not known."""
    for key in value:
        if key not in known:
            near = nearest(str(key), known)
            line = f" line {lines[str(key)]}" if lines and str(key) in lines else ""
            raise UsageError(
                f"{path}{line}: {key!r} is not a key of {what}.{f' Did you mean {near}?' if near else ''}",
                f"Known: {', '.join(known)}.",
            )
