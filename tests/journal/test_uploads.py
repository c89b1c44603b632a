"""Files of a run, from the spool to where its artifacts are."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest
from faults import Faults, faulty
from journals import artifacts, begin, content, drainer, end, flushed, held, online, server, spool, write

from amlflow.journal.errors import Refused, Unreachable
from amlflow.journal.folder import Journal, RunFolder, new_id, write_json
from amlflow.journal.rest import RestServer


@pytest.fixture
def behind(mlflow_server: str) -> RestServer:
    return server(mlflow_server)


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return begin(tmp_path / "journal")


class Uploading:
    """A server that notes what is uploaded to it; `lose` are names of files of which the answer to the first upload is lost."""

    def __init__(self, behind: RestServer, *lose: str) -> None:
        self._behind, self._lose = behind, list(lose)
        self.sent: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._behind, name)

    def upload(self, path: str, file: Any) -> None:
        self._behind.upload(path, file)
        name = path.rpartition("/")[2]
        self.sent.append(name)
        if name in self._lose:
            self._lose.remove(name)
            raise Unreachable("the answer was lost", maybe_applied=True)


def local_run(journal: Journal, root: Path, behind: RestServer) -> RunFolder:
    """A run whose artifacts are a folder of this machine."""
    run = online(journal, behind)
    base = run.base() or {}
    base["run"]["info"]["artifact_uri"] = root.as_uri()
    write_json(run.path / "run.json", base)
    return run


def test_files_arrive_whole_and_leave_the_spool(journal: Journal, behind: RestServer, tmp_path: Path) -> None:
    run = online(journal, behind)
    contents = {f"a/{n}/ü {n}.bin": bytes([n]) * n * 1000 for n in range(40)} | {
        "empty.txt": b"",
        "large": b"L" * (9 << 20),
    }
    for path, data in contents.items():
        spool(run, path, data)
    write(run, ["m", "loss", 1, 1, 1])
    assert drainer(journal, behind).drain_once()
    assert artifacts(behind, run.id) == {path: len(data) for path, data in contents.items()}
    for path in ("a/7/ü 7.bin", "large", "empty.txt"):
        assert content(behind, run.id, path, tmp_path / "got") == contents[path]
    assert not run.path.exists()


def test_of_one_path_the_last_content_stands(journal: Journal, behind: RestServer, tmp_path: Path) -> None:
    run = online(journal, behind)
    for number in range(30):
        spool(run, "checkpoint", b"%06d" % number * 10_000)
        spool(run, "other", b"x")
    sender = drainer(journal, behind)
    assert sender.drain_once()
    assert content(behind, run.id, "checkpoint", tmp_path / "got") == b"000029" * 10_000
    run = journal.run(run.id)
    run.begin({"run": {"info": held(behind, run.id).info}, "fresh": False, "offline": False})
    spool(run, "checkpoint", b"%06d" % 99 * 10_000)
    assert sender.drain_once()
    assert content(behind, run.id, "checkpoint", tmp_path / "got") == b"000099" * 10_000


def test_a_run_does_not_end_before_its_files_are_there(journal: Journal, behind: RestServer) -> None:
    run = online(journal, behind)
    seen: list[str] = []

    class Slow(Uploading):
        def upload(self, path: str, file: Any) -> None:
            seen.append(held(self._behind, run.id).status)
            super().upload(path, file)

    spool(run, "model.bin", b"x" * 1000)
    end(run)
    spool(run, "late.bin", b"x")
    assert drainer(journal, Slow(behind)).drain_once()
    assert seen[0] == "RUNNING"
    assert held(behind, run.id).status == "FINISHED"


def test_after_a_cut_what_has_arrived_is_not_sent_again(journal: Journal, behind: RestServer) -> None:
    run = online(journal, behind)
    for number in range(6):
        spool(run, f"small {number}", b"s" * 100)
    spool(run, "large", b"L" * (9 << 20))
    cut = Uploading(behind, "small 0", "large")
    first = drainer(journal, cut)
    assert not first.drain_once()
    assert sorted(set(cut.sent)) == ["large", *(f"small {number}" for number in range(6))]
    cut.sent.clear()
    # In another process, as it were.
    assert drainer(journal, cut).drain_once()
    assert cut.sent == ["small 0"]
    assert artifacts(behind, run.id)["large"] == 9 << 20


def test_a_large_file_of_the_same_size_as_before_is_sent(journal: Journal, behind: RestServer, tmp_path: Path) -> None:
    run = online(journal, behind)
    spool(run, "large", b"1" * (9 << 20))
    assert drainer(journal, behind).drain_once()
    run.begin({"run": {"info": held(behind, run.id).info}, "fresh": False, "offline": False})
    spool(run, "large", b"2" * (9 << 20))
    assert not drainer(journal, Uploading(behind, "large")).drain_once()
    assert drainer(journal, behind).drain_once()
    assert content(behind, run.id, "large", tmp_path / "got") == b"2" * (9 << 20)


def test_a_damaged_copy_is_never_kept_by_the_server(journal: Journal, behind: RestServer) -> None:
    run = online(journal, behind)
    for path in ("good", "flipped", "short", "gone"):
        spool(run, path, path.encode() * 100_000)
    spooled = {file.read_bytes()[:4]: file for file in run.spool.iterdir()}
    flipped = bytearray(spooled[b"flip"].read_bytes())
    flipped[5] ^= 1
    spooled[b"flip"].write_bytes(flipped)
    spooled[b"shor"].write_bytes(b"short")
    spooled[b"gone"].unlink()
    end(run)
    assert drainer(journal, behind).drain_once()
    assert set(artifacts(behind, run.id)) == {"good", "amlflow/refused.jsonl"}
    assert sorted(item["record"][1] for item in run.refused()) == ["flipped", "gone", "short"]
    assert held(behind, run.id).status == "FINISHED"


@pytest.mark.parametrize("path", ["../out", "a/../../out", "/out", "a//b", "", "a\\..\\b"])
def test_no_path_leads_out_of_the_artifacts(journal: Journal, behind: RestServer, tmp_path: Path, path: str) -> None:
    run = local_run(journal, tmp_path / "artifacts", behind)
    spool(run, path, b"x")
    spool(run, "in/side", b"y")
    assert drainer(journal, behind).drain_once()
    assert [item["record"][1] for item in run.refused()] == [path]
    assert (tmp_path / "artifacts/in/side").read_bytes() == b"y"
    assert not (tmp_path / "out").exists()


def test_files_with_a_target_go_there(journal: Journal, behind: RestServer, tmp_path: Path) -> None:
    run = local_run(journal, tmp_path / "artifacts", behind)
    spool(run, "weights", b"x" * 100, target=(tmp_path / "models with space/m-1").as_uri())
    spool(run, "weights", b"y" * 100)
    assert drainer(journal, behind).drain_once()
    assert (tmp_path / "models with space/m-1/weights").read_bytes() == b"x" * 100
    assert (tmp_path / "artifacts/weights").read_bytes() == b"y" * 100


def test_other_storage_is_reached_by_what_opens_its_scheme(journal: Journal, behind: RestServer) -> None:
    run = online(journal, behind)
    base = run.base() or {}
    base["run"]["info"]["artifact_uri"] = "azureml://somewhere/root"
    write_json(run.path / "run.json", base)
    taken: dict[str, bytes] = {}

    class Sink:
        def __init__(self, root: str) -> None:
            self.root = root

        def put(self, path: str, file: Any) -> None:
            if path == "no":
                raise Refused(409, "CONFLICT", "It is there already.")
            with file.open() as source:
                taken[f"{self.root}/{path}"] = source.read()

        def size(self, path: str) -> int | None:
            return None

    spool(run, "a/b", b"content")
    spool(run, "no", b"x")
    assert drainer(journal, behind, openers={"azureml": lambda root, behind: Sink(root)}).drain_once()
    assert taken["azureml://somewhere/root/a/b"] == b"content"
    assert [item["reason"] for item in run.refused()] == ["The file 'no': It is there already."]


def test_a_storage_of_mlflow_itself_is_used_for_any_other_scheme(
    journal: Journal, behind: RestServer, mlflow_server: str
) -> None:
    run, other = online(journal, behind), online(journal, behind)
    base = run.base() or {}
    path = held(behind, other.id).info["artifact_uri"].partition(":/")[2]
    base["run"]["info"]["artifact_uri"] = f"{mlflow_server}/api/2.0/mlflow-artifacts/artifacts/{path}"
    write_json(run.path / "run.json", base)
    spool(run, "a/named.txt", b"content")
    assert drainer(journal, behind).drain_once()
    assert artifacts(behind, other.id) == {"a/named.txt": 7}


def test_uploads_survive_a_network_that_breaks(
    journal: Journal, behind: RestServer, mlflow_server: str, tmp_path: Path
) -> None:
    run = online(journal, behind)
    contents = {f"{n}.bin": new_id().encode() * 3000 for n in range(30)}
    for path, data in contents.items():
        spool(run, path, data)
    end(run)
    kinds = ("429 with Retry-After", "500", "503", "reset before", "reset after", "truncated", "expired token")
    with faulty(mlflow_server, Faults(rate=0.5, seed=3, kinds=kinds)) as url:
        sender = drainer(journal, server(url, timeout_s=5.0))
        sender.start()
        assert flushed(sender)
        sender.stop()
    assert artifacts(behind, run.id) == {path: len(data) for path, data in contents.items()}
    assert content(behind, run.id, "17.bin", tmp_path / "got") == contents["17.bin"]


def test_the_log_goes_on_while_a_file_is_under_way(journal: Journal, behind: RestServer) -> None:
    run = online(journal, behind)
    may_end = threading.Event()

    class Held(Uploading):
        def upload(self, path: str, file: Any) -> None:
            assert may_end.wait(60)
            super().upload(path, file)

    spool(run, "large", b"x" * 1000)
    write(run, ["m", "loss", 1, 1, 1])
    sender = drainer(journal, Held(behind))
    sender.start()
    deadline = threading.Event()
    for _ in range(600):
        if held(behind, run.id).points or deadline.wait(0.1):
            break
    assert held(behind, run.id).points
    assert artifacts(behind, run.id) == {}
    may_end.set()
    assert sender.flush(timeout_s=60)
    sender.stop()
    assert artifacts(behind, run.id) == {"large": 1000}


def test_a_models_files_go_out_though_the_log_was_read_before_they_came(journal: Journal, behind: RestServer) -> None:
    run = online(journal, behind)
    model = {"info": {"model_id": "m-1", "name": "classifier", "source_run_id": run.id}, "data": {}}

    class Slow(Uploading):
        def upload(self, path: str, file: Any) -> None:
            if path.endswith("plot.png"):
                # Long enough for the log to be read to its end.
                time.sleep(0.5)
                journal.keep_model(model)
                for name in ("MLmodel", "weights"):
                    spool(run, f"classifier/{name}", b"x")
            super().upload(path, file)

    spool(run, "plot.png", b"x")
    write(run, ["m", "loss", 1, 1, 1])
    sender = drainer(journal, Slow(behind))
    sender.start()
    assert sender.flush([run.id], timeout_s=20)
    sender.stop()
    assert set(artifacts(behind, run.id)) == {"plot.png", "classifier/MLmodel", "classifier/weights"}


def test_a_models_files_wait_for_the_log_and_the_log_not_for_them(journal: Journal, behind: RestServer) -> None:
    """With one thread for the files of all runs, which none may keep while it waits."""
    runs = [online(journal, behind) for _ in range(3)]
    for run in runs:
        journal.keep_model({"info": {"model_id": f"m-{run.id}", "name": "model", "source_run_id": run.id}, "data": {}})
        for number in range(3):
            spool(run, f"plots/{number}.png", b"x" * 1000)
            end(run, "RUNNING" if number < 2 else "FINISHED")
            spool(run, f"model/{number}", b"x")
    sender = drainer(journal, behind, file_threads=1)
    sender.start()
    assert sender.flush(timeout_s=30)
    sender.stop()
    for run in runs:
        assert len(artifacts(behind, run.id)) == 6
        assert held(behind, run.id).status == "FINISHED"


def test_a_name_that_the_server_has_no_route_for_is_put_aside_alone(journal: Journal, behind: RestServer) -> None:
    run = online(journal, behind)
    spool(run, "two\nlines.txt", b"x")
    spool(run, "plain.txt", b"y")
    write(run, ["m", "loss", 1, 1, 1])
    end(run)
    assert drainer(journal, behind).drain_once()
    assert set(artifacts(behind, run.id)) == {"plain.txt", "amlflow/refused.jsonl"}
    assert [item["record"][1] for item in run.refused()] == ["two\nlines.txt"]
    assert "The file 'two\\nlines.txt'" in run.refused()[0]["reason"]
    assert held(behind, run.id).status == "FINISHED"


def test_a_server_without_artifacts_for_a_time_gets_them_all_later(
    journal: Journal, behind: RestServer, mlflow_server: str
) -> None:
    run = online(journal, behind)
    faults = Faults(missing=("mlflow-artifacts/artifacts",))
    with faulty(mlflow_server, faults) as url:
        for path in ("two words.txt", "plain.txt"):
            spool(run, path, b"x")
        assert not drainer(journal, server(url)).drain_once()
        assert "takes no artifacts" in (run.problem() or {})["reason"]
        assert run.refused() == []
        faults.missing = ()
        assert drainer(journal, server(url)).drain_once()
    assert set(artifacts(behind, run.id)) == {"two words.txt", "plain.txt"}


def test_a_file_that_a_proxy_knew_nothing_of_for_a_moment_is_sent_again(journal: Journal, behind: RestServer) -> None:
    run = online(journal, behind)

    class Passing(Uploading):
        def upload(self, path: str, file: Any) -> None:
            if path.endswith("data.csv") and not self.sent:
                self.sent.append("none")
                raise Refused(404, "ENDPOINT_NOT_FOUND", "default backend")
            super().upload(path, file)

    spool(run, "data.csv", b"x")
    assert drainer(journal, Passing(behind)).drain_once()
    assert artifacts(behind, run.id)["data.csv"] == 1
    assert run.refused() == []
