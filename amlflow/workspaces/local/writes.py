"""What is written into MLflow's tables directly, by the rules of MLflow's own store, inside the caller's transaction.

The limits are those of mlflow/utils/validation.py in MLflow 3.15.
"""

from __future__ import annotations

import json
import math
import random
import re
import sqlite3
import time
import uuid
from collections.abc import Iterable, Mapping

from amlflow.errors import AmlflowError, NotFound, UsageError
from amlflow.workspaces.base import Metric, RunStatus
from amlflow.workspaces.local.reads import INFINITY

KEY_LENGTH = 250
PARAM_LENGTH = 6000
TAG_LENGTH = 8000
EXPERIMENT_LENGTH = 500
MODEL_TAG_LENGTH = 100_000
MODEL_LENGTH = 256
_NAME = re.compile(r"[/\w.\- :]+")
_ID = re.compile(r"[a-z0-9][a-z0-9_-]{0,35}")
_ADJECTIVES = (
    "amber brave brisk calm clear clever coral crisp deft eager early fair fleet fond gentle glad golden grand "
    "hardy honest jolly keen kind light lively lucky mellow merry mild neat noble nimble patient plain polite proud "
    "quick quiet rapid ready royal serene sharp silver smart smooth solid spry steady sunny swift tidy true vivid warm "
    "wise witty"
).split()
_NOUNS = (
    "acorn alder aspen badger beaver birch brook cedar comet coral crane creek curlew dune egret elm falcon fern finch "
    "fjord fox gannet glade grove harbor hawk heron ibis iris jay juniper kestrel lark laurel linden lynx maple marten "
    "meadow merlin oak orchid osprey otter owl petrel pine plover puffin raven reed river robin sorrel sparrow spruce "
    "stork swan tern thrush trout walnut willow wren"
).split()


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def random_name() -> str:
    """A run's name when none is given: two words and a number, easy to say and to type."""
    choose = random.SystemRandom()
    return f"{choose.choice(_ADJECTIVES)}-{choose.choice(_NOUNS)}-{choose.randrange(1000)}"


def ensure_experiment(db: sqlite3.Connection, name: str, artifact_root: str) -> str:
    """The id of the experiment of that name, made if new. Raises `AmlflowError` for a deleted one."""
    if not name or len(name) > EXPERIMENT_LENGTH:
        raise UsageError(f"{name!r} cannot name an experiment: a name has 1 to {EXPERIMENT_LENGTH} characters.")
    row = db.execute("SELECT experiment_id, lifecycle_stage FROM experiments WHERE name = ?", (name,)).fetchone()
    if row is None:
        number = _experiment_number(db)
        now = now_ms()
        db.execute(
            "INSERT INTO experiments (experiment_id, name, artifact_location, lifecycle_stage, creation_time, "
            "last_update_time) VALUES (?, ?, ?, 'active', ?, ?)",
            (number, name, f"{artifact_root}/{number}", now, now),
        )
        return str(number)
    if row[1] == "deleted":
        raise AmlflowError(
            f"The experiment {name!r} was deleted.",
            f"Restore it with `mlflow experiments restore --experiment-id {row[0]}`, or choose another name.",
        )
    return str(row[0])


def create_run(
    db: sqlite3.Connection,
    experiment_id: str,
    name: str,
    tags: Mapping[str, str],
    params: Mapping[str, str],
    *,
    run_id: str = "",
    start_time_ms: int | None = None,
    user: str = "",
) -> str:
    """The new run's id: the one given, or a new one. Raises `UsageError` for an id that is taken or cannot be one."""
    row = db.execute(
        "SELECT artifact_location, lifecycle_stage FROM experiments WHERE experiment_id = ?", (experiment_id,)
    ).fetchone()
    if row is None or row[1] != "active":
        raise NotFound(f"There is no active experiment with the id {experiment_id!r}.")
    run_id, name = run_id or uuid.uuid4().hex, name or tags.get("mlflow.runName", "") or random_name()
    check_id(db, run_id, "runs", "run_uuid")
    if len(name) > KEY_LENGTH:
        raise UsageError(f"The run name {name[:40]!r}… has {len(name)} characters; at most {KEY_LENGTH} are allowed.")
    db.execute(
        "INSERT INTO runs (run_uuid, name, source_type, source_name, entry_point_name, user_id, status, start_time, "
        "source_version, lifecycle_stage, artifact_uri, experiment_id) "
        "VALUES (?, ?, 'UNKNOWN', '', '', ?, 'RUNNING', ?, '', 'active', ?, ?)",
        (
            run_id,
            name,
            user or tags.get("mlflow.user", ""),
            now_ms() if start_time_ms is None else start_time_ms,
            f"{row[0]}/{run_id}/artifacts",
            experiment_id,
        ),
    )
    log_tags(db, run_id, {**tags, "mlflow.runName": name})
    log_params(db, run_id, params)
    return run_id


