"""`amlflow compare` over several workspaces, and what other commands say to them."""

from __future__ import annotations

import re
import shutil
from typing import Any

from azure_workspaces import send_all
from compared import NOW, Maker, compare

from amlflow.workspaces.base import Metric
from amlflow.workspaces.local.workspace import LocalWorkspace


def test_runs_of_several_workspaces_stand_side_by_side(amlflow: Any, make: Maker) -> None:
    first = make("first", "a", rmse=0.5)
    second = make("second", "b", rmse=0.4)
    both = ("-w", "local:./a", "-w", "local:./b", "compare")
    document = amlflow.ok(*both, "-e", "wine", "--sort", "rmse", "-o", "json").json
    assert [(run["run_id"], run["workspace"], run["name"]) for run in document["runs"]] == [
        (f"local:./b::{second}", "b", "second"),
        (f"local:./a::{first}", "a", "first"),
    ]
    shown = amlflow.ok(*both, "first", "second", "-o", "table").out
    assert re.search(r"^workspace +a +b", shown, re.MULTILINE)
    # The ids of the document are references themselves.
    again = amlflow.ok("compare", *(run["run_id"] for run in document["runs"]), "-o", "json").json
    assert [run["name"] for run in again["runs"]] == ["second", "first"]
    named = amlflow.ok("-w", "local:./a", "compare", "first", "local:./b::second", "-o", "json").json
    assert [run["workspace"] for run in named["runs"]] == ["a", "b"]
    gate = amlflow(*both, "-e", "wine", "--baseline", "local:./b::second", "--fail-if", "rmse > baseline")
    assert gate.code == 6
    assert f"run 'first' (local:./a::{first})" in gate.err
    assert amlflow.ok(*both, "-e", "wine", "--top", "1", "--sort", "rmse", "--query", "runs[].name").out == "second\n"


def test_a_local_run_beside_one_of_a_server(amlflow: Any, make: Maker, mlflow_server: str) -> None:
    from amlflow.workspaces.server.workspace import ServerWorkspace

    server = ServerWorkspace(mlflow_server)
    remote = server.create_run(server.ensure_experiment("side-by-side").id, "remote", {}, {"lr": "1"}).id
    server.log_batch(remote, [Metric("rmse", value, step, NOW) for step, value in enumerate((0.5, 0.3))])
    server.finish_run(remote, "FINISHED")
    make("near", "a", "side-by-side", {"lr": "2"}, rmse=[0.9, 0.4])
    gate = ("--baseline", f"{mlflow_server}::remote", "--fail-if", "rmse > baseline", "--history", "rmse")
    result = compare(amlflow, "near", *gate, "-o", "json")
    assert result.code == 6, result.err
    assert [run["run_id"].rpartition("::")[0] for run in result.json["runs"]] == [mlflow_server, "local:./a"]
    assert [run["histories"]["rmse"]["values"] for run in result.json["runs"]] == [[0.5, 0.3], [0.9, 0.4]]
    both = amlflow.ok(
        "-w", "local:./a", "-w", mlflow_server, "compare", "-e", "side-by-side", "--sort", "rmse", "--plot", "rmse"
    ).out
    assert both.index("remote") < both.index("near")
    assert "::remote: last 0.3, 2 values" in both


def test_a_local_run_beside_one_of_azure(amlflow: Any, azure: Any, make: Maker) -> None:
    where = "/".join(azure.scope)
    amlflow.ok(
        *("-w", where, "track", "-e", "beside", "--run-name", "cloud", "--"),
        *(amlflow.command[0], "log", "metric", "rmse=0.3"),
    )
    send_all(amlflow)
    make("near", "a", "beside", rmse=0.4)
    document = amlflow.ok(
        "-w", "local:./a", "-w", where, "compare", "-e", "beside", "--sort", "rmse", "-o", "json"
    ).json
    assert [(run["name"], run["metrics"]) for run in document["runs"]] == [
        ("cloud", {"rmse": 0.3}),
        ("near", {"rmse": 0.4}),
    ]
    gate = compare(amlflow, "near", "--baseline", f"{where}::best:-rmse", "--fail-if", "rmse > baseline * 1.1")
    assert gate.code == 6
    assert "(rmse = 0.4, baseline.rmse = 0.3)" in gate.err


