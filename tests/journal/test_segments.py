"""The files of a journal, with real processes that write to them, die and go on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from amlflow.journal import records, segments
from amlflow.journal.folder import Journal


def read_all(folder: Path, cursor: segments.Cursor | None = None) -> list[list[Any]]:
    reader = segments.Reader(folder, cursor)
    found: list[list[Any]] = []
    while lines := reader.read():
        found += records.decode([payload for _, payload in lines])
    return found


def test_what_is_written_is_read_in_order(tmp_path: Path) -> None:
    writer = segments.Writer(tmp_path / "run")
    nan = float("nan")
    for record in (["m", "ümlaut\n", float("inf"), -1, 0], ["t", "a\ud800b", "x" * 100_000], ["m", "n", nan, 2**40, 1]):
        writer.append(record)
    first, second, third = read_all(tmp_path / "run")
    assert first == ["m", "ümlaut\n", float("inf"), -1, 0]
    assert second == ["t", "a\ud800b", "x" * 100_000]
    assert third[2] != third[2]
    assert third[3] == 2**40


def test_a_torn_record_is_skipped_and_none_before_or_after_it(tmp_path: Path) -> None:
    writer = segments.Writer(tmp_path)
    writer.append(["t", "a", "1"])
    whole = records.encode(["t", "torn", "x" * 50])
    writer.write(whole[: len(whole) // 2])
    reader = segments.Reader(tmp_path)
    assert [payload for _, payload in reader.read()] == [b'["t","a","1"]']
    # The next process to write does not know of it.
    segments.Writer(tmp_path).append(["t", "b", "2"])
    assert records.decode([payload for _, payload in reader.read()]) == [["t", "b", "2"]]
    assert reader.torn == 1
    assert read_all(tmp_path) == [["t", "a", "1"], ["t", "b", "2"]]


def test_a_damaged_record_is_told_by_its_checksum(tmp_path: Path) -> None:
    writer = segments.Writer(tmp_path)
    writer.append(["p", "alpha", "0.1"])
    writer.append(["p", "beta", "0.2"])
    file = segments.segment(tmp_path, 1)
    file.write_bytes(file.read_bytes().replace(b'"0.1"', b'"0.9"'))
    reader = segments.Reader(tmp_path)
    assert records.decode([payload for _, payload in reader.read()]) == [["p", "beta", "0.2"]]
    assert reader.torn == 1


def test_processes_forks_and_threads_write_to_one_run(tmp_path: Path) -> None:
    writer = segments.Writer(tmp_path, limit_bytes=200_000)
    writer.append(["m", "parent", 0.0, 0, 0])

    def write(key: str) -> None:
        for step in range(3000):
            writer.append(["m", key, 1.5, step, 1_700_000_000_000])

    children = []
    for name in ("fork-1", "fork-2"):
        pid = os.fork()
        if pid == 0:
            write(name)
            os._exit(0)
        children.append(pid)
    threads = [threading.Thread(target=write, args=(f"thread-{n}",)) for n in range(2)]
    for thread in threads:
        thread.start()
    reader = segments.Reader(tmp_path)
    found: list[list[Any]] = []
    ended = False
    while True:
        lines = reader.read(50_000)
        found += records.decode([payload for _, payload in lines])
        segments.remove_read(tmp_path, reader.cursor)
        if lines:
            continue
        if ended:
            break
        for thread in threads:
            thread.join()
        for pid in children:
            assert os.waitpid(pid, 0)[1] == 0
        ended = True
    assert reader.torn == 0
    by_key: dict[str, list[int]] = {}
    for record in found:
        by_key.setdefault(record[1], []).append(record[3])
    assert by_key.pop("parent") == [0]
    assert set(by_key) == {"fork-1", "fork-2", "thread-0", "thread-1"}
    assert all(steps == list(range(3000)) for steps in by_key.values())
    # Some were removed while others were written to.
    assert segments.numbers(tmp_path)[0] > 1


def test_a_segment_with_a_writer_or_with_unread_records_stays(tmp_path: Path) -> None:
    first = segments.Writer(tmp_path, limit_bytes=1000)
    first.append(["t", "a", "x" * 900])
    second = segments.Writer(tmp_path, limit_bytes=1000)
    second.append(["t", "b", "y" * 900])
    second.append(["t", "c", "z"])
    reader = segments.Reader(tmp_path)
    reader.read()
    segments.remove_read(tmp_path, reader.cursor)
    assert 1 in segments.numbers(tmp_path), "its writer may write on"
    first.close()
    segments.remove_read(tmp_path, {})
    assert 1 in segments.numbers(tmp_path), "nobody has read it"
    segments.remove_read(tmp_path, reader.cursor)
    assert 1 not in segments.numbers(tmp_path)


def test_a_run_that_goes_on_after_its_journal_was_removed_begins_it_again(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal")
    journal.begin("local")
    run = journal.run("0" * 32)
    run.begin({"run": {"info": {"run_id": run.id, "artifact_uri": "/x"}}, "fresh": True, "offline": False})
    writer = run.writer()
    writer.append(["t", "a", "1"])
    reader = segments.Reader(run.path)
    reader.read()
    run.note_sent({"log": reader.cursor, "files": reader.cursor, "sending": None})
    with run.draining() as mine:
        assert mine
        assert not run.remove_if_sent(), "its writer may write on"
        writer.close()
        assert run.remove_if_sent()
    assert not run.path.exists()
    writer.append(["t", "b", "2"])
    assert run.sent()["log"] == {}
    assert read_all(run.path) == [["t", "b", "2"]]
    base = run.base() or {}
    assert base["run"]["info"]["artifact_uri"] == "/x"
    assert not base["fresh"]


WRITER = """
import sys
from pathlib import Path
from amlflow.journal import segments
writer = segments.Writer(Path(sys.argv[1]), sys.argv[2])
n = 0
while True:
    writer.append(["m", "k", 1.0, n, 0])
    sys.stdout.write(f"{n}\\n")
    sys.stdout.flush()
    n += 1