def is_id(text: str) -> bool:
    """Whether it could be one of MLflow's ids, which are names of folders too."""
    return _ID.fullmatch(text) is not None


def check_id(db: sqlite3.Connection, wanted: str, table: str, column: str) -> None:
    """Raises `UsageError` for an id that is taken, or that cannot be one."""
    if not is_id(wanted):
        raise UsageError(f"{wanted[:60]!r} cannot be an id: one has 1 to 36 letters a-z, digits, '-' and '_'.")
    if db.execute(f"SELECT 1 FROM {table} WHERE {column} = ?", (wanted,)).fetchone():
        raise UsageError(f"The id {wanted!r} is taken.")


def check_active(db: sqlite3.Connection, run_id: str) -> None:
    row = db.execute("SELECT lifecycle_stage FROM runs WHERE run_uuid = ?", (run_id,)).fetchone()
    if row is None:
        raise NotFound(f"There is no run {run_id!r}.", "`amlflow run list` shows them.")
    if row[0] != "active":
        raise AmlflowError(f"Run {run_id} was deleted.", f"Bring it back with `amlflow run restore {run_id}`.")


def log_metrics(db: sqlite3.Connection, run_id: str, metrics: Iterable[Metric]) -> None:
    """As `log_points`."""
    log_points(db, run_id, ((m.key, m.value, m.step, m.timestamp_ms) for m in metrics))


def log_points(db: sqlite3.Connection, run_id: str, points: Iterable[tuple[str, float, int, int]]) -> None:
    """Points (key, value, step, timestamp in ms), and the latest of each metric by (step, timestamp, value); a point that
    is there already is not doubled."""
    latest: dict[str, tuple[int, int, float, int]] = {}
    rows = []
    for key, value, step, timestamp_ms in points:
        is_nan = 0
        # Neither NaN nor an infinity is equal to itself less itself.
        if value - value != 0:
            value, is_nan = encoded(value)
        rows.append((key, value, timestamp_ms, run_id, step, is_nan))
        before = latest.get(key)
        if before is None:
            check_name(key, "metric")
        elif (step, timestamp_ms, value) <= before[:3]:
            continue
        latest[key] = (step, timestamp_ms, value, is_nan)
    # In the order of the primary key, whose index grows at as few places as there are metrics.
    rows.sort()
    db.executemany(
        "INSERT OR IGNORE INTO metrics (key, value, timestamp, run_uuid, step, is_nan) VALUES (?, ?, ?, ?, ?, ?)", rows
    )
    db.executemany(
        "INSERT INTO latest_metrics (key, step, timestamp, value, is_nan, run_uuid) VALUES (?, ?, ?, ?, ?, ?) "
        "ON CONFLICT (key, run_uuid) DO UPDATE SET step = excluded.step, timestamp = excluded.timestamp, "
        "value = excluded.value, is_nan = excluded.is_nan "
        "WHERE (excluded.step, excluded.timestamp, excluded.value) > (step, timestamp, value)",
        [(key, *point, run_id) for key, point in latest.items()],
    )