def test_the_same_run_in_two_workspaces_is_two_runs(amlflow: Any, make: Maker) -> None:
    run_id = make("copied", "a", loss=[3.0, 2.0, 1.0])
    shutil.copytree(amlflow.cwd / "a", amlflow.cwd / "b")
    LocalWorkspace(amlflow.cwd / "b", "b").log_batch(run_id, [Metric("loss", 7.0, 3, NOW)])
    both = ("-w", "local:./a", "-w", "local:./b", "compare")
    document = amlflow.ok(*both, run_id, "--history", "loss", "-o", "json").json
    assert [run["histories"]["loss"]["values"] for run in document["runs"]] == [[3.0, 2.0, 1.0], [3.0, 2.0, 1.0, 7.0]]
    unclear = amlflow(*both, run_id, "--baseline", "copied")
    assert unclear.code == 2
    assert f"Write local:./a::{run_id} or local:./b::{run_id}." in unclear.err


def test_what_one_of_several_workspaces_lacks_is_told(amlflow: Any, make: Maker) -> None:
    make("one", "a", rmse=1.0)
    make("two", "b", experiment="other", rmse=1.0)
    both = ("-w", "local:./a", "-w", "local:./b", "compare")
    result = amlflow.ok(*both, "-e", "wine", "--query", "runs[].name")
    assert result.out == "one\n"
    assert "The workspace 'b' has no experiment 'wine'." in result.err
    assert amlflow(*both, "-e", "nothing").code == 3
    # One workspace that is named twice is one.
    twice = amlflow.ok("-w", "local:./a", "-w", "local:./a", "compare", "-e", "wine", "-o", "json").json
    assert "workspace" not in twice["runs"][0]


def test_a_run_of_another_workspace_is_shown_with_that_workspace(amlflow: Any) -> None:
    result = amlflow("run", "show", "prod::last")
    assert result.code == 3
    assert "say `-w prod` and 'last'" in result.err


def test_other_commands_refuse_several_workspaces(amlflow: Any, make: Maker) -> None:
    make("one", "a", rmse=1.0)
    for arguments in (
        ["run", "list"],
        ["run", "delete", "one"],
        ["track", "true"],
        ["model", "list"],
        ["workspace", "show"],
    ):
        for command in (
            ["-w", "local:./a", "-w", "local:./b", *arguments],
            [*arguments[:2], "-w", "x", "-w", "y", *arguments[2:]],
        ):
            if command[0] == "track":
                continue
            result = amlflow(*command)
            assert result.code == 2, command
            assert "works in one workspace, and -w names 2" in result.err
            assert result.out == ""
    assert amlflow.ok("-w", "local:./nowhere", "run", "list", "-w", "local:./a", "-q").out.strip()


def test_names_win_over_ids_and_over_other_experiments(amlflow: Any, make: Maker) -> None:
    other = make("other", rmse=0.9)
    name = other[:3]
    here = make(name, experiment="top", rmse=0.5)
    make(name, experiment="elsewhere", rmse=0.7)
    assert compare(amlflow, name, "-e", "top", "-q").out == f"{here}\n"
    assert amlflow.ok("-w", "local:./a", "run", "show", name, "-e", "top", "-q").out == f"{here}\n"
    two = compare(amlflow, name)
    assert two.code == 2
    assert f"{name!r} fits 2 runs or more" in two.err
    store = LocalWorkspace(amlflow.cwd / "a", "a")
    store.delete_run(here)
    store.delete_run(other)
    assert amlflow.ok("-w", "local:./a", "run", "restore", name, "-q").out == f"{here}\n"


def test_a_name_may_have_the_sign_of_a_workspace(amlflow: Any, make: Maker) -> None:
    run_id = make("a::b", rmse=0.5)
    assert amlflow.ok("compare", "local:./a::a::b", "-q").out == f"{run_id}\n"
    # So may a folder, where -w has named it before.
    one = make("one", "c::d", rmse=0.4)
    assert amlflow.ok("compare", f"local:./c::d::{one}", "-q").out == f"{one}\n"
    both = ("-w", "local:./a", "-w", "local:./c::d", "compare", "-e", "wine", "--watch", "--sort", "rmse")
    assert amlflow.ok(*both, "--query", "runs[].name").out == "one\na::b\n"
