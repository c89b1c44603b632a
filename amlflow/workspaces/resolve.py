"""From a flag, the environment and files to a workspace, and which of them won.

The first that answers wins: `-w`; `AMLFLOW_WORKSPACE`; the `AZUREML_ARM_*` variables of an Azure ML job; `workspace:` in
the nearest `amlflow.yaml`; the nearest `.azureml/config.json` or `config.json`; the `az configure` defaults; else `local`.
"""

from __future__ import annotations

import configparser
import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from amlflow import paths
from amlflow.config import FILE_NAME, Config
from amlflow.errors import NotFound, UsageError
from amlflow.workspaces.base import Workspace

DEFAULT_NAME = "local"
DATABRICKS = "databricks"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_SDK_KEYS = ("subscription_id", "resource_group", "workspace_name")
_LOGIN = re.compile(r"^(https?://)[^/]*@")
_DATABRICKS = re.compile(r"databricks(?:://(?P<profile>[^/:@\s]+))?/?")
_ARM_ID = re.compile(
    r"/subscriptions/(?P<subscription>[^/]+)/resourceGroups/(?P<group>[^/]+)/providers/"
    r"Microsoft\.MachineLearningServices/workspaces/(?P<name>[^/]+)/?$",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class LocalSpec:
    """A folder of this machine."""

    name: str
    path: Path


@dataclass(frozen=True, slots=True)
class AzureSpec:
    """An Azure ML workspace. `host` is the data plane of its region, empty until the service is asked."""

    subscription: str
    group: str
    name: str
    host: str = ""


@dataclass(frozen=True, slots=True)
class ServerSpec:
    """Any MLflow tracking server. `url` may hold a password: `without_login` is what can be shown."""

    url: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class DatabricksSpec:
    """A Databricks workspace, by a profile of ~/.databrickscfg; empty for what the variables DATABRICKS_* say."""

    profile: str = ""


Spec = LocalSpec | AzureSpec | ServerSpec | DatabricksSpec


@dataclass(frozen=True, slots=True)
class Resolved:
    """A workspace's description, what it was asked for as (without a password), and where that was said."""

    spec: Spec
    asked: str
    source: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "asked", without_login(self.asked))


def resolve(option: str, config: Config, environment: Mapping[str, str] | None = None) -> Resolved:
    """The workspace to use. Raises `UsageError` for what cannot be read and `NotFound` for an unknown name."""
    env = os.environ if environment is None else environment
    if option:
        return Resolved(parse(option, config), option, "-w on the command line")
    if env.get("AMLFLOW_WORKSPACE"):
        asked = env["AMLFLOW_WORKSPACE"]
        return Resolved(parse(asked, config), asked, "the variable AMLFLOW_WORKSPACE")
    job = [env.get(f"AZUREML_ARM_{part}", "") for part in ("SUBSCRIPTION", "RESOURCEGROUP", "WORKSPACE_NAME")]
    if all(job):
        return Resolved(AzureSpec(*job), "/".join(job), "the AZUREML_ARM_* variables of this Azure ML job")
    if config.workspace:
        spec = parse(config.workspace, config, config.folder)
        return Resolved(spec, config.workspace, f"'workspace:' in {config.path}")
    found = _sdk_config(Path.cwd()) or _az_defaults(env)
    if found:
        spec, source = found
        return Resolved(spec, f"{spec.subscription}/{spec.group}/{spec.name}", source)
    return Resolved(local_spec(DEFAULT_NAME), DEFAULT_NAME, "the default")


def parse(asked: str, config: Config, base: Path | None = None, _through: tuple[str, ...] = ()) -> Spec:
    """What a user typed as a workspace: `local`, `local:PATH`, a profile, the name of a local workspace,
    `SUBSCRIPTION/GROUP/NAME`, an ARM id, an `azureml://` URI, a tracking server's address, `databricks` or
    `databricks://PROFILE`. A relative path is relative to `base`, the current folder by default."""
    if asked.startswith("local:"):
        path = Path(asked.removeprefix("local:")).expanduser()
        if not str(asked.removeprefix("local:")):
            raise UsageError("'local:' names no folder.", "Write local:PATH, or local for the default workspace.")
        return LocalSpec(path.name or DEFAULT_NAME, ((base or Path.cwd()) / path).resolve())
    if asked.startswith(("http://", "https://")):
        return ServerSpec(asked.rstrip("/"))
    if asked.startswith("azureml://"):
        host = asked.removeprefix("azureml://").split("/", 1)[0]
        return _arm(asked, "an azureml:// tracking URI", host)
    if asked.lower().startswith("/subscriptions/"):
        return _arm(asked, "an ARM id")
    if asked in config.profiles:
        if asked in _through:
            raise UsageError(f"The profile {asked!r} in {config.path} leads back to itself.")
        return parse(config.profiles[asked].workspace, config, config.folder, (*_through, asked))
    if asked == DATABRICKS or asked.startswith(f"{DATABRICKS}:"):
        return _databricks(asked)
    if asked.count("/") == 2 and all(asked.split("/")):
        return AzureSpec(*asked.split("/"))
    if _NAME.fullmatch(asked):
        spec = local_spec(asked)
        if asked == DEFAULT_NAME or spec.path.is_dir():
            return spec
    raise NotFound(
        f"There is no workspace {asked!r}: neither a profile of {config.path or FILE_NAME} nor a local workspace.",
        f"`amlflow workspace list` lists them; `amlflow workspace create {asked}` makes a local one."
        if _NAME.fullmatch(asked)
        else "Write local, local:PATH, a profile, SUBSCRIPTION/GROUP/NAME, an ARM id, a server's http(s):// address, databricks "
        "or databricks://PROFILE.",
        name=asked,
        known=known_names(config),
    )