def log_params(db: sqlite3.Connection, run_id: str, params: Mapping[str, str]) -> None:
    """Raises `UsageError` for a param that was logged with another value: params of a run never change."""
    known = dict(db.execute("SELECT key, value FROM params WHERE run_uuid = ?", (run_id,)))
    for key, value in params.items():
        check_name(key, "param")
        _check_length(key, str(value), PARAM_LENGTH, "param")
        if key in known and known[key] != str(value):
            raise UsageError(
                f"The param {key!r} of run {run_id} is {known[key]!r} and cannot become {value!r}: params never change.",
                f"Log it under another name, or as a tag: `amlflow log tag {key}={value}`.",
            )
    new = [(key, str(value), run_id) for key, value in params.items() if key not in known]
    db.executemany("INSERT INTO params (key, value, run_uuid) VALUES (?, ?, ?)", new)


def log_tags(db: sqlite3.Connection, run_id: str, tags: Mapping[str, str]) -> None:
    for key, value in tags.items():
        check_name(key, "tag")
        _check_length(key, value, TAG_LENGTH, "tag")
    db.executemany(
        "INSERT INTO tags (key, value, run_uuid) VALUES (?, ?, ?) "
        "ON CONFLICT (key, run_uuid) DO UPDATE SET value = excluded.value",
        [(key, value, run_id) for key, value in tags.items()],
    )
    if tags.get("mlflow.runName"):
        db.execute("UPDATE runs SET name = ? WHERE run_uuid = ?", (tags["mlflow.runName"], run_id))


def finish_run(db: sqlite3.Connection, run_id: str, status: RunStatus, end_time_ms: int | None) -> None:
    """A run that its own program has ended as FAILED or KILLED stays so when the program ends well."""
    check_active(db, run_id)
    ended = end_time_ms if end_time_ms is not None else now_ms()
    keep = " AND status NOT IN ('FAILED', 'KILLED')" if status == "FINISHED" else ""
    db.execute(f"UPDATE runs SET status = ? WHERE run_uuid = ?{keep}", (status, run_id))
    db.execute("UPDATE runs SET end_time = ? WHERE run_uuid = ?", (ended, run_id))


def set_lifecycle(db: sqlite3.Connection, run_id: str, deleted: bool) -> None:
    changed = db.execute(
        "UPDATE runs SET lifecycle_stage = ?, deleted_time = ? WHERE run_uuid = ?",
        ("deleted" if deleted else "active", now_ms() if deleted else None, run_id),
    ).rowcount
    if not changed:
        raise NotFound(f"There is no run {run_id!r}.")


def create_model_version(
    db: sqlite3.Connection,
    name: str,
    source: str,
    location: str,
    run_id: str,
    description: str,
    tags: Mapping[str, str],
    *,
    model_id: str | None = None,
) -> str:
    """The new version's number. The registered model is made when it is new. The logged model `model_id` notes the
    version; by default that is the one which the source names."""
    if len(name) > MODEL_LENGTH:
        raise UsageError(
            f"The model name {name[:40]!r}… has {len(name)} characters; at most {MODEL_LENGTH} are allowed."
        )
    for key, value in tags.items():
        check_name(key, "tag")
        _check_length(key, value, MODEL_TAG_LENGTH, "tag")
    now = now_ms()
    db.execute(
        "INSERT INTO registered_models (name, creation_time, last_updated_time, description) VALUES (?, ?, ?, '') "
        "ON CONFLICT DO UPDATE SET last_updated_time = excluded.last_updated_time",
        (name, now, now),
    )
    highest = db.execute("SELECT MAX(version) FROM model_versions WHERE name = ?", (name,)).fetchone()[0]
    version = (highest or 0) + 1
    db.execute(
        "INSERT INTO model_versions (name, version, creation_time, last_updated_time, description, current_stage, source, "
        "run_id, status, storage_location) VALUES (?, ?, ?, ?, ?, 'None', ?, ?, 'READY', ?)",
        (name, version, now, now, description or None, source, run_id or None, location),
    )
    db.executemany(
        "INSERT INTO model_version_tags (key, value, name, version) VALUES (?, ?, ?, ?)",
        [(key, value, name, version) for key, value in tags.items()],
    )
    if model_id is None:
        model_id = source.removeprefix("models:/") if source.startswith("models:/m-") else ""
    if model_id:
        _note_on_logged_model(db, model_id, name, version)
    return str(version)


