"""Container images that serve models."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from amlflow.errors import NotSupported
from amlflow.services import registry
from amlflow.services.deployment import endpoint_name
from amlflow.services.references import ModelSource
from amlflow.targets import image
from amlflow.targets.base import ModelToDeploy
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
    _, made = _find(workspace, asked)
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

    source, made = _find(workspace, asked)
    registries, name = AzureRegistry(workspace.service), f"amlflow-{endpoint_name(source)}"
    reference = f"{registries.get().server}/{name}:{made.tag}"
    if registries.has(name, made.tag):
        report(f"{reference} is there already.")
        return BuiltImage(reference, made, False)
    with tempfile.TemporaryDirectory() as place:
        context = Path(place) / "context"
        image.write(made, context, report)
        report(f"Building {reference}…")
        registries.build(context, name, made.tag, report)
    return BuiltImage(reference, made, True)


def _find(workspace: Workspace, asked: str) -> tuple[ModelSource, Image]:
    source = registry.find_source(workspace, asked)
    folder = workspace.fetch(source.location)
    registry.check_complete(folder, registry.read_mlmodel(folder), source.label)
    return source, image.of_model(ModelToDeploy(folder, source.label, source.run_id))
