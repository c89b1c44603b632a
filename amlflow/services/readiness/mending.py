"""A repaired copy of a registered model, as its next version: what a check finds is put right where files alone can do it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from amlflow.environments import build
from amlflow.errors import AmlflowError, UsageError
from amlflow.services import conformance, deployment, model_scripts, registry
from amlflow.services.deployment import DeployRequest
from amlflow.services.readiness import check, repairs
from amlflow.services.readiness.findings import Finding, Hosting
from amlflow.targets import image
from amlflow.targets.base import ModelToDeploy
from amlflow.workspaces.base import ModelVersion, Workspace

# Tags of the new version: the version that it is a copy of, when that was made (a registry gives the number of a deleted version
# again), and what was changed.
FROM_TAG, CREATED_TAG, CHANGES_TAG = "amlflow.mended_from", "amlflow.mended_created_ms", "amlflow.mended"
_OWN_TAGS = (FROM_TAG, CREATED_TAG, CHANGES_TAG)
# Azure ML's limit for the value of a tag.
_TAG_CHARACTERS = 1000
_PREDICT_S = 600.0
_TAIL_LINES = 4


@dataclass(frozen=True, slots=True)
class Mended:
    """`label` is the version that was asked for. `version` is the one that was made of it, or was made of it before (`is_new`
    False); None where nothing was to mend, or nothing was to be registered. `left` are the findings that are no ok in it."""

    label: str
    version: ModelVersion | None
    is_new: bool
    changes: Sequence[str]
    left: Sequence[Finding]


def mend(workspace: Workspace, request: DeployRequest, report: Callable[[str], None], dry_run: bool = False) -> Mended:
    """With `dry_run` nothing is registered. Raises `UsageError` for a model that no registry has or that has links out of its
    folder, and as `check` does."""
    hosting = check.hosting_of(request)
    source, model = deployment.find_model(workspace, request.model)
    version = source.version
    if version is None:
        raise UsageError(
            f"--mend makes a new version of a registered model, and {model.label} is none.",
            f"Register it first: `amlflow register {model.label} --name NAME`.",
        )
    with tempfile.TemporaryDirectory(prefix="amlflow-") as scratch:
        copy = replace(model, folder=Path(scratch) / "model")
        # The copy of a link that leads out would carry whatever it leads to into the registry.
        for _ in image.files(model):
            pass
        shutil.copytree(model.folder, copy.folder)
        changes, failed = _repaired(copy, hosting, report)
        left = [*failed, *(item for item in check.of_model(copy, hosting, report) if item.severity != "ok")]
        if not changes or dry_run:
            return Mended(model.label, None, False, changes, left)
        tags = {
            **{key: value for key, value in version.tags.items() if key not in _OWN_TAGS},
            FROM_TAG: model.registered,
            CREATED_TAG: str(version.created_ms),
            CHANGES_TAG: "; ".join(changes)[:_TAG_CHARACTERS],
        }
        made = _mended_before(workspace, version.name, tags)
        if made is not None:
            return Mended(model.label, made, False, changes, left)
        report(f"Registering the next version of {version.name}…")
        made = registry.register_files(
            workspace, version.name, copy.folder, f"mend-{version.name}", version.description, tags
        )
    return Mended(model.label, registry.wait_until_ready(workspace, made), True, changes, left)


def _mended_before(workspace: Workspace, name: str, tags: dict[str, str]) -> ModelVersion | None:
    for version in workspace.list_model_versions(name):
        if all(version.tags.get(key) == tags[key] for key in _OWN_TAGS):
            return version
    return None


def _repaired(model: ModelToDeploy, hosting: Hosting, report: Callable[[str], None]) -> tuple[list[str], list[Finding]]:
    """Repair the model's folder; what was changed, and what could not be."""
    try:
        changes = repairs.packages(model, hosting, report)
    except AmlflowError:
        # Files that cannot be read: the check of the copy tells of them.
        return [], []
    mlmodel = registry.read_mlmodel(model.folder)
    if mlmodel.get("signature") or model.example is None:
        return changes, []
    try:
        signature = _inferred_signature(model, report)
    except AmlflowError as error:
        return changes, [Finding("warning", "signature", error.message, error.mend)]
    repairs.write_mlmodel(model.folder, {**mlmodel, "signature": signature})
    return [*changes, "signature inferred from the input example"], []


def _inferred_signature(model: ModelToDeploy, report: Callable[[str], None]) -> dict[str, Any]:
    """By MLflow, in the model's own environment. Raises `AmlflowError`."""
    environment = build.ensure(*conformance.model_environment(model.folder, "uv"), report)
    report(f"Asking {model.label} its input example…")
    with tempfile.TemporaryDirectory(prefix="amlflow-") as scratch:
        found: dict[str, Any] = model_scripts.answer(
            environment,
            "infer_signature.py",
            [model.folder, Path(scratch) / "signature.json"],
            _PREDICT_S,
            "No signature was inferred: the model has not answered its input example",
            "No signature was inferred: the model cannot answer its input example",
            "Log it again with `signature=mlflow.models.infer_signature(X, y)`.",
        )
        return found
