"""A tracking server answers as a local workspace does."""

from __future__ import annotations

import math
import re
import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from amlflow.errors import AmlflowError, NotFound, UsageError
from amlflow.workspaces.base import Metric, Run, RunQuery
from amlflow.workspaces.local.workspace import LocalWorkspace
from amlflow.workspaces.server.workspace import ServerWorkspace

MLMODEL = "artifact_path: model\nflavors:\n  python_function:\n    loader_module: x\n"


@pytest.fixture
def both(clean_env: dict[str, str], mlflow_server: str, tmp_path: Path) -> list[Any]:
    local = LocalWorkspace(tmp_path / "workspace")
    local.create()
    return [local, ServerWorkspace(mlflow_server)]


@pytest.fixture
def salt() -> str:
    """The server is shared: names of one test are not those of another."""
    return uuid.uuid4().hex[:8]


def plain(value: Any) -> Any:
    if isinstance(value, float) and math.isnan(value):
        return "NaN"
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if hasattr(value, "__dataclass_fields__"):
        return {name: plain(getattr(value, name)) for name in value.__dataclass_fields__}
    return value


def bare(run: Run) -> Any:
    """What of a run can be the same in two workspaces."""
    ended = run.end_time_ms if run.end_time_ms in (None, 12345) else 1
    return plain(replace(run, id="", experiment_id="", artifact_uri="", start_time_ms=0, end_time_ms=ended))


def outcome(action: Any) -> Any:
    """What came back, or the kind and the words of the error without ids and addresses."""
    try:
        return plain(action())
    except AmlflowError as error:
        text = re.sub(r"[0-9a-f]{32}", "ID", error.paragraph())
        return type(error).__name__, re.sub(r"workspace '[^']*'", "workspace", text)


def made(workspace: Any, salt: str) -> tuple[str, list[str]]:
    """An experiment with runs that differ in all that a search can see; oldest first."""
    experiment = workspace.ensure_experiment(f"wine {salt}").id
    ids = []
    weird = [math.nan, math.inf, -math.inf, 0.0, -1.5, 1e-300]
    for number in range(6):
        run = workspace.create_run(
            experiment,
            f"run-{number}",
            {"mlflow.user": "me", "stage": "x" * number},
            {"alpha": str(number / 10), "kind": "a b" if number % 2 else "ünïcode"},
        )
        points = [Metric("weird", weird[number], 0, 1)]
        if number != 3:
            points += [Metric("rmse", number - step / 10, step, 100 - step) for step in (2, 0, 1)]
        workspace.log_batch(run.id, points)
        workspace.finish_run(run.id, "FAILED" if number == 4 else "FINISHED", 12345)
        ids.append(run.id)
        wait_for_the_next_millisecond(run)
    return experiment, ids


def wait_for_the_next_millisecond(run: Run) -> None:
    """Runs of one millisecond have no order of time, and ids order them."""
    import time

    while time.time_ns() // 1_000_000 <= (run.start_time_ms or 0):
        pass


def test_runs_are_read_and_sorted_the_same(both: list[Any], salt: str) -> None:
    orders = [("", False), ("params.alpha", True), ("tags.stage", False), ("attributes.start_time", False)]
    orders += [(key, down) for key in ("rmse", "metrics.weird", "metrics.nothing") for down in (False, True)]
    found = []
    for workspace in both:
        experiment, ids = made(workspace, salt)
        workspace.delete_run(ids[1])
        answers: list[Any] = []
        for lifecycle in ("active", "deleted", "all"):
            for key, down in orders:
                query = RunQuery([experiment], order_by=key, descending=down, lifecycle=lifecycle)  # type: ignore[arg-type]
                answers.append((lifecycle, key, down, [bare(run) for run in workspace.search_runs(query)]))
        answers.append([bare(r) for r in workspace.search_runs(RunQuery([experiment], order_by="rmse", limit=2))])
        answers.append([bare(r) for r in workspace.search_runs(RunQuery([experiment], with_data=False))])
        answers.append(bare(workspace.get_run(ids[0])))
        found.append(answers)
    assert found[0] == found[1]
    assert [run["name"] for run in found[1][4][3]] == ["run-0", "run-2", "run-4", "run-5", "run-3"]


def test_histories_are_the_same_for_one_run_and_for_many(both: list[Any], salt: str) -> None:
    found = []
    for workspace in both:
        _, ids = made(workspace, salt)
        asked = [(ids, ()), (ids, ["rmse", "nothing"]), (ids[:1], ()), (ids[3:4], ["rmse"]), (["0" * 32, ids[0]], ())]
        answers = []
        for run_ids, keys in asked:
            lines = workspace.metric_histories(run_ids, keys)
            answers.append(plain([lines.get(run_id, {}) for run_id in run_ids]))
        found.append(answers)
    assert found[0] == found[1]
    assert [point["step"] for point in found[1][0][0]["rmse"]] == [0, 1, 2]


