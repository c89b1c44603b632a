"""Journals sent to a real MLflow server, directly and through a proxy that breaks things."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from faults import Faults, faulty
from journals import artifacts, begin, content, drainer, end, flushed, held, offline, online, server, spool, write

from amlflow.journal.errors import Refused, Unreachable
from amlflow.journal.folder import Journal, new_id
from amlflow.journal.pending import pending
from amlflow.journal.rest import RestServer


@pytest.fixture
def behind(mlflow_server: str) -> RestServer:
    return server(mlflow_server)


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return begin(tmp_path / "journal")


@pytest.fixture
def faults() -> Faults:
    return Faults()


@pytest.fixture
def broken(mlflow_server: str, faults: Faults) -> Iterator[RestServer]:
    """The same server behind a proxy that fails as `faults` says."""
    with faulty(mlflow_server, faults) as url:
        yield server(url, timeout_s=3.0)


def test_everything_that_was_written_arrives_and_the_journal_goes(journal: Journal, behind: RestServer) -> None:
    run = online(journal, behind)
    write(
        run,
        *[["m", "loss", 1 / (step + 1), step, 1000 + step] for step in range(1500)],
        *[["m", "edge", value, 0, 1 + n] for n, value in enumerate((math.nan, math.inf, -math.inf, -0.0, 5e-324))],
        ["b", [["acc", 0.5, 1, 2]], [["lr", "0.1"], ["empty", ""]], [["stage", "1"], ["stage", "2"]]],
        ["t", "gone", "x"],
        ["d", "gone"],
        ["t", "ünï", "value ✓\n"],
        ["u", {"run_name": "renamed"}],
    )
    end(run)
    assert drainer(journal, behind).drain_once()
    found = held(behind, run.id)
    assert (found.status, found.name) == ("FINISHED", "renamed")
    assert len([point for point in found.points if point[0] == "loss"]) == 1500
    edges = [point[1].lstrip("-") for point in found.points if point[0] == "edge"]
    assert sorted(edges) == ["0.0", "1.7976931348623157e+308", "1.7976931348623157e+308", "5e-324", "nan"]
    assert found.params == {"lr": "0.1", "empty": ""}
    assert found.tags["stage"] == "2"
    assert found.tags["ünï"] == "value ✓\n"
    assert "gone" not in found.tags
    assert not run.path.exists()


def test_nested_runs_that_were_made_offline_are_made_once_with_their_experiment(
    journal: Journal, behind: RestServer
) -> None:
    experiment = f"offline {new_id()}"
    parent = offline(journal, experiment)
    # The child is looked at first, and has to wait.
    child = offline(journal, experiment, parent.id)
    grandchild = offline(journal, experiment, child.id)
    write(grandchild, ["m", "loss", 1, 1, 1], ["t", "from", f"runs:/{parent.id}/model"])
    for run in (parent, child, grandchild):
        end(run)
    assert drainer(journal, behind, threads=1).drain_once()
    real = [journal.real_id(run.id) for run in (parent, child, grandchild)]
    found = [held(behind, run_id) for run_id in real]
    assert [run.tags.get("mlflow.parentRunId") for run in found] == [None, real[0], real[1]]
    assert found[2].tags["from"] == f"runs:/{real[0]}/model"
    assert {run.info["experiment_id"] for run in found} == {journal.real_id("offline-0123456789ab")}
    assert found[0].info["user_id"] == "somebody"
    assert found[0].info["start_time"] == 1_700_000_000_000
    asked = {"experiment_ids": [found[0].info["experiment_id"]], "max_results": 100}
    assert len(behind.request("POST", "/api/2.0/mlflow/runs/search", asked)["runs"]) == 3


def test_a_child_waits_while_its_parent_cannot_be_made(journal: Journal, behind: RestServer) -> None:
    parent = offline(journal, f"offline {new_id()}")
    child = offline(journal, f"offline {new_id()}", parent.id)
    with parent.draining() as mine:
        assert mine
        assert not drainer(journal, behind).drain_once()
    assert journal.real_id(child.id) == child.id
    assert drainer(journal, behind).drain_once()
    assert held(behind, journal.real_id(child.id)).tags["mlflow.parentRunId"] == journal.real_id(parent.id)


def test_what_is_refused_is_kept_and_the_rest_arrives(journal: Journal, behind: RestServer, tmp_path: Path) -> None:
    run = online(journal, behind)
    write(
        run,
        ["p", "a", "1"],
        *[["m", f"m{n}", n, n, n + 1] for n in range(40)],
        ["m", "not a name?", 1, 1, 1],
        ["p", "also bad?", "x"],
        ["p", "b", "2"],
        ["p", "a", "another"],
        ["t", "k" * 300, "x"],
        ["t", "good", "x"],
    )
    end(run)
    told: list[str] = []
    assert drainer(journal, behind, tell=told.append).drain_once()
    found = held(behind, run.id)
    assert found.status == "FINISHED"
    assert found.params == {"a": "1", "b": "2"}
    assert len(found.points) == 40
    assert found.tags["good"] == "x"
    refused = [item["record"][:2] for item in run.refused()]
    assert sorted(refused) == [["m", "not a name?"], ["p", "a"], ["p", "also bad?"], ["t", "k" * 300]]
    lines = content(behind, run.id, "amlflow/refused.jsonl", tmp_path / "refused").decode().splitlines()
    assert len([json.loads(line) for line in lines]) == 4
    assert len(told) == 1
    (waiting,) = pending(journal)
    assert (waiting.run_id, waiting.refused, waiting.size_bytes) == (run.id, 4, 0)


def test_values_that_are_too_long_are_shortened_and_whole_in_an_artifact(
    journal: Journal, behind: RestServer, tmp_path: Path
) -> None:
    run = online(journal, behind)
    write(run, ["p", "prompt", "x" * 10_000_000], ["t", "note", "ü" * 9000])
    told: list[str] = []
    assert drainer(journal, behind, tell=told.append).drain_once()
    found = held(behind, run.id)
    assert len(found.params["prompt"]) == 6000
    assert len(found.tags["note"]) == 8000
    whole = json.loads(content(behind, run.id, "amlflow/long_values.json", tmp_path / "long"))
    assert whole == {"params": {"prompt": "x" * 10_000_000}, "tags": {"note": "ü" * 9000}}
    assert len(told) == 1


def test_a_run_that_is_gone_keeps_its_journal_and_says_why(journal: Journal, behind: RestServer) -> None:
    deleted, unknown = online(journal, behind), journal.run(new_id())
    unknown.begin({"run": {"info": {"run_id": unknown.id}}, "fresh": False, "offline": False})
    for run in (deleted, unknown):
        write(run, ["m", "loss", 1, 1, 1])
    behind.request("POST", "/api/2.0/mlflow/runs/delete", {"run_id": deleted.id})
    sender = drainer(journal, behind)
    assert not sender.drain_once()
    assert {item.kind for item in pending(journal)} == {"gone"}
    assert all(item.size_bytes > 0 for item in pending(journal))
    assert not sender.flush([deleted.id], timeout_s=60)
    behind.request("POST", "/api/2.0/mlflow/runs/restore", {"run_id": deleted.id})
    sender.drain_once()
    assert len(held(behind, deleted.id).points) == 1
    assert [item.run_id for item in pending(journal)] == [unknown.id]


def test_nothing_is_lost_while_the_service_is_away_or_says_no(
    journal: Journal, behind: RestServer, broken: RestServer, faults: Faults
) -> None:
    run = online(journal, behind)
    write(run, ["m", "loss", 1, 1, 1])
    faults.forbidden = ("/mlflow/",)
    assert not drainer(journal, broken).drain_once()
    assert [item.kind for item in pending(journal)] == ["not_allowed"]
    assert not drainer(journal, server("http://127.0.0.1:9")).drain_once()
    assert [item.kind for item in pending(journal)] == ["unreachable"]
    faults.forbidden = ()
    assert drainer(journal, broken).drain_once()
    assert len(held(behind, run.id).points) == 1
    assert pending(journal) == []


class Twice:
    """A server whose answers to one route are lost after it did what was asked, so many times."""

    def __init__(self, behind: RestServer, route: str, times: int = 1, crash: bool = False) -> None:
        self._behind, self._route, self.left, self._crash = behind, route, times, crash
        self.asked: list[tuple[str, Any]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._behind, name)

    def request(self, method: str, path: str, body: Any = None, **options: Any) -> dict[str, Any]:
        self.asked.append((path, body))
        answer = self._behind.request(method, path, body, **options)
        if path.endswith(self._route) and self.left:
            self.left -= 1
            if self._crash:
                raise KeyboardInterrupt
            raise Unreachable("the answer was lost", maybe_applied=True)
        return answer


@pytest.mark.parametrize("crash", [False, True])
@pytest.mark.parametrize(
    "route", ["runs/create", "experiments/create", "runs/log-batch", "runs/outputs", "runs/log-inputs"]
)
def test_a_write_whose_answer_was_lost_is_not_sent_again(
    journal: Journal, behind: RestServer, route: str, crash: bool
) -> None:
    run = offline(journal, f"offline {new_id()}")
    write(run, *[["m", "loss", 0.1, step, step] for step in range(20)], ["p", "a", "1"], ["t", "b", "2"])
    dataset = {"dataset": {"name": "d", "digest": "1", "source_type": "local", "source": "{}"}, "tags": []}
    write(run, ["r", "POST", "/api/2.0/mlflow/runs/log-inputs", {"run_id": run.id, "datasets": [dataset]}])
    model = {"model_id": "m-" + "0" * 32, "step": 3}
    write(run, ["r", "POST", "/api/2.0/mlflow/runs/outputs", {"run_id": run.id, "models": [model]}])
    end(run)
    lossy = Twice(behind, route, crash=crash)
    if crash:
        # As after kill -9: what is under way is neither acknowledged nor taken back.
        assert not sent_or_crashed(journal, lossy)
    assert drainer(journal, lossy).drain_once()
    assert not lossy.left
    real = journal.real_id(run.id)
    assert len([path for path, _ in lossy.asked if path.endswith(route)]) == 1
    found = held(behind, real)
    assert len(found.points) == 20
    assert len(found.inputs["dataset_inputs"]) == 1
    assert found.outputs["model_outputs"] == [model]
    assert found.status == "FINISHED"


def sent_or_crashed(journal: Journal, behind: Any) -> bool:
    crashed: list[BaseException] = []
    sender = drainer(journal, behind)
    for work in sender._round():
        try:
            work.result()
        except BaseException as error:
            crashed.append(error)
    return not crashed


def test_after_a_crash_only_what_is_missing_is_sent(journal: Journal, behind: RestServer) -> None:
    run = online(journal, behind)
    points = [["loss", 0.5, step, 1000 + step] for step in range(30)]
    write(run, ["b", points, [["a", "1"], ["b", "2"]], [["t", "1"], ["u", "2"]]])
    part = [{"key": "loss", "value": 0.5, "step": step, "timestamp": 1000 + step} for step in range(0, 30, 2)]
    behind.request(
        "POST",
        "/api/2.0/mlflow/runs/log-batch",
        {
            "run_id": run.id,
            "metrics": part,
            "params": [{"key": "a", "value": "1"}],
            "tags": [{"key": "u", "value": "2"}],
        },
    )
    run.note_sent({"log": {}, "files": {}, "sending": {"1": (run.path / "00000001.log").stat().st_size}})
    watched = Twice(behind, "nothing")
    assert drainer(journal, watched).drain_once()
    ((_, body),) = [(path, body) for path, body in watched.asked if path.endswith("log-batch")]
    assert [point["step"] for point in body["metrics"]] == list(range(1, 30, 2))
    assert (body["params"], body["tags"]) == ([{"key": "b", "value": "2"}], [{"key": "t", "value": "1"}])
    assert len(held(behind, run.id).points) == 30


def test_params_of_a_model_that_come_later_are_sent(journal: Journal, behind: RestServer) -> None:
    run, model_id = online(journal, behind), "m-" + new_id()
    made = model(model_id, run.id)
    write(run, ["l", {"model": made, "emulated": True}])
    made["data"] = {"params": [*made["data"]["params"], {"key": "width", "value": "4"}]}
    write(run, ["l", {"model": made, "emulated": True}])
    assert drainer(journal, behind).drain_once()
    assert not run.refused()
    sent = behind.request("GET", f"/api/2.0/mlflow/logged-models/{journal.real_id(model_id)}")["model"]
    assert {"key": "width", "value": "4"} in sent["data"]["params"]


def test_what_a_server_has_no_route_for_is_kept_with_the_run(
    journal: Journal, behind: RestServer, broken: RestServer, faults: Faults, tmp_path: Path
) -> None:
    """As Azure ML is: no logged models, no outputs, no traces."""
    faults.missing = ("logged-models", "runs/outputs")
    faults.forbidden = ("mlflow/traces",)
    run = online(journal, behind)
    model_id = "m-" + new_id()
    made = model(model_id, run.id)
    write(run, ["l", {"model": made, "emulated": True}])
    spool(run, "classifier/MLmodel", b"flavors: {}\n")
    outputs = {"run_id": run.id, "models": [{"model_id": model_id, "step": 1}]}
    write(run, ["r", "POST", "/api/2.0/mlflow/runs/outputs", outputs])
    write(run, ["r", "POST", "/api/3.0/mlflow/traces", {"trace": {}}], ["m", "loss", 1, 1, 1, {"model_id": model_id}])
    made["info"]["status"] = "LOGGED_MODEL_READY"
    write(run, ["l", {"model": made, "emulated": True}])
    end(run)
    told: list[str] = []
    assert drainer(journal, broken, tell=told.append).drain_once(), pending(journal)
    assert held(behind, run.id).status == "FINISHED"
    assert set(artifacts(behind, run.id)) == {
        "classifier/MLmodel",
        f"amlflow/models/{model_id}.json",
        "amlflow/unsupported/runs-outputs.jsonl",
        "amlflow/unsupported/traces.jsonl",
    }
    kept = json.loads(content(behind, run.id, f"amlflow/models/{model_id}.json", tmp_path / "model"))
    assert (kept["info"]["model_id"], kept["info"]["status"]) == (model_id, "LOGGED_MODEL_READY")
    line = json.loads(content(behind, run.id, "amlflow/unsupported/runs-outputs.jsonl", tmp_path / "outputs"))
    assert line == {"method": "POST", "path": "/api/2.0/mlflow/runs/outputs", "body": outputs}
    assert len(told) == 2
    assert not run.refused()


@pytest.mark.parametrize("lossy", [False, True])
def test_a_model_that_was_made_offline_becomes_one_of_the_server(
    journal: Journal, behind: RestServer, tmp_path: Path, lossy: bool
) -> None:
    run = offline(journal, f"offline {new_id()}")
    model_id = "m-" + new_id()
    made = model(model_id, run.id)
    journal.keep_model(made)
    write(run, ["l", {"model": made, "emulated": True}])
    spool(run, "classifier/MLmodel", b"flavors: {}\n")
    spool(run, "classifier/data/weights", b"w" * 1000)
    write(run, ["m", "loss", 1, 1, 1, {"model_id": model_id}])
    write(
        run,
        [
            "r",
            "POST",
            "/api/2.0/mlflow/runs/outputs",
            {"run_id": run.id, "models": [{"model_id": model_id, "step": 1}]},
        ],
    )
    # Nothing but this file stands between two changes of the model.
    spool(run, "classifier/late", b"late")
    ready = json.loads(json.dumps(made))
    ready["info"]["status"] = "LOGGED_MODEL_READY"
    ready["info"]["tags"].append({"key": "later", "value": "yes"})
    write(run, ["l", {"model": ready, "emulated": True}])
    end(run)
    assert drainer(journal, Twice(behind, "/logged-models") if lossy else behind).drain_once()
    real, real_model = journal.real_id(run.id), journal.real_id(model_id)
    assert real_model != model_id
    found = behind.request("GET", f"/api/2.0/mlflow/logged-models/{real_model}")["model"]
    assert (found["info"]["name"], found["info"]["source_run_id"]) == ("classifier", real)
    assert found["info"]["status"] in ("LOGGED_MODEL_READY", 2)
    assert {tag["key"]: tag["value"] for tag in found["info"]["tags"]}["later"] == "yes"
    assert found["data"]["params"] == [{"key": "depth", "value": "3"}]
    assert [metric["key"] for metric in found["data"]["metrics"]] == ["loss"]
    assert held(behind, real).outputs["model_outputs"][0]["model_id"] == real_model
    root = found["info"]["artifact_uri"].partition(":/")[2]
    behind.download(f"/api/2.0/mlflow-artifacts/artifacts/{root}/data/weights", tmp_path / "weights")
    assert (tmp_path / "weights").read_bytes() == b"w" * 1000
    assert artifacts(behind, real)["classifier/data/weights"] == 1000
    asked = {"experiment_ids": [found["info"]["experiment_id"]]}
    assert len(behind.request("POST", "/api/2.0/mlflow/logged-models/search", asked)["models"]) == 1


def model(model_id: str, run_id: str) -> dict[str, Any]:
    info = {
        "model_id": model_id,
        "experiment_id": "0",
        "name": "classifier",
        "artifact_uri": f"amlflow://0123456789ab/runs/{run_id}/classifier",
        "status": "LOGGED_MODEL_PENDING",
        "model_type": "",
        "source_run_id": run_id,
        "tags": [{"key": "made", "value": "here"}],
    }
    return {"info": info, "data": {"params": [{"key": "depth", "value": "3"}], "metrics": []}}


@pytest.mark.parametrize("seed", [1, 2])
def test_faults_of_every_kind_neither_lose_nor_double_anything(
    journal: Journal, behind: RestServer, broken: RestServer, faults: Faults, seed: int
) -> None:
    runs = [offline(journal, f"faults {seed} {new_id()}") for _ in range(3)]
    for number, run in enumerate(runs):
        for step in range(60):
            write(run, ["m", "loss", step / 7, step, step], ["t", "step", str(step)])
            if step % 10 == 0:
                write(run, ["p", f"p{step}", str(number)])
                spool(run, f"files/{step}.bin", bytes([number]) * step * 100)
        end(run, "FAILED")
    faults.kinds = tuple(kind for kind in faults.kinds if "hang" not in kind)
    faults.seed, faults.rate = seed, 0.3
    faults.__post_init__()
    sender = drainer(journal, broken)
    sender.start()
    assert flushed(sender), pending(journal)
    sender.stop()
    for number, run in enumerate(runs):
        real = journal.real_id(run.id)
        found = held(behind, real)
        assert found.points == sorted(("loss", str(step / 7), step, step) for step in range(60))
        assert found.tags["step"] == "59"
        assert found.status == "FAILED"
        assert found.params == {f"p{step}": str(number) for step in range(0, 60, 10)}
        assert artifacts(behind, real) == {f"files/{step}.bin": step * 100 for step in range(0, 60, 10)}
        asked = {"experiment_ids": [found.info["experiment_id"]]}
        assert len(behind.request("POST", "/api/2.0/mlflow/runs/search", asked)["runs"]) == 1


def test_two_drainers_share_a_journal(journal: Journal, behind: RestServer) -> None:
    runs = [online(journal, behind) for _ in range(4)]
    first, second = drainer(journal, behind), drainer(journal, behind)
    first.start()
    second.start()
    for step in range(50):
        for run in runs:
            write(run, ["m", "loss", step, step, step])
    assert first.flush(timeout_s=60)
    assert second.flush(timeout_s=60)
    first.stop()
    second.stop()
    for run in runs:
        assert len(held(behind, run.id).points) == 50


def test_a_drainer_that_is_stopped_leaves_the_rest_for_the_next(
    journal: Journal, behind: RestServer, broken: RestServer, faults: Faults
) -> None:
    run = online(journal, behind)
    write(run, *[["m", "loss", n, n, n] for n in range(3000)])
    faults.kinds, faults.rate = ("hang after",), 1.0
    sender = drainer(journal, broken)
    sender.start()
    seen = threading.Event()
    while not faults.seen["hang after"]:
        assert not seen.wait(0.01)
    sender.stop(timeout_s=10.0)
    assert pending(journal)
    faults.rate = 0.0
    assert drainer(journal, broken).drain_once()
    assert len(held(behind, run.id).points) == 3000


def test_an_unknown_route_of_a_known_thing_is_refused_once(journal: Journal, behind: RestServer) -> None:
    """What belongs to no run has no artifacts to be kept in: it is kept here."""
    general = journal.run("_general")
    general.begin({"run": {"info": {"run_id": "_general"}}, "fresh": True, "offline": False})
    write(general, ["r", "POST", "/api/2.0/mlflow/no/such/route", {"a": 1}])
    name = f"tagged {new_id()}"
    made = behind.request("POST", "/api/2.0/mlflow/experiments/create", {"name": name})["experiment_id"]
    tag = {"experiment_id": made, "key": "k", "value": "v"}
    write(general, ["r", "POST", "/api/2.0/mlflow/experiments/set-experiment-tag", tag])
    assert drainer(journal, behind).drain_once()
    found = behind.request("GET", "/api/2.0/mlflow/experiments/get", {"experiment_id": made})["experiment"]
    assert found["tags"] == [{"key": "k", "value": "v"}]
    assert len(general.refused()) == 1
    with pytest.raises(Refused):
        behind.request("POST", "/api/2.0/mlflow/no/such/route", {"a": 1})


def test_a_journal_goes_when_its_program_has_ended_after_everything_was_sent(
    journal: Journal, behind: RestServer
) -> None:
    run = online(journal, behind)
    writer = run.writer()
    writer.append(["m", "loss", 1, 1, 1])
    sender = drainer(journal, behind)
    sender.start()
    assert sender.flush(timeout_s=60)
    assert run.path.exists()
    writer.close()
    sender.stop()
    assert not run.path.exists()