"""


@pytest.mark.parametrize("durability", segments.DURABILITIES)
def test_what_a_killed_process_was_told_is_written_is_there(tmp_path: Path, durability: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path), durability], stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        for _ in range(50):
            child.stdout.readline()
        child.send_signal(signal.SIGKILL)
        told = [int(line) for line in child.stdout.read().split("\n")[:-1] if line]
    last = max(told, default=49)
    steps = [record[3] for record in read_all(tmp_path)]
    assert steps == list(range(len(steps)))
    assert steps[-1] >= last


def test_one_process_alone_sends_a_run(tmp_path: Path) -> None:
    run = Journal(tmp_path).run("r1")
    run.path.mkdir(parents=True)
    with run.draining() as mine, run.draining() as second:
        assert mine
        assert not second
    with run.draining() as again:
        assert again


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b", "a\\b", "x" * 300, "a\0b"])
def test_an_id_that_is_no_plain_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="no id"):
        Journal(tmp_path).run(name)
    assert Journal(tmp_path).model(name) is None


def test_a_full_disk_is_an_error_and_what_came_before_stays(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(small)], capture_output=True).returncode:
        pytest.skip("this machine mounts no tmpfs")
    try:
        writer = segments.Writer(small / "run")
        written = 0

        def fill() -> None:
            nonlocal written
            for number in range(10_000):
                writer.append(["t", "k", f"{number:05}" * 20])
                written += 1

        with pytest.raises(OSError, match="space"):
            fill()
        assert written > 100
        assert [int(record[2][:5]) for record in read_all(small / "run")] == list(range(written))
        writer.close()
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_a_journal_is_for_its_owner_alone(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal")
    journal.begin("local")
    run = journal.run("r1")
    run.begin({})
    run.writer().append(["t", "a", "secret"])
    modes = {path.name: path.stat().st_mode & 0o077 for path in (tmp_path / "journal").rglob("*") if path.is_file()}
    assert modes
    assert not any(modes.values()), modes
    assert (tmp_path / "journal").stat().st_mode & 0o077 == 0