FILTERS = [
    "metrics.rmse < 3 and params.alpha = '0.2'",
    "params.kind = 'ünïcode'",
    "tags.stage LIKE '%xx'",
    "status = 'FAILED'",
    "run_name ILIKE 'RUN-1'",
    "params.alpha IS NULL",
    "metrics.rmse",
    "metrics.rmse < 'a'",
    "nothing.x = 'a'",
    "status = 'open",
]


def test_a_filter_finds_or_is_refused_the_same(both: list[Any], salt: str) -> None:
    found = []
    for workspace in both:
        experiment, _ = made(workspace, salt)
        queries = {filter: RunQuery([experiment], filter=filter) for filter in FILTERS}
        found.append(
            {
                filter: outcome(lambda w=workspace, q=query: [run.name for run in w.search_runs(q)])
                for filter, query in queries.items()
            }
        )
    assert found[0] == found[1]
    assert [answer[:1] for answer in found[1].values()][-4:] == [("UsageError",)] * 4


def test_what_fails_fails_the_same(both: list[Any], salt: str) -> None:
    nothing = "0" * 32
    found = []
    for workspace in both:
        _, ids = made(workspace, salt)
        workspace.delete_run(ids[0])
        w = workspace
        many = {f"p{number}": "1" for number in range(150)}
        answers = [
            outcome(lambda w=w: w.get_run(nothing)),
            outcome(lambda w=w: w.log_batch(nothing, [Metric("m", 1.0, 0, 1)])),
            outcome(lambda w=w: w.finish_run(nothing, "FAILED")),
            outcome(lambda w=w: w.find_experiment(f"wine {salt}x").name)[1].partition(" or ")[0].partition("?")[0],
            outcome(lambda w=w: w.create_run("987654", "x", {}, {})),
            outcome(lambda w=w, i=ids: w.log_batch(i[0], params={"new": "1"})),
            outcome(lambda w=w, i=ids: w.log_batch(i[1], [Metric("m", 1.0, 0, 1)], {"alpha": "9"}, {"t": "v"})),
            outcome(lambda w=w, i=ids, m=many: w.log_batch(i[1], (), {**m, "alpha": "9"})),
            # Both are no errors: what was asked for is so already.
            outcome(lambda w=w, i=ids: w.delete_run(i[0])),
            outcome(lambda w=w, i=ids: w.restore_run(i[1])),
            outcome(lambda w=w: w.find_run_ids("%")),
            outcome(lambda w=w: w.find_run_ids(f"o'neil {salt}")),
            outcome(lambda w=w: w.get_model(f"m-{salt}").name),
            outcome(lambda w=w: w.get_model_version(f"m-{salt}", "1").name),
            outcome(lambda w=w: w.list_model_versions(f"m-{salt}")),
            outcome(lambda w=w, i=ids: w.list_artifacts(i[1], "../..")),
            outcome(lambda w=w, i=ids: w.list_artifacts(i[1], "nothing")),
            outcome(lambda w=w, i=ids: bare(w.get_run(i[1]))),
        ]
        found.append([(number, answer) for number, answer in enumerate(answers)])
        assert workspace.get_run(ids[1]).params.keys() == {"alpha", "kind"}
        assert "m" not in workspace.get_run(ids[1]).metrics
    assert found[0] == found[1]


def test_a_run_is_found_by_the_start_of_its_id_and_by_its_name(both: list[Any], salt: str) -> None:
    for workspace in both:
        _, ids = made(workspace, salt)
        named = workspace.create_run("0", f"o'neil {salt}", {}, {}).id
        assert workspace.find_run_ids(ids[2][:12]) == [ids[2]]
        assert workspace.find_run_ids(f"o'neil {salt}") == [named]
        assert set(ids) & set(workspace.find_run_ids("run-2", limit=1000)) == {ids[2]}
        workspace.delete_run(named)
        assert workspace.find_run_ids(f"o'neil {salt}") == []


def test_a_run_that_failed_stays_so(both: list[Any], salt: str) -> None:
    for workspace in both:
        run = workspace.create_run(workspace.ensure_experiment(f"e {salt}").id, "", {}, {})
        assert run.name
        assert run.status == "RUNNING"
        assert run.end_time_ms is None
        workspace.finish_run(run.id, "KILLED", 5)
        workspace.finish_run(run.id, "FINISHED", 6)
        assert (workspace.get_run(run.id).status, workspace.get_run(run.id).end_time_ms) == ("KILLED", 6)


