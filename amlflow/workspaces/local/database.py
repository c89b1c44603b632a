"""The SQLite file: connections, its making from a template, and the schema versions that are read directly."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path

from amlflow import paths
from amlflow.errors import AmlflowError
from amlflow.locks import locked

FILE_NAME = "mlflow.db"
_TIMEOUT_S = 30.0

# Heads of MLflow's migrations whose tables for runs, metrics, params, tags and registered models are the ones that
# reads.py and writes.py know. Any other is read and written through MLflow's own client.
KNOWN_SCHEMAS = frozenset(
    {
        "bf29a5ff90ea",  # MLflow 3.5, 3.6, 3.7
        "1bd49d398cd23",  # 3.8
        "d3e4f5a6b7c8",  # 3.9
        "1b5f0d9ad7c1",  # 3.10
        "c3d6457b6d8a",  # 3.11
        "7d34483879f0",  # 3.12
        "da6fb0208061",  # 3.13
        "b7e4c1a90f23",  # 3.14
        "6f8d9c3b2a1e",  # 3.15
    }
)

# Run in a process of its own: MLflow's set-up logs, changes warnings and takes seconds.
_MAKE_TEMPLATE = """
import logging, sys, warnings
warnings.simplefilter("ignore")
logging.disable(logging.CRITICAL)
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
SqlAlchemyStore("sqlite:///" + sys.argv[1], sys.argv[2])
"""


@contextlib.contextmanager
def reading(file: Path) -> Iterator[sqlite3.Connection]:
    """A connection that only reads; it works in a folder that may not be written to. Raises `AmlflowError`."""
    with explained(file, "read"):
        connection = _open_for_reading(file)
        # As MLflow sets it: LIKE tells upper from lower case, ILIKE does not.
        connection.execute("PRAGMA case_sensitive_like = ON")
        try:
            yield connection
        finally:
            connection.close()


@contextlib.contextmanager
def writing(file: Path) -> Iterator[sqlite3.Connection]:
    """One transaction: committed at the end, rolled back on any exception. Writers wait for each other. Raises
    `AmlflowError` for a full disk, a folder that may not be written to, a file that is not a database."""
    with explained(file, "written"):
        connection = connected(file)
        try:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    connection.execute("ROLLBACK")
                raise
            connection.execute("COMMIT")
        finally:
            connection.close()


def connected(file: Path) -> sqlite3.Connection:
    """A connection that reads and writes, for one thread at a time, without a transaction; to a file that exists."""
    connection = sqlite3.connect(
        f"{file.absolute().as_uri()}?mode=rw",
        uri=True,
        timeout=_TIMEOUT_S,
        isolation_level=None,
        check_same_thread=False,
    )
    try:
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA synchronous = NORMAL")
        # As MLflow sets it: LIKE tells upper from lower case, ILIKE does not.
        connection.execute("PRAGMA case_sensitive_like = ON")
    except BaseException:
        connection.close()
        raise
    return connection


def schema(file: Path) -> str:
    """The migration that the database stands at; empty when it has none."""
    with reading(file) as connection:
        try:
            row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
        except sqlite3.OperationalError:
            return ""
    return str(row[0]) if row else ""


def create(file: Path, artifact_root: Path, report: Callable[[str], None] = lambda line: None) -> None:
    """Make the database if there is none. Of many processes that do so at once exactly one wins, and all see its file."""
    if file.exists():
        return
    with explained(file, "made"):
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        template = _template(report)
        handle, name = tempfile.mkstemp(prefix=".mlflow-", suffix=".db", dir=file.parent)
        os.close(handle)
        try:
            shutil.copyfile(template, name)
            connection = sqlite3.connect(name)
            try:
                connection.execute(
                    "UPDATE experiments SET artifact_location = ? WHERE experiment_id = 0", (str(artifact_root / "0"),)
                )
                connection.commit()
                # Readers never wait for a writer in this mode; it is kept in the file, so MLflow's own programs use it.
                connection.execute("PRAGMA journal_mode = WAL")
            finally:
                connection.close()
            # A link fails where the name exists: nobody's database is ever replaced.
            with contextlib.suppress(FileExistsError):
                os.link(name, file)
        finally:
            for left in (name, f"{name}-wal", f"{name}-shm"):
                with contextlib.suppress(FileNotFoundError):
                    Path(left).unlink()


def _template(report: Callable[[str], None]) -> Path:
    """An empty database as the installed MLflow makes it, kept for the next workspace: the migrations take seconds."""
    template = paths.database_templates() / f"mlflow-{version('mlflow')}.db"
    if template.exists():
        return template
    template.parent.mkdir(parents=True, exist_ok=True)
    with locked(template.with_suffix(".lock")):
        if template.exists():
            return template
        report("Setting up the local workspace (once for this version of MLflow)…")
        with tempfile.TemporaryDirectory(dir=template.parent) as folder:
            made = Path(folder) / "new.db"
            done = subprocess.run(
                [sys.executable, "-c", _MAKE_TEMPLATE, str(made), folder], capture_output=True, text=True, check=False
            )
            if done.returncode != 0:
                reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
                raise AmlflowError(
                    f"MLflow {version('mlflow')} could not make its database: {reason}.",
                    "Check the installation with `python -c 'import mlflow'`.",
                )
            made.replace(template)
    return template


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return 0


def _open_for_reading(file: Path) -> sqlite3.Connection:
    uri = file.absolute().as_uri()
    connection = sqlite3.connect(f"{uri}?mode=ro", uri=True, timeout=_TIMEOUT_S, isolation_level=None)
    try:
        connection.execute("SELECT 1 FROM sqlite_master").fetchone()
        return connection
    except sqlite3.OperationalError as error:
        connection.close()
        no_room = "disk" in str(error) and not _size(file.with_name(f"{file.name}-wal"))
        if not file.exists() or (os.access(file.parent, os.W_OK) and not no_room):
            raise
    # In a folder that may not be written to, or on a full disk, SQLite cannot make the shared memory that a write-ahead log
    # needs. Without anything in the log the file is complete.
    return sqlite3.connect(f"{uri}?immutable=1", uri=True, isolation_level=None)


@contextlib.contextmanager
def explained(file: Path, done: str) -> Iterator[None]:
    """Errors of SQLite and of the file system as `AmlflowError`; `done` is what could not be: read, written, made."""
    try:
        yield
    except sqlite3.OperationalError as error:
        raise _operational(file, done, error) from error
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.IntegrityError):
            raise
        raise AmlflowError(
            f"{file} cannot be {done}: {error}. It is not an MLflow database, or it is damaged.",
            "Move it away to start anew, or restore a copy.",
        ) from error
    except OSError as error:
        raise _os_error(file, done, error) from error


def _operational(file: Path, done: str, error: sqlite3.OperationalError) -> AmlflowError:
    text = str(error)
    if "full" in text or "disk I/O" in text:
        return AmlflowError(
            f"{file} cannot be {done}: the disk is full ({text}).",
            "Free some space, or use a workspace on another disk with `-w local:PATH`.",
        )
    if "readonly" in text or "unable to open" in text:
        return AmlflowError(
            f"{file} cannot be {done}: {text}. Its folder may not be written to, or does not exist.",
            "Check who owns the folder, or use another workspace with `-w local:PATH`.",
        )
    if "locked" in text or "busy" in text:
        return AmlflowError(
            f"{file} cannot be {done}: another program has kept it locked for {_TIMEOUT_S:.0f} s.",
            f"See which with `fuser {file}`.",
        )
    return AmlflowError(f"{file} cannot be {done}: {text}.")


def _os_error(file: Path, done: str, error: OSError) -> AmlflowError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return AmlflowError(
            f"{file} cannot be {done}: the disk is full.",
            "Free some space, or use a workspace on another disk with `-w local:PATH`.",
        )
    if error.errno in (errno.EACCES, errno.EROFS, errno.EPERM):
        return AmlflowError(
            f"{file} cannot be {done}: its folder may not be written to ({error.strerror}).",
            "Check who owns the folder, or use another workspace with `-w local:PATH`.",
        )
    return AmlflowError(f"{file} cannot be {done}: {error.strerror or error}.")