def set_alias(db: sqlite3.Connection, name: str, alias: str, version: str) -> None:
    db.execute(
        "INSERT INTO registered_model_aliases (name, alias, version) VALUES (?, ?, ?) "
        "ON CONFLICT DO UPDATE SET version = excluded.version",
        (name, alias, int(version)),
    )


def delete_alias(db: sqlite3.Connection, name: str, alias: str) -> None:
    db.execute("DELETE FROM registered_model_aliases WHERE name = ? AND alias = ?", (name, alias))


def delete_model(db: sqlite3.Connection, name: str, version: str) -> None:
    """A version, or the whole model with an empty version. As in MLflow, a version's row stays without its contents, so
    that its number is never given again."""
    if not version:
        for table in ("model_version_tags", "model_versions", "registered_model_tags", "registered_model_aliases"):
            db.execute(f"DELETE FROM {table} WHERE name = ?", (name,))
        db.execute("DELETE FROM registered_models WHERE name = ?", (name,))
        return
    number = int(version)
    db.execute("DELETE FROM registered_model_aliases WHERE name = ? AND version = ?", (name, number))
    db.execute("DELETE FROM model_version_tags WHERE name = ? AND version = ?", (name, number))
    db.execute(
        "UPDATE model_versions SET current_stage = 'Deleted_Internal', last_updated_time = ?, description = NULL, "
        "user_id = NULL, source = 'REDACTED-SOURCE-PATH', run_id = 'REDACTED-RUN-ID', run_link = 'REDACTED-RUN-LINK', "
        "status_message = NULL WHERE name = ? AND version = ?",
        (now_ms(), name, number),
    )
    db.execute("UPDATE registered_models SET last_updated_time = ? WHERE name = ?", (now_ms(), name))


def check_name(key: str, what: str) -> None:
    """Raises `UsageError` for a key that MLflow does not take for a metric, param or tag."""
    plain = not {"", ".", ".."}.intersection(key.split("/"))
    if not plain or not _NAME.fullmatch(key):
        raise UsageError(
            f"{key!r} cannot name a {what}: a name has letters, digits, '_', '-', '.', ' ', ':' and '/', and is a plain "
            "path."
        )
    if len(key) > KEY_LENGTH:
        raise UsageError(f"The {what} name {key[:40]!r}… has {len(key)} characters; at most {KEY_LENGTH} are allowed.")


def _note_on_logged_model(db: sqlite3.Connection, model_id: str, name: str, version: int) -> None:
    key = "mlflow.modelVersions"
    row = db.execute(
        "SELECT m.experiment_id, t.tag_value FROM logged_models m LEFT JOIN logged_model_tags t "
        "ON t.model_id = m.model_id AND t.tag_key = ? WHERE m.model_id = ?",
        (key, model_id),
    ).fetchone()
    if row is None:
        return
    noted = [*(json.loads(row[1]) if row[1] else []), {"name": name, "version": version}]
    db.execute(
        "INSERT INTO logged_model_tags (model_id, experiment_id, tag_key, tag_value) VALUES (?, ?, ?, ?) "
        "ON CONFLICT (model_id, tag_key) DO UPDATE SET tag_value = excluded.tag_value",
        (model_id, row[0], key, json.dumps(noted)),
    )


def _experiment_number(db: sqlite3.Connection) -> int:
    """As MLflow lets SQLite count: one more than the highest."""
    return int(db.execute("SELECT COALESCE(MAX(experiment_id), 0) + 1 FROM experiments").fetchone()[0])


def encoded(value: float) -> tuple[float, int]:
    """A value as MLflow stores it, and whether it is NaN: neither NaN nor an infinity is stored as such."""
    if math.isnan(value):
        return 0.0, 1
    return (math.copysign(INFINITY, value) if math.isinf(value) else float(value)), 0


def _check_length(key: str, value: str, most: int, what: str) -> None:
    if len(value) > most:
        raise UsageError(
            f"The {what} {key!r} has a value of {len(value)} characters; at most {most} are allowed.",
            "Keep longer text as a file: `amlflow log artifact FILE`.",
        )
