"""Registered models on their way from one workspace to another, whatever kinds the two are."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from amlflow.config import Config
from amlflow.errors import NotSupported, UsageError
from amlflow.services import references, registry
from amlflow.workspaces import resolve
from amlflow.workspaces.base import ModelVersion, Workspace

# Tags of the new version: the workspace and version that it is a copy of, the run that made that one, and when it was made, as
# a registry gives the number of a deleted version again.
FROM_TAG, RUN_TAG, CREATED_TAG = "amlflow.promoted_from", "amlflow.promoted_run", "amlflow.promoted_created_ms"
_OWN_TAGS = (FROM_TAG, RUN_TAG, CREATED_TAG)
_REGISTRY = re.compile(r"registry:.*|(?:azureml:|/)(?:.*/)?registries/[^/]+/?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Promoted:
    """`is_new` is False where an earlier promotion has made the version."""

    version: ModelVersion
    is_new: bool


def target(asked: str, config: Config) -> resolve.Resolved:
    """The workspace that a model is to go to, as `-w` takes it. Raises `NotSupported` for a registry of an organisation."""
    if _REGISTRY.fullmatch(asked):
        raise NotSupported(
            f"{asked!r} is a registry of an organisation, and models are promoted to workspaces only.",
            "`az ml model share --name NAME --version VERSION --registry-name REGISTRY` copies one to a registry.",
        )
    return resolve.Resolved(resolve.parse(asked, config), asked, "--to on the command line")


def promote(
    source: Workspace,
    asked: str,
    to: Workspace,
    name: str,
    aliases: Sequence[str],
    say: Callable[[str], None],
) -> Promoted:
    """Copy a version with its files, description and tags to the other workspace, under `name` or its own name, and let the
    aliases mean it there. A version that was promoted before is found by its tags, and not copied again.

    Raises `NotFound` for no such version, `UsageError` for a copy onto itself."""
    version = references.find_version(source, asked)
    name = name or version.name
    registry.check_name(name)
    for alias in aliases:
        registry.check_alias(alias)
    if (source.reference, version.name) == (to.reference, name):
        raise UsageError(
            f"{version.name}:{version.version} is in {to.name!r} already.",
            "Give another workspace with --to, another name with --name, or set an alias with `amlflow model alias`.",
        )
    tags = {
        **{key: value for key, value in version.tags.items() if key not in _OWN_TAGS},
        FROM_TAG: f"{source.reference} {version.name}:{version.version}",
        CREATED_TAG: str(version.created_ms),
        **({RUN_TAG: version.run_id} if version.run_id else {}),
    }
    made = _promoted_before(to, name, tags)
    is_new = made is None
    if made is None:
        folder = source.fetch(version.location)
        registry.check_complete(folder, registry.read_mlmodel(folder), f"{version.name}:{version.version}")
        say(f"Copying {version.name}:{version.version} to {to.name}…")
        made = registry.register_files(to, name, folder, f"promote-{name}", version.description, tags)
    if aliases:
        registry.set_aliases(to, made, aliases, say)
        made = to.get_model_version(name, made.version)
    return Promoted(made, is_new)


def _promoted_before(to: Workspace, name: str, tags: dict[str, str]) -> ModelVersion | None:
    for version in to.list_model_versions(name):
        if all(version.tags.get(key) == tags[key] for key in (FROM_TAG, CREATED_TAG)):
            return version
    return None
