"""Where amlflow keeps its state: the one place that knows a path outside a workspace's own folder."""

from __future__ import annotations

import os
from pathlib import Path


def home() -> Path:
    """The folder of what must be kept: `$AMLFLOW_HOME`, else the platform's data folder."""
    override = os.environ.get("AMLFLOW_HOME")
    if override:
        return Path(override).expanduser().absolute()
    import platformdirs

    return Path(platformdirs.user_data_dir("amlflow", appauthor=False))


def workspaces() -> Path:
    """The user's named local workspaces, one folder each."""
    return home() / "workspaces"


def server(url: str) -> Path:
    """The folder of this machine for jobs and endpoints that belong to the tracking server at `url`."""
    import hashlib

    return home() / "servers" / hashlib.sha256(url.encode()).hexdigest()[:16]


def cache() -> Path:
    """The folder of what can be made again (environments, Git clones, database templates): `$AMLFLOW_CACHE_DIR`,
    else the platform's cache folder."""
    override = os.environ.get("AMLFLOW_CACHE_DIR")
    if override:
        return Path(override).expanduser().absolute()
    import platformdirs

    return Path(platformdirs.user_cache_dir("amlflow", appauthor=False))


def environments() -> Path:
    """Environments made from a project's or model's requirements, one folder a content hash."""
    return cache() / "environments"


def sources() -> Path:
    """Bare Git clones of project URLs."""
    return cache() / "sources"


def database_templates() -> Path:
    """Empty MLflow databases, one a version of mlflow: copying one is 100 times faster than MLflow's migrations."""
    return cache() / "databases"


def azure() -> Path:
    """What amlflow remembers of Azure: access tokens and descriptions of clouds. The folder is the owner's alone."""
    folder = home() / "azure"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder
