"""What every command shares: help, laziness, output, exit codes, defaults, completion."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from servers import free_port, wait_for

from amlflow.journal.rest import RestServer

HEAVY = ("mlflow", "azure", "pandas", "numpy", "httpx", "requests", "sqlalchemy", "pydantic", "sklearn")
COMPLETIONS = Path(__file__).parent.parent.parent / "completions"


def imported(amlflow: Any, arguments: list[str], **env: str) -> set[str]:
    """The top-level modules that the command imports."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "amlflow", *arguments],
        env={**amlflow.env, **env},
        cwd=amlflow.cwd,
        capture_output=True,
        text=True,
    )
    lines = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    return {line.rsplit("|", 1)[1].strip().split(".")[0] for line in lines}


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["--version"],
        ["--no-such-option"],
        ["no-such-command"],
        ["track", "--no-such-option"],
        ["run", "--help"],
        ["run", "list", "--help"],
        ["compare", "--help"],
        ["deploy", "--help"],
        ["workspace", "show"],
    ],
)
def test_help_and_usage_errors_import_nothing_heavy(amlflow: Any, arguments: list[str]) -> None:
    found = imported(amlflow, arguments)
    assert "typer" in found
    assert not found.intersection(HEAVY) - ({"pydantic"} if "--help" in arguments and len(arguments) > 1 else set())


def test_a_fault_that_is_none_is_a_usage_error(amlflow: Any) -> None:
    wrong = amlflow("emulator", "fault", "nonsense")
    assert (wrong.code, "'nonsense' is not a fault" in wrong.err) == (2, True)


def test_reading_commands_import_nothing_heavy(amlflow: Any) -> None:
    amlflow.ok("track", "-e", "wine", "--", "true")
    for arguments in (
        ["run", "list", "-o", "json"],
        ["run", "show"],
        ["compare", "-e", "wine"],
        ["model", "list"],
        ["endpoint", "list"],
        ["log", "metric", "a=1"],
    ):
        assert not imported(amlflow, arguments).intersection(HEAVY), arguments


@pytest.mark.parametrize("words", ["amlflow ", "amlflow r", "amlflow run ", "amlflow run show ", "amlflow compare -e "])
def test_completion_imports_nothing_heavy(amlflow: Any, words: str) -> None:
    amlflow.ok("track", "-e", "wine", "--", "true")
    cword = str(len(words.split()) if words.endswith(" ") else len(words.split()) - 1)
    found = imported(amlflow, [], _AMLFLOW_COMPLETE="complete_bash", COMP_WORDS=words, COMP_CWORD=cword)
    assert not found.intersection(set(HEAVY) - {"pydantic"})


def test_help_shows_the_verbs_first(amlflow: Any) -> None:
    shown = amlflow.ok("--help").out
    places = [
        shown.index(f" {name} ") for name in ("track", "run-project", "register", "deploy", "compare", "log", "run")
    ]
    assert places == sorted(places)
    assert shown.index("Verbs") < shown.index("Nouns")


def test_a_misspelling_offers_the_nearest(amlflow: Any) -> None:
    result = amlflow("trak")
    assert result.code == 2
    assert "Did you mean 'track'" in result.err
    assert amlflow("run", "lst").code == 2
    assert amlflow("run", "list", "--limt", "3").code == 2
    assert result.out == ""


def test_global_options_stand_in_either_place(amlflow: Any) -> None:
    amlflow.ok("-w", "local:./ws", "track", "--run-name", "one", "--", "true")
    before = amlflow.ok("-w", "local:./ws", "-o", "json", "run", "list").json
    after = amlflow.ok("run", "list", "-o", "json", "-w", "local:./ws").json
    assert before == after
    assert [run["name"] for run in after] == ["one"]


def test_options_after_the_command_of_track_are_the_programs(amlflow: Any) -> None:
    script = "import json, sys; print(json.dumps(sys.argv[1:]))"
    result = amlflow.ok("track", sys.executable, "-c", script, "-o", "json", "-v", "--help")
    assert json.loads(result.out) == ["-o", "json", "-v", "--help"]


def test_every_output_format(amlflow: Any) -> None:
    amlflow.ok("track", "--run-name", "one", "--tag", "tab=a\tb", "--", "true")
    (record,) = amlflow.ok("run", "list", "-o", "json").json
    assert amlflow.ok("run", "list").out.split("\t")[1] == "one"
    assert "RUN" in amlflow.ok("run", "list", "-o", "table").out
    import yaml

    assert yaml.safe_load(amlflow.ok("run", "list", "-o", "yaml").out) == [record]
    assert amlflow.ok("run", "list", "-q").out == record["run_id"] + "\n"
    assert amlflow.ok("run", "list", "--query", "[].name").out == "one\n"
    assert amlflow.ok("run", "list", "--query", "[0].{a: name, b: status}", "-o", "json").json == {
        "a": "one",
        "b": "FINISHED",
    }
    assert "a\\tb" in amlflow.ok("run", "show", "one").out
    bad = amlflow("run", "list", "--query", "[")
    assert bad.code == 2
    assert "not a JMESPath expression" in bad.err


def test_a_closed_pipe_is_no_error(amlflow: Any) -> None:
    amlflow.ok("track", "--", "true")
    script = f"{amlflow.command[0]} run show -o json | true"
    done = subprocess.run(["bash", "-c", script], env=amlflow.env, cwd=amlflow.cwd, capture_output=True, text=True)
    assert done.stderr == ""


def test_nan_is_strict_json(amlflow: Any) -> None:
    amlflow.ok("track", "--", "true")
    amlflow.ok("log", "metric", "a=nan", "b=inf", "c=-inf")
    assert amlflow.ok("run", "show", "-o", "json").json["metrics"] == {"a": "NaN", "b": "Infinity", "c": "-Infinity"}


def test_defaults_from_the_file(amlflow: Any) -> None:
    (amlflow.cwd / "amlflow.yaml").write_text(
        "workspace: dev\nprofiles: {dev: {workspace: 'local:./dev', defaults: {track: {run-name: from-profile}}}}\n"
        "defaults: {track: {experiment: wine, tag: [a=b]}, run: {list: {limit: 1}}}\n"
    )
    amlflow.ok("track", "--", "true")
    amlflow.ok("track", "--run-name", "given", "--", "true")
    (run,) = amlflow.ok("run", "list", "-o", "json").json
    assert (run["name"], run["experiment"], run["tags"]["a"]) == ("given", "wine", "b")
    assert [r["name"] for r in amlflow.ok("run", "list", "-n", "5", "-o", "json").json] == ["given", "from-profile"]
    assert (amlflow.cwd / "dev/mlflow.db").exists()
    amlflow.ok("-w", "local", "track", "--", "true")
    assert amlflow.ok("-w", "local", "run", "show", "-o", "json").json["name"] != "from-profile"
    amlflow.ok("track", "--", "true", AMLFLOW_WORKSPACE="dev")
    assert amlflow.ok("run", "show", "-o", "json").json["name"] == "from-profile"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("worksapce: local\n", "Did you mean 'workspace'"),
        ("defaults: {trak: {}}\n", "Did you mean 'track'"),
        ("profiles: {p: {workspace: local, defaults: {trak: {}}}}\n", "Did you mean 'track'"),
        ("defaults: {track: {experimnt: x}}\n", "Did you mean 'experiment'"),
        ("defaults: {track: 3}\n", "must be a mapping"),
        ("workspace: nowhere\n", "There is no workspace 'nowhere'"),
    ],
)
def test_a_wrong_file_is_said(amlflow: Any, text: str, said: str) -> None:
    (amlflow.cwd / "amlflow.yaml").write_text(text)
    result = amlflow("track", "--", "true")
    assert result.code in (2, 3)
    assert said in result.err


def test_workspaces_are_made_listed_and_used(amlflow: Any) -> None:
    shown = amlflow.ok("workspace", "show", "-o", "json").json
    assert (shown["name"], shown["kind"], shown["source"], shown["exists"]) == ("local", "local", "the default", False)
    amlflow.ok("workspace", "create", "second")
    assert amlflow("workspace", "create", "second").code == 1
    (amlflow.cwd / "amlflow.yaml").write_text("# a comment that stays\noutput: tsv\n")
    amlflow.ok("workspace", "create", "third", "--path", "third-folder")
    amlflow.ok("workspace", "use", "third")
    text = (amlflow.cwd / "amlflow.yaml").read_text()
    assert "# a comment that stays" in text
    shown = amlflow.ok("workspace", "show", "-o", "json").json
    assert shown["where"] == str(amlflow.cwd / "third-folder")
    assert shown["source"] == f"'workspace:' in {amlflow.cwd / 'amlflow.yaml'}"
    listed = {item["name"]: item["current"] for item in amlflow.ok("workspace", "list", "-o", "json").json}
    assert listed == {"local": False, "second": False, "third": True}
    assert amlflow("workspace", "use", "nowhere").code == 3
    made = amlflow.ok("workspace", "create", "prod", "--to", "s/g/w", "-o", "json").json
    assert made == {"name": "prod", "kind": "azure", "where": "s/g/w"}
    assert amlflow.ok("-w", "prod", "workspace", "show", "-o", "json").json["where"] == "s/g/w"
    assert amlflow("workspace", "create", "prod", "--to", "s/g/x").code == 1
    assert amlflow("workspace", "create", "other", "--to", "nowhere").code == 3
    refused = amlflow("-w", "s/g/w", "--auth", "sp", "run", "list")
    assert refused.code == 4
    assert "AZURE_TENANT_ID, AZURE_CLIENT_ID" in refused.err
    assert amlflow.ok("-w", "s/g/w", "workspace", "show", "-o", "json").json["kind"] == "azure"


def test_an_error_shows_its_traceback_only_when_asked(amlflow: Any) -> None:
    assert "Traceback" not in amlflow("run", "show", "nothing").err
    assert "Traceback" in amlflow("run", "show", "nothing", "-v").err


def test_ci_gets_an_annotation(amlflow: Any) -> None:
    assert "::error title=amlflow::There is no" in amlflow("run", "show", "nothing", GITHUB_ACTIONS="true").err
    assert "##vso[task.logissue type=error]" in amlflow("run", "show", "nothing", TF_BUILD="True").err


def test_the_generated_completions_are_current() -> None:
    subprocess.run([sys.executable, str(COMPLETIONS / "generate.py"), "--check"], check=True)


def complete_in_bash(amlflow: Any, words: list[str]) -> list[str]:
    script = (
        f"source {COMPLETIONS / 'amlflow.bash'}\n"
        f"COMP_WORDS=({' '.join(repr(word) for word in words)})\nCOMP_CWORD={len(words) - 1}\n"
        '_amlflow_completion amlflow\nprintf "%s\\n" "${COMPREPLY[@]}"\n'
    )
    path = f"{Path(sys.executable).parent}:{amlflow.env['PATH']}"
    done = subprocess.run(
        ["bash", "-c", script], env={**amlflow.env, "PATH": path}, cwd=amlflow.cwd, capture_output=True, text=True
    )
    assert done.stderr == ""
    return done.stdout.split()


def test_bash_completes_commands_and_names(amlflow: Any) -> None:
    amlflow.ok("track", "-e", "wine", "--run-name", "merry-run", "--", "true")
    assert complete_in_bash(amlflow, ["amlflow", "re"]) == ["register"]
    assert complete_in_bash(amlflow, ["amlflow", "run", "l"]) == ["list"]
    assert complete_in_bash(amlflow, ["amlflow", "run", "show", "merr"]) == ["merry-run"]
    assert complete_in_bash(amlflow, ["amlflow", "compare", "--experiment", "w"]) == ["wine"]
    assert complete_in_bash(amlflow, ["amlflow", "-w", "lo"]) == ["local"]
    assert complete_in_bash(amlflow, ["amlflow", "endpoint", "show", ""]) == []
    assert "--experiment" in complete_in_bash(amlflow, ["amlflow", "compare", "--ex"])
    assert complete_in_bash(amlflow, ["amlflow", "-w", "local:./b", "compare", "local::merr"]) == ["local::merry-run"]
    assert complete_in_bash(amlflow, ["amlflow", "-w", "local:./b", "compare", "loc"]) == ["local::"]
    assert complete_in_bash(amlflow, ["amlflow", "compare", "nowhere::merr"]) == []
    (Path(amlflow.env["AMLFLOW_HOME"]) / "workspaces/local/mlflow.db").write_bytes(b"damaged")
    assert complete_in_bash(amlflow, ["amlflow", "run", "show", "merr"]) == []


@pytest.mark.skipif(shutil.which("zsh") is None, reason="zsh is not installed")
def test_zsh_completes_for_real(amlflow: Any) -> None:
    import pexpect

    amlflow.ok("track", "-e", "wine", "--run-name", "merry-run", "--", "true")
    functions = amlflow.cwd / "functions"
    functions.mkdir()
    shutil.copy(COMPLETIONS / "_amlflow", functions)
    path = f"{Path(sys.executable).parent}:{amlflow.env['PATH']}"
    env = {**amlflow.env, "PATH": path, "TERM": "dumb", "PS1": "%% ", "ZDOTDIR": str(amlflow.cwd)}
    shell = pexpect.spawn("zsh", ["-f", "-i"], env=env, cwd=str(amlflow.cwd), encoding="utf-8", timeout=30)
    shell.sendline(
        f"fpath=({functions} $fpath); autoload -Uz compinit; compinit -u; source {functions}/_amlflow; echo rea''dy"
    )
    shell.expect("ready")
    shell.send("amlflow run show merr\t")
    shell.expect("merry-run")
    shell.sendintr()
    # The line editor is ready again; what is typed before would be taken for part of the interrupted line.
    shell.expect_exact("\x1b[?2004h")
    shell.send("amlflow regis\t")
    shell.expect("register")
    shell.close(force=True)


def test_python_m_amlflow_is_the_same_command(amlflow: Any) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "amlflow", "--version"], env=amlflow.env, capture_output=True, text=True
    )
    assert done.stdout == amlflow.ok("--version").out


def test_the_ui_of_a_new_workspace_leaves_artifacts_where_programs_reach_them(amlflow: Any) -> None:
    port, log = free_port(), amlflow.cwd / "ui.log"
    ui = subprocess.Popen(
        [sys.executable, "-m", "amlflow", "ui", "--port", str(port)],
        cwd=amlflow.cwd,
        env=amlflow.env,
        stdout=log.open("wb"),
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        rest = RestServer(f"http://127.0.0.1:{port}")
        wait_for(f"http://127.0.0.1:{port}", ui, log)
        made = rest.request("POST", "/api/2.0/mlflow/experiments/create", {"name": "by-ui"})["experiment_id"]
        found = rest.request("GET", "/api/2.0/mlflow/experiments/get", {"experiment_id": made})["experiment"]
        assert found["artifact_location"].startswith(amlflow.env["AMLFLOW_HOME"])
    finally:
        os.killpg(ui.pid, signal.SIGKILL)
        ui.wait()
    (amlflow.cwd / "note.txt").write_text("kept")
    amlflow.ok("track", "--", sys.executable, "-c", "import mlflow; mlflow.log_artifact('note.txt')")
    (run,) = amlflow.ok("run", "list", "-o", "json").json
    assert (Path(amlflow.ok("run", "show", "-o", "json").json["artifact_uri"]) / "note.txt").is_file(), run


def test_a_metric_to_sort_by_that_no_run_has_is_said(amlflow: Any) -> None:
    amlflow.ok("track", "-e", "wine", "--", "true")
    amlflow.ok("log", "metric", "rmse=1")
    wrong = amlflow("compare", "-e", "wine", "--sort", "-rsme")
    assert wrong.code == 3
    assert "Did you mean 'rmse'?" in wrong.err
    amlflow.ok("compare", "-e", "wine", "--sort", "-rmse")
