"""A folder for PYTHONPATH, by which MLflow finds the journal in an environment where amlflow is not installed."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from pathlib import Path

PACKAGE = "amlflow_journal"
VERSION = "1"
_METADATA = f"Metadata-Version: 2.1\nName: {PACKAGE.replace('_', '-')}\nVersion: {VERSION}\n"
_ENTRY_POINTS = "".join(
    f"[{group}]\namlflow = {PACKAGE}.plugin:{function}\n\n"
    for group, function in (
        ("mlflow.tracking_store", "tracking_store"),
        ("mlflow.model_registry_store", "registry_store"),
        ("mlflow.artifact_repository", "artifact_repository"),
    )
)


def ship(parent: Path) -> Path:
    """A folder below `parent` that holds this package under a name of its own, with the entry points that MLflow looks for. It is
    made once for each content of the package. Raises `OSError`."""
    modules = sorted(Path(__file__).parent.glob("*.py"))
    digest = hashlib.sha256()
    for module in modules:
        digest.update(module.name.encode() + b"\0" + module.read_bytes() + b"\0")
    folder = parent / digest.hexdigest()[:16]
    if folder.is_dir():
        return folder
    parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=".new-", dir=parent))
    try:
        (temporary / PACKAGE).mkdir()
        for module in modules:
            shutil.copyfile(module, temporary / PACKAGE / module.name)
        info = temporary / f"{PACKAGE}-{VERSION}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(_METADATA, encoding="ascii")
        (info / "entry_points.txt").write_text(_ENTRY_POINTS, encoding="ascii")
        try:
            os.rename(temporary, folder)
        except OSError:
            if not folder.is_dir():
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder
