"""What MLflow finds under the scheme `amlflow`. MLflow loads these while it is itself half imported, so nothing of it is imported
before one is called."""

from __future__ import annotations

from typing import Any, Optional


def tracking_store(store_uri: Optional[str] = None, artifact_uri: Optional[str] = None) -> Any:
    from .attach import attached
    from .store import JournalStore

    return JournalStore(attached())


def registry_store(store_uri: Optional[str] = None, tracking_uri: Optional[str] = None) -> Any:
    from .attach import attached
    from .registry import JournalRegistry

    return JournalRegistry(attached())


def artifact_repository(
    artifact_uri: str, tracking_uri: Optional[str] = None, registry_uri: Optional[str] = None
) -> Any:
    from .artifacts import repository
    from .attach import owner

    return repository(artifact_uri, owner(artifact_uri))
