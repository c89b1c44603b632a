"""`amlflow run copy` of what was copied before: it brings what has changed since, and nothing twice."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from copies import Places, copied, facts, logged, opened
from servers import proxy

from amlflow.workspaces.base import RunQuery

MODEL = """
import mlflow
class Adding(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        return model_input + 1
more = {"params": {"depth": "3"}, "tags": {"kind": "t"}}
with mlflow.start_run():
    mlflow.pyfunc.log_model(name="model", python_model=Adding(), pip_requirements=["numpy"], **more)
"""
FILES = """
import mlflow
mlflow.log_text("old", "notes/a.txt")
mlflow.log_text("same", "b.txt")
mlflow.log_text("x" * 3_000_000, "large.bin")
"""
MANY = """
import mlflow, os
os.mkdir("m")
for number in range(40):
    with open(f"m/{number}.txt", "w") as file:
        file.write(str(number))
mlflow.log_artifacts("m", "m")
"""
ODD = """
import mlflow
for name in NAMES:
    mlflow.log_text("content of " + name, name)
"""
REFUSED = ["hash#1.txt", "back\\slash.txt", "two\nlines.txt"]
# MLflow's server decodes the name of the first.
NAMES = [*REFUSED, "per%20cent.txt", "plain.txt"]


@pytest.fixture
def places(amlflow: Any, request: pytest.FixtureRequest) -> Places:
    return Places(request, amlflow.cwd)


def log_file(amlflow: Any, where: str, run: str, name: str, content: str, folder: str = "") -> None:
    (amlflow.cwd / name).write_text(content)
    amlflow.ok("-w", where, "log", "artifact", name, "--run", run, *(("--to", folder) if folder else ()))


@pytest.mark.parametrize(("source", "target"), [("local", "other"), ("local", "server"), ("server", "local")])
def test_a_file_that_changed_at_its_size_is_copied_again(
    amlflow: Any, places: Places, source: str, target: str
) -> None:
    here, there = places[source], places[target]
    run = logged(amlflow, here, FILES)
    (first,) = copied(amlflow, here, there, run)
    log_file(amlflow, here, run, "a.txt", "new", "notes")
    (second,) = copied(amlflow, here, there, run)
    assert (second["run_id"], second["state"], second["files"]) == (first["run_id"], "completed", 1)
    assert facts(there, first["run_id"])["files"]["notes/a.txt"] == b"new"
    # As on another machine, where nothing of the sending is noted.
    shutil.rmtree(opened(there).state_folder() / "copies")
    log_file(amlflow, here, run, "b.txt", "S4me")
    (third,) = copied(amlflow, here, there, run)
    assert (third["state"], third["files"]) == ("completed", 1)
    assert facts(here, run) == facts(there, first["run_id"])
    (fourth,) = copied(amlflow, here, there, run)
    assert fourth["state"] == "unchanged"


def test_a_large_file_is_sent_again_when_it_changed_and_only_then(
    amlflow: Any, places: Places, mlflow_server: str
) -> None:
    here = places["local"]
    run = logged(amlflow, here, FILES)
    seen: list[str] = []
    with proxy(mlflow_server, seen=seen) as there:
        (first,) = copied(amlflow, here, there, run)
        assert sum("large.bin" in path for path in seen) == 1
        large = Path(opened(here).get_run(run).artifact_uri.removeprefix("file://")) / "large.bin"
        for seconds in (1_700_000_000, 1_800_000_000):
            os.utime(large, (seconds, seconds))
            (again,) = copied(amlflow, here, there, run)
            assert again["state"] == "unchanged"
        assert sum("large.bin" in path for path in seen) == 1
        large.write_text("y" * 3_000_000)
        (changed,) = copied(amlflow, here, there, run)
    assert (changed["state"], changed["files"]) == ("completed", 1)
    assert facts(here, run) == facts(mlflow_server, first["run_id"])


def test_a_large_file_of_a_server_is_not_fetched_to_be_compared(
    amlflow: Any, places: Places, mlflow_server: str
) -> None:
    seen: list[str] = []
    with proxy(mlflow_server, seen=seen) as here:
        run = logged(amlflow, here, FILES)
        copied(amlflow, here, places["local"], run)
        seen.clear()
        (again,) = copied(amlflow, here, places["local"], run)
    assert again["state"] == "unchanged"
    assert any("notes/a.txt" in path for path in seen)
    assert not any("large.bin" in path for path in seen)


@pytest.mark.parametrize("large", ["", "m/large.bin"])
def test_an_unchanged_run_of_many_files_is_asked_for_no_more_than_a_new_one(
    amlflow: Any, places: Places, mlflow_server: str, large: str
) -> None:
    seen: list[str] = []
    with proxy(mlflow_server, seen=seen) as here:
        run = logged(amlflow, here, f"{MANY}mlflow.log_text('x' * 3_000_000, {large!r})" if large else MANY)
        seen.clear()
        copied(amlflow, here, places["local"], run)
        first = len(seen)
        seen.clear()
        (again,) = copied(amlflow, here, places["local"], run)
        assert again["state"] == "unchanged"
        assert sum("/m/" in path for path in seen) == 40
        assert not large or not any(large in path for path in seen)
        assert len(seen) <= first
        log_file(amlflow, here, run, "7.txt", "8", "m")
        (changed,) = copied(amlflow, here, places["local"], run)
    assert (changed["state"], changed["files"]) == ("completed", 1)
    assert facts(places["local"], again["run_id"])["files"]["m/7.txt"] == b"8"


def test_what_a_server_refused_is_named_and_not_sent_again(amlflow: Any, places: Places) -> None:
    here, there = places["local"], places["server"]
    run = logged(amlflow, here, f"NAMES = {NAMES!r}{ODD}")
    done = amlflow.ok("run", "copy", run, "--from", here, "--to", there, "-o", "json")
    (first,) = done.json
    for name in REFUSED:
        assert any(f"The file {name!r}: " in reason for reason in first["refused"]), name
        assert f"The file {name!r}: " in done.err
    assert len(first["refused"]) == 3
    for _ in range(2):
        (again,) = copied(amlflow, here, there, run)
        assert (again["state"], again["refused"]) == ("unchanged", [])
    # As on another machine, where nothing of the sending is noted.
    shutil.rmtree(opened(there).state_folder() / "copies")
    (elsewhere,) = copied(amlflow, here, there, run)
    assert (elsewhere["files"], elsewhere["refused"]) == (1, [])
    held = facts(there, first["run_id"])["files"]
    assert held.pop("plain.txt") == b"content of plain.txt"
    assert held.pop("per cent.txt") == b"content of per%20cent.txt"
    (noted,) = (content for path, content in held.items() if path.startswith("amlflow/refused"))
    assert {json.loads(line)["record"][1] for line in noted.splitlines()} == set(REFUSED)


def test_a_backslash_is_a_sign_of_a_name(amlflow: Any, places: Places) -> None:
    here, there = places["local"], places["other"]
    run = logged(amlflow, here, f"NAMES = {NAMES!r}{ODD}")
    (first,) = copied(amlflow, here, there, run)
    (again,) = copied(amlflow, here, there, run)
    assert (first["state"], again["state"]) == ("copied", "unchanged")
    log_file(amlflow, here, run, "back\\slash.txt", "CONTENT OF BACK\\SLASH.TXT".ljust(25))
    (changed,) = copied(amlflow, here, there, run)
    assert (changed["state"], changed["files"]) == ("completed", 1)
    assert facts(here, run) == facts(there, first["run_id"])
    amlflow.ok("-w", there, "run", "download", first["run_id"], "back\\slash.txt", "--to", "out")
    assert (amlflow.cwd / "out" / "back\\slash.txt").read_text().startswith("CONTENT OF")


@pytest.mark.parametrize("target", ["other", pytest.param("server", marks=pytest.mark.slow)])
def test_the_copy_of_a_model_follows_its_source(amlflow: Any, places: Places, target: str) -> None:
    here, there = places["local"], places[target]
    run = logged(amlflow, here, MODEL)
    (first,) = copied(amlflow, here, there, run)
    (model,) = opened(here).logged_models(run)
    model_id = model.uri.removeprefix("models:/")
    address = f"/api/2.0/mlflow/logged-models/{model_id}"
    tags = [{"key": "stage", "value": "ready"}, {"key": "kind", "value": "u"}]
    opened(here).behind().request("PATCH", f"{address}/tags", {"tags": tags})
    params = {"model_id": model_id, "params": [{"key": "width", "value": "4"}]}
    opened(here).behind().request("POST", f"{address}/params", params)
    (second,) = copied(amlflow, here, there, run)
    assert (second["run_id"], second["state"], second["models"]) == (first["run_id"], "completed", 1)
    assert facts(here, run) == facts(there, first["run_id"])
    requirements = opened(here).fetch(model.uri) / "requirements.txt"
    requirements.write_text(requirements.read_text().swapcase())
    (third,) = copied(amlflow, here, there, run)
    assert (third["state"], third["models"]) == ("completed", 1)
    (copy,) = opened(there).logged_models(first["run_id"])
    brought = opened(there).fetch_file(copy.location, "requirements.txt", amlflow.cwd / "out")
    assert brought.read_text() == requirements.read_text()
    (fourth,) = copied(amlflow, here, there, run)
    assert (fourth["state"], fourth["models"]) == ("unchanged", 0)


def test_a_child_without_its_parent_is_told_of(amlflow: Any, places: Places) -> None:
    here, there = places["local"], places["other"]
    nested = "import mlflow\nmlflow.start_run()\nwith mlflow.start_run(run_name='child', nested=True): pass\n"
    parent = logged(amlflow, here, nested)
    child = next(run.id for run in opened(here).search_runs(RunQuery()) if run.name == "child")
    alone = amlflow.ok("run", "copy", child, "--from", here, "--to", there)
    assert f"nested in run {parent}, which is not in" in alone.err
    copied(amlflow, here, there, parent)
    assert "nested in" not in amlflow.ok("run", "copy", child, "--from", here, "--to", there).err


@pytest.mark.parametrize("parent", ["bad 'id\"", "0a" * 16])
def test_a_parent_that_cannot_be_read_keeps_no_run(
    amlflow: Any, places: Places, mlflow_server: str, parent: str
) -> None:
    orphan = logged(amlflow, mlflow_server, "import mlflow; mlflow.log_param('a', 1)")
    amlflow.ok("-w", mlflow_server, "log", "tag", f"mlflow.parentRunId={parent}", "--run", orphan)
    with proxy(mlflow_server, missing=(f"run_id={'0a' * 16}",)) as here:
        done = amlflow.ok("run", "copy", orphan, "--from", here, "--to", places["local"], "-o", "json")
    assert f"nested in run {parent}, which is not in" in done.err
    copy = opened(places["local"]).get_run(done.json[0]["run_id"])
    assert (copy.status, copy.params) == ("FINISHED", {"a": "1"})
    assert "mlflow.parentRunId" not in copy.tags


def test_runs_that_name_each_other_as_parent_are_copied_at_once(amlflow: Any, places: Places) -> None:
    here, there = places["local"], places["other"]
    first, second = (logged(amlflow, here, "import mlflow", name) for name in ("one", "two"))
    amlflow.ok("-w", here, "log", "tag", f"mlflow.parentRunId={second}", "--run", first)
    amlflow.ok("-w", here, "log", "tag", f"mlflow.parentRunId={first}", "--run", second)
    done = {item["source_run_id"]: item for item in copied(amlflow, here, there, first, second)}
    assert {item["state"] for item in done.values()} == {"copied"}
    for run, parent in ((first, second), (second, first)):
        tags = opened(there).get_run(done[run]["run_id"]).tags
        assert tags["mlflow.parentRunId"] == done[parent]["run_id"]


def test_what_arrived_before_another_run_failed_is_told(amlflow: Any, places: Places) -> None:
    here, there = places["local"], places["server"]
    good = logged(amlflow, here, "import mlflow; mlflow.log_param('a', 1)")
    bad = logged(amlflow, here, MODEL)
    (model,) = opened(here).logged_models(bad)
    shutil.rmtree(opened(here).fetch(model.uri))
    done = amlflow("run", "copy", good, bad, "--from", here, "--to", there, "-o", "json")
    assert done.code == 3
    assert "is gone" in done.err
    assert [item["source_run_id"] for item in json.loads(done.out)] == [good]
    assert facts(there, json.loads(done.out)[0]["run_id"])["params"] == {"a": "1"}
