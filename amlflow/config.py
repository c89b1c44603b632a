"""`amlflow.yaml`: which workspace a folder works in, its profiles, and defaults for the commands.

```yaml
workspace: dev                  # what -w takes: local, local:PATH, a profile below, SUBSCRIPTION/GROUP/NAME, …
output: table                   # table, tsv, json or yaml
profiles:
  dev: {workspace: "local:./state"}
  prod:
    workspace: SUBSCRIPTION/GROUP/NAME
    defaults: {run-project: {compute: cpu-cluster}}
defaults:
  run-project: {experiment: wine}
  run: {list: {limit: 50}}
```
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from amlflow import documents
from amlflow.errors import UsageError

FILE_NAME = "amlflow.yaml"
OUTPUT_FORMATS = ("table", "tsv", "json", "yaml")

_TOP_KEYS = ("workspace", "output", "profiles", "defaults")
_PROFILE_KEYS = ("workspace", "defaults")


@dataclass(frozen=True, slots=True)
class Profile:
    name: str
    workspace: str
    defaults: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Config:
    """What one `amlflow.yaml` says; all empty where there is none. `defaults` is nested by command name."""

    path: Path | None = None
    workspace: str = ""
    output: str = ""
    profiles: Mapping[str, Profile] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """What relative paths in the file are relative to."""
        return self.path.parent if self.path else Path.cwd()

    def defaults_of(self, profile: str) -> Mapping[str, Any]:
        """The defaults, with those of the profile over them."""
        chosen = self.profiles.get(profile)
        return _merged(self.defaults, chosen.defaults) if chosen else self.defaults


def find(start: Path | None = None) -> Path | None:
    """The `amlflow.yaml` of the folder or of its nearest parent that has one."""
    folder = (start or Path.cwd()).absolute()
    for candidate in (folder, *folder.parents):
        file = candidate / FILE_NAME
        if file.is_file():
            return file
    return None


def load(path: Path | None) -> Config:
    """Read and check the file. Raises `UsageError` naming the file, the line and the nearest known key."""
    if path is None:
        return Config()
    content = documents.read(path, _TOP_KEYS)
    profiles = documents.mapping(path, content.get("profiles") or {}, "'profiles'")
    return Config(
        path=path,
        workspace=_text(path, content, "workspace"),
        output=_output(path, content),
        profiles={str(name): _profile(path, str(name), body) for name, body in profiles.items()},
        defaults=_mapping(path, content, "defaults"),
    )


def _profile(path: Path, name: str, body: Any) -> Profile:
    if isinstance(body, str):
        return Profile(name, body)
    what = f"the profile {name!r}"
    documents.check_keys(path, documents.mapping(path, body, what), _PROFILE_KEYS, what)
    workspace = _text(path, body, "workspace")
    if not workspace:
        raise UsageError(f"The profile {name!r} of {path} names no workspace.", "Add a 'workspace:' key to it.")
    return Profile(name, workspace, _mapping(path, body, "defaults"))


def _output(path: Path, content: Mapping[str, Any]) -> str:
    value = _text(path, content, "output")
    if value and value not in OUTPUT_FORMATS:
        raise UsageError(f"{path} asks for the output {value!r}; it is one of {', '.join(OUTPUT_FORMATS)}.")
    return value


def _text(path: Path, content: Mapping[str, Any], key: str) -> str:
    value = content.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise UsageError(f"'{key}' in {path} must be text, not {value!r}.")
    return value


def _mapping(path: Path, content: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    return documents.mapping(path, content.get(key) or {}, f"{key!r}")


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(base)
    for key, value in over.items():
        below = result.get(key)
        result[key] = _merged(below, value) if isinstance(below, Mapping) and isinstance(value, Mapping) else value
    return result
