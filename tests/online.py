"""A model in the emulated workspace, and names of endpoints that are gone after the test."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from deployable import put
from emulated import Running


@pytest.fixture
def wine(azure: Running, amlflow: Any, deployable: Path) -> str:
    """A model of the workspace with three versions, which say 1, say 2 and cannot be loaded."""
    name = f"wine-{uuid.uuid4().hex[:6]}"
    for version, folder in enumerate(("one", "two", "broken"), 1):
        put(azure, name, deployable / folder, version)
    return name


@pytest.fixture
def endpoint(azure: Running) -> Iterator[str]:
    name = f"ep-{uuid.uuid4().hex[:8]}"
    yield name
    azure.request("DELETE", f"{azure.workspace_path}/onlineEndpoints/{name}", api_version="2022-02-01-preview")
