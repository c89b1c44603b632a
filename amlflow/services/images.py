"""Container images that serve models."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from amlflow.services import registry
from amlflow.targets import image
from amlflow.targets.base import ModelToDeploy
from amlflow.targets.image import Image
from amlflow.workspaces.base import Workspace


def write(workspace: Workspace, asked: str, destination: Path, report: Callable[[str], None]) -> Image:
    """Write the build context of a model's image into `destination`, which must be new or empty. `asked` is whatever names a
    model. Raises `AmlflowError` for a model that is incomplete or whose requirements an image cannot hold."""
    source = registry.find_source(workspace, asked)
    folder = workspace.fetch(source.location)
    registry.check_complete(folder, registry.read_mlmodel(folder), source.label)
    made = image.of_model(ModelToDeploy(folder, source.label, source.run_id))
    image.write(made, destination, report)
    return made