def without_login(text: str) -> str:
    """An http(s) address without its user and password; any other text as it is."""
    return _LOGIN.sub(r"\1", text)


def local_spec(name: str) -> LocalSpec:
    """The local workspace of that name in the user's data folder. Raises `UsageError` for what cannot be a name."""
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} cannot name a workspace: a name has letters, digits, '.', '_' and '-', and starts with a letter "
            "or digit."
        )
    return LocalSpec(name, paths.workspaces() / name)


def local_names() -> list[str]:
    """The local workspaces that exist in the user's data folder."""
    folder = paths.workspaces()
    return sorted(entry.name for entry in folder.iterdir() if entry.is_dir()) if folder.is_dir() else []


def known_names(config: Config) -> list[str]:
    """What a user can type as a workspace without a path or an id."""
    return list(dict.fromkeys([DEFAULT_NAME, *config.profiles, *local_names()]))


def open_workspace(resolved: Resolved, report: Callable[[str], None] = lambda line: None, auth: str = "") -> Workspace:
    """The workspace itself; `report` is told of set-up that takes long, and of how to sign in. `auth` is the only way to sign in
    to Azure that is tried, or empty for all."""
    spec = resolved.spec
    if isinstance(spec, LocalSpec):
        from amlflow.workspaces.local.workspace import LocalWorkspace

        return LocalWorkspace(spec.path, spec.name, report)
    if isinstance(spec, ServerSpec):
        from amlflow.workspaces.server.workspace import ServerWorkspace

        return ServerWorkspace(spec.url)
    if isinstance(spec, DatabricksSpec):
        from amlflow.workspaces.databricks.workspace import DatabricksWorkspace

        return DatabricksWorkspace(spec.profile)
    from amlflow.workspaces.azure.workspace import AzureWorkspace

    return AzureWorkspace(spec.subscription, spec.group, spec.name, spec.host, auth, report)


def _databricks(asked: str) -> DatabricksSpec:
    match = _DATABRICKS.fullmatch(asked)
    if match is None:
        raise UsageError(
            f"{asked!r} names no Databricks workspace.",
            "Write databricks, or databricks://PROFILE with a profile of ~/.databrickscfg.",
        )
    return DatabricksSpec(match["profile"] or "")


def _arm(asked: str, what: str, host: str = "") -> AzureSpec:
    match = _ARM_ID.search(asked)
    if match is None:
        raise UsageError(
            f"{asked!r} is not {what} of a workspace.",
            "It ends in /subscriptions/…/resourceGroups/…/providers/Microsoft.MachineLearningServices/workspaces/NAME.",
        )
    return AzureSpec(match["subscription"], match["group"], match["name"], host)


def _sdk_config(start: Path) -> tuple[AzureSpec, str] | None:
    for folder in (start, *start.parents):
        for file in (folder / ".azureml" / "config.json", folder / "config.json"):
            try:
                text = file.read_text(encoding="utf-8-sig")
            except (OSError, ValueError):
                continue
            # Many programs have a config.json of their own; only one that speaks of this is the SDK's. One that cannot be
            # read must not send the work to another workspace.
            if '"workspace_name"' in text:
                return _sdk_workspace(file, text), str(file)
    return None


def _sdk_workspace(file: Path, text: str) -> AzureSpec:
    mend = "Download it again from the workspace's page in the studio, or name the workspace with -w."
    try:
        content = json.loads(text)
    except ValueError as error:
        raise UsageError(f"{file} names the workspace, and is not valid JSON: {error}.", mend) from None
    found = [content.get(key) if isinstance(content, dict) else None for key in _SDK_KEYS]
    wrong = [key for key, value in zip(_SDK_KEYS, found, strict=True) if not isinstance(value, str) or not value]
    if wrong:
        raise UsageError(f"{file} names the workspace, and has no text at {' and '.join(map(repr, wrong))}.", mend)
    return AzureSpec(*map(str, found))


def _az_defaults(env: Mapping[str, str]) -> tuple[AzureSpec, str] | None:
    folder = Path(env.get("AZURE_CONFIG_DIR") or Path("~/.azure").expanduser())
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read(folder / "config", encoding="utf-8")
        group, name = parser.get("defaults", "group"), parser.get("defaults", "workspace")
        profile = json.loads((folder / "azureProfile.json").read_text(encoding="utf-8-sig"))
        default = next(item for item in profile["subscriptions"] if item.get("isDefault"))
    except (OSError, ValueError, KeyError, TypeError, StopIteration, configparser.Error):
        return None
    return AzureSpec(default["id"], group, name), f"the `az configure` defaults in {folder}"
