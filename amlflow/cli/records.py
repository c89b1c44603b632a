"""The stable records that `-o json` prints of each thing, and the columns that people see."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from amlflow.cli.output import Column, Record, duration, moment, size
from amlflow.workspaces.base import Artifact, ModelVersion, RegisteredModel, Run, Workspace

if TYPE_CHECKING:
    from amlflow.services.copying.runs import Copied


def run_record(run: Run) -> dict[str, Any]:
    return {
        "run_id": run.id,
        "name": run.name,
        "experiment": run.experiment_name,
        "experiment_id": run.experiment_id,
        "status": run.status,
        "start_time_ms": run.start_time_ms,
        "end_time_ms": run.end_time_ms,
        "lifecycle_stage": run.lifecycle_stage,
        "artifact_uri": run.artifact_uri,
        "user": run.user,
        "metrics": run.metrics,
        "params": run.params,
        "tags": run.tags,
    }


RUN_COLUMNS = (
    Column("RUN", lambda r: r["run_id"][:8], style="cyan"),
    Column("NAME", "name"),
    Column("EXPERIMENT", "experiment"),
    Column("STATUS", "status"),
    Column("STARTED", lambda r: moment(r["start_time_ms"])),
    Column("TOOK", lambda r: duration(r["start_time_ms"], r["end_time_ms"]), right=True),
    Column("METRICS", lambda r: dict(list(r["metrics"].items())[:4])),
)


def copy_record(copied: Copied, workspace: Workspace) -> dict[str, Any]:
    return {
        "source_run_id": copied.source_id,
        "run_id": copied.run.id,
        "name": copied.run.name,
        "experiment": copied.run.experiment_name,
        "workspace": workspace.reference,
        "state": copied.state,
        **asdict(copied.added),
        "refused": list(copied.refused),
    }


def copy_warnings(done: Iterable[Copied], target: Workspace) -> Iterator[str]:
    """What the copies lack of their sources, a line each."""
    for item in done:
        for reason in item.refused:
            yield f"Warning: {target.name} refused a part of {item.run.name}, which is noted with the copy: {reason}"
        if item.lost_parent:
            yield (
                f"Warning: {item.run.name} is nested in run {item.lost_parent}, which is not in {target.name}: copy that too, "
                "then this one again."
            )


COPY_COLUMNS = (
    Column("RUN", lambda r: r["source_run_id"][:8]),
    Column("COPY", lambda r: r["run_id"][:8], style="cyan"),
    Column("NAME", "name"),
    Column("EXPERIMENT", "experiment"),
    Column("STATE", "state"),
    Column("POINTS", "points", right=True),
    Column("PARAMS", "params", right=True),
    Column("TAGS", "tags", right=True),
    Column("FILES", "files", right=True),
    Column("MODELS", "models", right=True),
)


def model_record(model: RegisteredModel) -> dict[str, Any]:
    return {
        "name": model.name,
        "latest_version": model.latest_version,
        "description": model.description,
        "aliases": dict(model.aliases),
        "tags": dict(model.tags),
        "created_ms": model.created_ms,
        "updated_ms": model.updated_ms,
    }


MODEL_COLUMNS = (
    Column("MODEL", "name", style="cyan"),
    Column("LATEST", "latest_version", right=True),
    Column("ALIASES", lambda r: ", ".join(f"{alias}={version}" for alias, version in r["aliases"].items())),
    Column("UPDATED", lambda r: moment(r["updated_ms"])),
    Column("DESCRIPTION", "description"),
)


def version_record(version: ModelVersion) -> dict[str, Any]:
    return {
        "model": f"{version.name}:{version.version}",
        "name": version.name,
        "version": version.version,
        "source": version.source,
        "location": version.location,
        "run_id": version.run_id,
        "description": version.description,
        "status": version.status,
        "aliases": list(version.aliases),
        "tags": dict(version.tags),
        "created_ms": version.created_ms,
        "updated_ms": version.updated_ms,
    }


VERSION_COLUMNS = (
    Column("MODEL", "model", style="cyan"),
    Column("ALIASES", "aliases"),
    Column("RUN", lambda r: r["run_id"][:8]),
    Column("CREATED", lambda r: moment(r["created_ms"])),
    Column("STATUS", "status"),
    Column("DESCRIPTION", "description"),
)


def artifact_record(artifact: Artifact) -> dict[str, Any]:
    return {"path": artifact.path, "size_bytes": artifact.size_bytes}


def run_rows(record: Record, artifacts: list[Artifact]) -> list[tuple[str, Any]]:
    """A run as name-value pairs for people: facts first, then params, metrics, tags, files."""
    rows: list[tuple[str, Any]] = [
        ("run", record["run_id"]),
        ("name", record["name"]),
        ("experiment", record["experiment"]),
        ("status", record["status"]),
        ("started", moment(record["start_time_ms"])),
        ("took", duration(record["start_time_ms"], record["end_time_ms"])),
        ("user", record["user"]),
        ("artifacts", record["artifact_uri"]),
    ]
    for heading in ("params", "metrics", "tags"):
        rows += [(f"{heading}.{key}", value) for key, value in sorted(record[heading].items())]
    return rows + [(f"file {item.path}", size(item.size_bytes)) for item in artifacts]