def test_more_than_a_request_holds_is_logged_whole(both: list[Any], salt: str) -> None:
    server = both[1]
    run = server.create_run(server.ensure_experiment(f"big {salt}").id, "big", {}, {})
    points = [Metric(f"m{step % 3}", step / 7, step, step) for step in range(2500)]
    params = {f"p{number}": str(number) for number in range(230)}
    server.log_batch(run.id, points, params, {f"t{number}": "v" for number in range(120)})
    kept = server.get_run(run.id)
    assert kept.params == params
    assert sum(key.startswith("t") for key in kept.tags) == 120
    lines = server.metric_histories([run.id])[run.id]
    assert sorted(point.step for line in lines.values() for point in line) == list(range(2500))


def test_artifacts_are_kept_and_come_back_the_same(both: list[Any], salt: str, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "deep" / "er").mkdir(parents=True)
    (source / "a file ü.txt").write_text("hello")
    (source / "deep" / "er" / "big.bin").write_bytes(bytes(range(256)) * 5000)
    (source / "deep" / "empty").write_text("")
    found = []
    for number, workspace in enumerate(both):
        run = workspace.create_run(workspace.ensure_experiment(f"a {salt}").id, "x", {}, {})
        w, i = workspace, run.id
        workspace.log_artifact(i, source / "a file ü.txt")
        workspace.log_artifact(i, source, "kept")
        out = tmp_path / f"out-{number}"
        answers = [
            outcome(lambda w=w, i=i, p=path: w.list_artifacts(i, p)) for path in ("", "kept", "kept/source/deep")
        ]
        answers.append(outcome(lambda w=w, i=i: w.list_artifacts(i, "a file ü.txt")))
        for path in ("", "kept/source/deep", "a file ü.txt", "kept/nothing", "../x"):
            to = out / (path or "all").replace("/", "_")
            answers.append(
                outcome(lambda w=w, i=i, p=path, t=to, o=out: str(w.download_artifacts(i, p, t).relative_to(o)))
            )
        answers.append(outcome(lambda w=w, i=i: w.log_artifact(i, source / "a file ü.txt", "../up")))
        answers.append(
            {str(path.relative_to(out)): path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()}
        )
        found.append(answers)
    assert found[0] == found[1]
    assert len(found[1][-1]) == 7


def test_models_are_the_same(both: list[Any], salt: str, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    (folder / "data").mkdir(parents=True)
    (folder / "MLmodel").write_text(MLMODEL)
    (folder / "data" / "weights").write_bytes(b"123")
    name = f"wine-{salt}"
    found = []
    for workspace in both:
        run = workspace.create_run(workspace.ensure_experiment(f"m {salt}").id, "x", {}, {})
        workspace.log_artifact(run.id, folder)
        assert [model.name for model in workspace.logged_models(run.id)] == ["model"]
        for _ in range(3):
            workspace.create_model_version(name, f"runs:/{run.id}/model", run.id, "about", {"a": "b"})
        workspace.set_alias(name, "champion", "1")
        workspace.set_alias(name, "champion", "2")
        workspace.set_alias(name, "old", "1")
        workspace.set_alias(name, "gone", "1")
        workspace.delete_alias(name, "gone")
        workspace.delete_model(name, "3")
        copied = workspace.create_model_version(f"copy-{salt}", f"models:/{name}/2", run.id, "", {})
        versions = [*workspace.list_model_versions(name), workspace.get_model_version(name, "1"), copied]
        for version in versions:
            assert (workspace.fetch(version.location) / "data" / "weights").read_bytes() == b"123"
            assert version.run_id == run.id
        models = [model for model in workspace.list_models() if salt in model.name]
        assert models[1] == workspace.get_model(name)
        workspace.delete_model(f"copy-{salt}")
        found.append(
            plain(
                [
                    [replace(v, run_id="", source="", location="", created_ms=0, updated_ms=0) for v in versions],
                    [replace(model, created_ms=0, updated_ms=0) for model in models],
                    [model.name for model in workspace.list_models() if salt in model.name],
                ]
            )
        )
    assert found[0] == found[1]
    assert found[1][1][1]["aliases"] == {"champion": "2", "old": "1"}


def test_a_model_that_is_refused_leaves_no_name_behind(both: list[Any], salt: str) -> None:
    server = both[1]
    with pytest.raises(UsageError, match="source"):
        server.create_model_version(f"bad-{salt}", "/no/such/folder", "", "", {})
    with pytest.raises(NotFound):
        server.get_model(f"bad-{salt}")
