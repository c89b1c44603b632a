"""The MLflow datasets that a run has logged, and their rows where they can still be had."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from amlflow.errors import AmlflowError
from amlflow.journal.datasets import CONTEXT
from amlflow.mlproject.source import without_credentials
from amlflow.monitoring import frames
from amlflow.workspaces.base import Run, Workspace

# Sources that a program alone can read, or that are read here without MLflow.
_NOT_FETCHED = ("code", "local", "")


@dataclass(frozen=True, slots=True)
class Logged:
    """`source` is the JSON by which MLflow's class of `source_type` finds the data."""

    name: str
    digest: str
    source_type: str
    source: str
    is_training: bool

    @property
    def address(self) -> str:
        """Where the data come from; empty for what was made in a program's memory."""
        try:
            found = json.loads(self.source or "{}")
        except ValueError:
            return ""
        found = found if isinstance(found, dict) else {}
        return str(found.get("uri") or found.get("url") or found.get("path") or "")


def of_run(workspace: Workspace, run: Run) -> list[Logged]:
    """Those for training first."""
    body = workspace.behind().request("GET", "/api/2.0/mlflow/runs/get", {"run_id": run.id})["run"]
    found = []
    for item in (body.get("inputs") or {}).get("dataset_inputs") or []:
        dataset = {key: str(value or "") for key, value in (item.get("dataset") or {}).items()}
        context = next((tag.get("value") for tag in item.get("tags") or [] if tag.get("key") == CONTEXT), "")
        name, digest, kind, source = (dataset.get(key, "") for key in ("name", "digest", "source_type", "source"))
        found.append(Logged(name, digest, kind, source, str(context).startswith("train")))
    return sorted(found, key=lambda dataset: not dataset.is_training)


def file_of(dataset: Logged, scratch: Path) -> Path | None:
    """The file or folder of the dataset: on this machine, or fetched into `scratch` by MLflow's own class of its source. None
    where it was made in a program's memory, or is no table. Raises `AmlflowError` where it cannot be fetched."""
    address = dataset.address
    try:
        remote = unquote(urlsplit(address).path)
    except ValueError:
        return None
    here = remote if address.startswith("file://") else address
    if here and "://" not in here and _is_there(path := Path(here)):
        return path if path.is_dir() or frames.is_table(path) else None
    if dataset.source_type in _NOT_FETCHED or not frames.is_table(Path(remote)):
        return None
    from mlflow.data import get_source
    from mlflow.entities import Dataset

    target = scratch / "dataset"
    target.mkdir(parents=True, exist_ok=True)
    try:
        entity = Dataset(dataset.name, dataset.digest, dataset.source_type, dataset.source)
        return Path(get_source(entity).load(str(target)))
    except Exception as error:
        reason = " ".join(str(error).split())
        for secret in filter(None, (urlsplit(address).query, urlsplit(address).netloc.rpartition("@")[0])):
            reason = reason.replace(secret, "…")
        raise AmlflowError(
            f"The dataset {dataset.name!r} cannot be fetched from {_without_secrets(address)!r}: {reason[:300]}.",
            "Check that the address answers and that you may read it, or name a file with --baseline FILE.",
        ) from error


def _is_there(path: Path) -> bool:
    """A program may give its data any address: one that can be no path is not there."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def shown(dataset: Logged) -> str:
    """Which it is, and why it cannot be read."""
    if not dataset.address or dataset.source_type == "code":
        return f"the dataset {dataset.name!r}, which was made in the program's memory"
    return (
        f"the dataset {dataset.name!r}, whose source {_without_secrets(dataset.address)[:100]!r} is no table to be had"
    )


def _without_secrets(address: str) -> str:
    """An address without what signs in: a password before its host, or a signature after its path."""
    try:
        bare = urlsplit(without_credentials(address))
    except ValueError:
        return f"{address.partition('://')[0]}://…"
    return bare._replace(query="", fragment="").geturl() if bare.netloc else address
