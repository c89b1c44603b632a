"""Programs, drainers and the network fail at random moments: every write arrives, and none twice.

The server keeps its runs in files: unlike a database it shows what arrived twice. The long form is
`pytest -m slow tests/journal/test_exactly_once.py`.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from faults import Faults, faulty
from journals import begin, drainer, end, flushed, held, offline, online, server, write
from servers import free_port, wait_for
from stress import Ordeal, verify

from amlflow.journal.folder import new_id
from amlflow.journal.pending import pending

_DRAIN_S = 200.0


@pytest.fixture(scope="module")
def file_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An `mlflow server` that keeps runs in files."""
    root = tmp_path_factory.mktemp("file-server")
    url = f"http://127.0.0.1:{free_port()}"
    env = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "_MLFLOW_"))}
    env.update(
        MLFLOW_ALLOW_FILE_STORE="true", MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false", MLFLOW_DISABLE_TELEMETRY="true"
    )
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", url.rpartition(":")[2]]
    command += ["--backend-store-uri", str(root / "runs"), "--artifacts-destination", str(root / "artifacts")]
    with (root / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "--workers", "1", "--serve-artifacts"],
            env=env,
            cwd=root,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        wait_for(f"{url}/health", process, root / "server.log")
        yield url
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def torment(url: str, tmp_path: Path, faults: Faults, kills: int, made_offline: bool) -> int:
    """How many writes arrived of a run whose programs and drainers were killed so many times."""
    journal = begin(tmp_path / "journal")
    behind = server(url)
    folder = offline(journal, f"ordeal {new_id()}") if made_offline else online(journal, behind)
    with faulty(url, faults) as broken:
        ordeal = Ordeal(folder, broken, faults.seed)
        ordeal.torment(kills)
        # The run is resumed and ended, whatever stands in its journal.
        ordeal.start("one", count=20)
        assert ordeal.processes["one"].wait() == 0
        end(folder, "FAILED")
        sender = drainer(journal, server(broken, timeout_s=1.0))
        sender.start()
        assert flushed(sender, _DRAIN_S), pending(journal)
        sender.stop()
    real = journal.real_id(folder.id)
    count = verify(folder, real, behind, tmp_path)
    assert held(behind, real).status == "FAILED"
    assert not folder.refused()
    asked = {"experiment_ids": [held(behind, real).info["experiment_id"]], "max_results": 1000}
    if made_offline:
        assert len(behind.request("POST", "/api/2.0/mlflow/runs/search", asked)["runs"]) == 1
    return count


@pytest.mark.parametrize(("seed", "made_offline"), [(1, True), (2, False)])
def test_killed_programs_and_drainers_lose_and_double_nothing(
    file_server: str, tmp_path: Path, seed: int, made_offline: bool
) -> None:
    assert torment(file_server, tmp_path, Faults(rate=0.15, seed=seed), 6, made_offline) > 50


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", range(10, 20))
def test_three_hundred_kills(file_server: str, tmp_path: Path, seed: int) -> None:
    rates = (0.01, 0.05, 0.1, 0.2, 0.5)
    faults = Faults(rate=rates[seed % len(rates)], seed=seed)
    count = torment(file_server, tmp_path, faults, 30, made_offline=seed % 2 == 0)
    print(f"seed {seed}: {count} writes, {dict(faults.seen)}")


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")
def test_a_full_disk_loses_nothing_that_was_written(file_server: str, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)], capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        journal = begin(disk / "journal")
        behind = server(file_server)
        folder = online(journal, behind)
        # Somebody sends beside the program, so that it has been noted before how far.
        folder.note_sent({"log": {}, "files": {}, "sending": None})
        side = disk / f"{folder.id}.one.side"
        (tmp_path / side.name).touch()
        side.symlink_to(tmp_path / side.name)
        ordeal = Ordeal(folder, file_server, 1)
        ordeal.start("one", count=1500)
        assert ordeal.processes["one"].wait() == 0
        with contextlib.suppress(OSError), (disk / "filling").open("wb", buffering=0) as filling:
            while filling.write(b"x" * 4096):
                pass
        with pytest.raises(OSError, match="No space"):
            write(folder, ["t", "full", "x" * 100_000])
        assert drainer(journal, behind).drain_once(), pending(journal)
        assert verify(folder, folder.id, behind, tmp_path) > 50
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=False)
