"""Folders that may only be read, disks that are full, files that are no database."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """A file system of its own, of a size, that can be made read-only."""
    mounted: list[Path] = []

    def mount(size: str, **_: Any) -> Path:
        place = tmp_path / f"disk{len(mounted)}"
        place.mkdir()
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(place)], capture_output=True)
        if done.returncode != 0:
            pytest.skip("mounting a file system needs root")
        mounted.append(place)
        return place

    yield mount
    for place in mounted:
        subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_read_only_workspace_is_read_and_not_written(amlflow: Any, small_disk: Callable[..., Path]) -> None:
    place = small_disk("20m")
    amlflow.ok("-w", f"local:{place}/ws", "track", "-e", "wine", "--", "true")
    subprocess.run(["mount", "-o", "remount,ro", str(place)], check=True)
    assert [run["status"] for run in amlflow.ok("-w", f"local:{place}/ws", "run", "list", "-o", "json").json] == [
        "FINISHED"
    ]
    amlflow.ok("-w", f"local:{place}/ws", "compare", "-e", "wine")
    refused = amlflow("-w", f"local:{place}/ws", "track", "--", "true")
    assert refused.code == 1
    assert "cannot be written" in refused.err
    assert str(place) in refused.err
    assert "-w local:PATH" in refused.err
    new = amlflow("-w", f"local:{place}/new", "track", "--", "true")
    assert new.code == 1
    assert "may not be written to" in new.err
    assert "Traceback" not in refused.err + new.err


def test_a_full_disk_is_said_and_what_was_logged_stays(amlflow: Any, small_disk: Callable[..., Path]) -> None:
    place = small_disk("4m")
    where = f"local:{place}/ws"
    amlflow.ok("-w", where, "track", "--run-name", "kept", "--", "true")
    ballast = os.open(place / "ballast", os.O_WRONLY | os.O_CREAT)
    with contextlib.suppress(OSError):
        while True:
            os.write(ballast, b"x" * 4096)
    os.close(ballast)
    refused = amlflow("-w", where, "log", "artifact", __file__, "--run", "kept")
    assert refused.code == 1
    assert "No space left" in refused.err
    full = [amlflow("-w", where, "log", "tag", f"k{n}={'x' * 7000}", "--run", "kept") for n in range(60)]
    failed = [result for result in full if result.code != 0]
    assert failed
    assert all("the disk is full" in result.err and "Free some space" in result.err for result in failed)
    assert all("Traceback" not in result.err for result in failed)
    (place / "ballast").unlink()
    # What was taken while the database had no room is in the journal.
    amlflow.ok("-w", where, "sync")
    (run,) = amlflow.ok("-w", where, "run", "list", "-o", "json").json
    stored = {key for key in run["tags"] if key.startswith("k")}
    assert stored == {f"k{n}" for n, result in enumerate(full) if result.code == 0}


def test_no_room_for_a_new_workspace_leaves_nothing_half_made(amlflow: Any, small_disk: Callable[..., Path]) -> None:
    place = small_disk("500k")
    refused = amlflow("-w", f"local:{place}/ws", "track", "--", "true")
    assert refused.code == 1
    assert "the disk is full" in refused.err
    assert list((place / "ws").iterdir()) == []


def test_a_workspace_is_its_owners_alone(amlflow: Any) -> None:
    amlflow.ok("-w", "local:./ws", "track", "--", "true")
    assert (amlflow.cwd / "ws").stat().st_mode & 0o077 == 0


def test_a_file_that_is_no_database_is_said(amlflow: Any) -> None:
    (amlflow.cwd / "ws").mkdir()
    (amlflow.cwd / "ws/mlflow.db").write_bytes(b"not a database at all" * 100)
    for arguments in (["run", "list"], ["track", "--", "true"]):
        refused = amlflow("-w", "local:./ws", *arguments)
        assert refused.code == 1
        assert "not an MLflow database, or it is damaged" in refused.err


def test_a_database_of_another_schema_goes_through_mlflow(amlflow: Any) -> None:
    import sqlite3

    amlflow.ok("-w", "local:./ws", "track", "--", "true")
    with sqlite3.connect(amlflow.cwd / "ws/mlflow.db") as db:
        db.execute("UPDATE alembic_version SET version_num = '0000000000aa'")
    refused = amlflow("-w", "local:./ws", "run", "list")
    assert refused.code == 1
    assert "Traceback" not in refused.err
    assert "mlflow" in refused.err.lower()
