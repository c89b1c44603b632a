"""Container images that serve models."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from amlflow.errors import NotSupported
from amlflow.services import deployment, registry
from amlflow.targets import image
from amlflow.targets.image import Image
from amlflow.workspaces.abilities import HasOnlineEndpoints
from amlflow.workspaces.base import Workspace


@dataclass(frozen=True, slots=True)
class BuiltImage:
    """`reference` is what a container engine pulls; `built` is False where the registry had it already."""

    reference: str
    image: Image
    built: bool


def write(workspace: Workspace, asked: str, destination: Path, report: Callable[[str], None]) -> Image:
    """Write the build context of a model's image into `destination`, which must be new or empty. `asked` is whatever names a
    model. Raises `AmlflowError` for a model that is incomplete or whose requirements an image cannot hold."""
    made = _find(workspace, asked)
    image.write(made, destination, report)
    return made


def build(workspace: Workspace, asked: str, report: Callable[[str], None]) -> BuiltImage:
    """Build a model's image in the workspace's registry, unless one of the same content is there. Raises `NotSupported` where the
    workspace is none of Azure ML, `AmlflowError` with the end of the log for a build that fails."""
    if not isinstance(workspace, HasOnlineEndpoints):
        raise NotSupported(
            f"An image is built in the registry of an Azure ML workspace, and {workspace.name!r} is none.",
            "Name one with -w, or write the build context with --to DIR and build it here.",
        )
    from amlflow.workspaces.azure.registries import AzureRegistry

    made = _find(workspace, asked)
    registries = AzureRegistry(workspace.service)
    reference = f"{registries.get().server}/{image.repository(made.model)}:{made.tag}"
    if registries.has(image.repository(made.model), made.tag):
        report(f"{reference} is there already.")
        return BuiltImage(reference, made, False)
    report(f"Building {reference}…")
    image.build_in(made, registries, report)
    return BuiltImage(reference, made, True)


def _find(workspace: Workspace, asked: str) -> Image:
    _, model = deployment.find_model(workspace, asked)
    registry.check_complete(model.folder, model.mlmodel, model.label)
    return image.of_model(model)
