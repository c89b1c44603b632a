"""`amlflow track` and `amlflow log`, as a shell uses them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

PY = sys.executable


def runs(amlflow: Any) -> list[dict[str, Any]]:
    return amlflow.ok("run", "list", "-o", "json").json


def wait_until(condition: Any, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def test_a_command_becomes_a_run_with_its_output(amlflow: Any) -> None:
    script = "import sys; print('to out'); print('to err', file=sys.stderr)"
    result = amlflow.ok("track", "-e", "wine", "--run-name", "first", "--tag", "a=b", "--", PY, "-c", script)
    assert result.out == "to out\n"
    assert "to err" in result.err
    (run,) = runs(amlflow)
    assert (run["name"], run["experiment"], run["status"], run["tags"]["a"]) == ("first", "wine", "FINISHED", "b")
    amlflow.ok("run", "download", "first", "--to", "got")
    assert (amlflow.cwd / "got/logs/stdout.log").read_text() == "to out\n"
    assert (amlflow.cwd / "got/logs/stderr.log").read_text() == "to err\n"


def test_the_child_finds_its_run_and_logs_into_it(amlflow: Any) -> None:
    script = (
        "import mlflow\n"
        "mlflow.log_param('alpha', 0.5)\n"
        "for step in range(5): mlflow.log_metric('loss', 1 / (step + 1), step=step)\n"
        "mlflow.log_text('hello', 'note.txt')\n"
    )
    amlflow.ok("track", "--", PY, "-W", "ignore", "-c", script)
    shown = amlflow.ok("run", "show", "last", "--history", "loss", "-o", "json").json
    assert (shown["params"], shown["metrics"], shown["status"]) == ({"alpha": "0.5"}, {"loss": 0.2}, "FINISHED")
    assert [point["value"] for point in shown["histories"]["loss"]] == [1.0, 0.5, 1 / 3, 0.25, 0.2]
    assert "note.txt" in [item["path"] for item in shown["artifacts"]]


def test_shell_steps_log_into_the_run_that_they_are_in(amlflow: Any) -> None:
    me = amlflow.command[0]
    script = f"""
    set -e
    {me} log metric rmse=0.5 mae=0.25 --step 3
    {me} log metric auc -1e-3
    {me} log param alpha 0.1
    {me} log tag stage=nightly
    echo report > report.txt
    mkdir -p more/deep && echo x > more/deep/x.txt
    {me} log artifact report.txt --to reports
    {me} log artifact more
    """
    amlflow.ok("track", "--", "bash", "-c", script)
    shown = amlflow.ok("run", "show", "last", "-o", "json").json
    assert shown["metrics"] == {"rmse": 0.5, "mae": 0.25, "auc": -0.001}
    assert shown["params"] == {"alpha": "0.1"}
    assert shown["tags"]["stage"] == "nightly"
    assert {"reports/report.txt", "more/deep/x.txt"} <= {item["path"] for item in shown["artifacts"]}


def test_bad_values_for_log_are_refused(amlflow: Any) -> None:
    assert amlflow("log", "metric", "rmse=1").code == 3
    amlflow.ok("track", "--", "true")
    refused = amlflow("log", "metric", "rmse=abc")
    assert refused.code == 2
    assert "a metric is a number" in refused.err
    assert amlflow("log", "param", "alpha").code == 2
    amlflow.ok("log", "param", "alpha=1")
    again = amlflow("log", "param", "alpha=2")
    assert again.code == 2
    assert "is '1' and cannot become '2'" in again.err
    assert amlflow("log", "artifact", "none.txt").code == 3
    assert amlflow("log", "artifact", str(amlflow.cwd), "--to", "../out").code == 2


@pytest.mark.parametrize(
    ("script", "code", "status"),
    [
        ("raise SystemExit(7)", 7, "FAILED"),
        ("1/0", 1, "FAILED"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", 137, "KILLED"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", 139, "FAILED"),
        ("pass", 0, "FINISHED"),
    ],
)
def test_the_exit_code_and_status_are_the_programs_own(amlflow: Any, script: str, code: int, status: str) -> None:
    assert amlflow("track", "--", PY, "-c", script).code == code
    assert runs(amlflow)[0]["status"] == status


def test_a_program_that_is_not_there_leaves_a_failed_run(amlflow: Any) -> None:
    result = amlflow("track", "--", "no-such-program")
    assert result.code == 3
    assert "There is no program 'no-such-program'" in result.err
    assert [run["status"] for run in runs(amlflow)] == ["FAILED"]


def test_a_program_that_fills_stderr_goes_through(amlflow: Any) -> None:
    script = "import sys; sys.stderr.write('x' * 30_000_000); print('done')"
    result = amlflow.ok("track", "--", PY, "-c", script)
    assert result.out == "done\n"
    assert result.err.count("x") >= 30_000_000
    amlflow.ok("run", "download", "last", "logs/stderr.log")
    assert (amlflow.cwd / "logs/stderr.log").stat().st_size == 30_000_000


def test_a_daemon_that_keeps_the_pipe_open_is_not_waited_for(amlflow: Any) -> None:
    started = time.monotonic()
    amlflow.ok("track", "--", "bash", "-c", "sleep 60 & echo done")
    assert time.monotonic() - started < 30
    subprocess.run(["pkill", "-f", "^sleep 60$"], check=False)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_reaches_the_program_and_the_run_is_killed(amlflow: Any, number: int) -> None:
    script = (
        "import signal, sys, time\n"
        f"signal.signal({int(number)}, lambda *_: (print('got it', flush=True), sys.exit(3)))\n"
        "open('started', 'w').close()\n"
        "time.sleep(60)\n"
    )
    process = amlflow.start("track", "--", PY, "-c", script)
    wait_until((amlflow.cwd / "started").exists)
    process.send_signal(number)
    out, _ = process.communicate(timeout=30)
    assert out == b"got it\n"
    assert process.returncode == 3
    assert runs(amlflow)[0]["status"] == "KILLED"


def test_nohup_is_respected(amlflow: Any) -> None:
    script = "import time; open('started', 'w').close(); time.sleep(2); print('done')"
    process = subprocess.Popen(
        ["nohup", *amlflow.command, "track", "--", PY, "-c", script],
        env=amlflow.env,
        cwd=amlflow.cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    wait_until((amlflow.cwd / "started").exists)
    os.killpg(process.pid, signal.SIGHUP)
    out, _ = process.communicate(timeout=30)
    assert (process.returncode, out) == (0, b"done\n")
    assert runs(amlflow)[0]["status"] == "FINISHED"


def test_a_second_interrupt_ends_a_program_that_ignores_the_first(amlflow: Any) -> None:
    script = (
        "import signal, time\n"
        "signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "open('started', 'w').close()\n"
        "time.sleep(600)\n"
    )
    process = amlflow.start("track", "--", PY, "-c", script)
    wait_until((amlflow.cwd / "started").exists)
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert runs(amlflow)[0]["status"] == "KILLED"


def test_interrupting_at_any_moment_leaves_no_process_and_no_open_run(amlflow: Any) -> None:
    amlflow.ok("track", "--", "true")
    script = "import subprocess, sys, time; subprocess.Popen(['sleep', '777']); time.sleep(777)"
    for moment in (0.02, 0.08, 0.15, 0.2, 0.25, 0.3, 0.4, 0.6, 1.0):
        process = amlflow.start("track", "--", PY, "-c", script)
        time.sleep(moment)
        os.killpg(process.pid, signal.SIGINT)
        process.communicate(timeout=30)
    wait_until(lambda: not [p for p in psutil.process_iter(["cmdline"]) if p.info["cmdline"] == ["sleep", "777"]])
    assert {run["status"] for run in runs(amlflow)} <= {"FINISHED", "KILLED"}


def test_a_terminal_ctrl_c_reaches_the_program_once(amlflow: Any) -> None:
    import pexpect

    script = (
        "import signal, time\n"
        "count = 0\n"
        "def seen(*_):\n"
        "    global count\n"
        "    count += 1\n"
        "signal.signal(signal.SIGINT, seen)\n"
        "print('ready', flush=True)\n"
        "end = time.time() + 2\n"
        "while time.time() < end: time.sleep(0.05)\n"
        "print('count', count, flush=True)\n"
    )
    child = pexpect.spawn(
        amlflow.command[0],
        ["track", "--", PY, "-c", script],
        env=amlflow.env,
        cwd=amlflow.cwd,
        preexec_fn=amlflow.take_interrupts,
    )
    child.expect("ready", timeout=60)
    time.sleep(0.2)
    child.sendintr()
    child.expect(r"count (\d+)", timeout=30)
    assert child.match.group(1) == b"1"
    child.expect(pexpect.EOF, timeout=30)
    assert runs(amlflow)[0]["status"] == "KILLED"


def test_autologging_on_request(amlflow: Any) -> None:
    (amlflow.cwd / "train.py").write_text(
        "from sklearn.datasets import load_iris\n"
        "from sklearn.tree import DecisionTreeClassifier\n"
        "x, y = load_iris(return_X_y=True)\n"
        "DecisionTreeClassifier(max_depth=2).fit(x, y)\n"
    )
    amlflow.ok("track", "--autolog", "--", PY, "-W", "ignore", "train.py")
    shown = amlflow.ok("run", "show", "last", "-o", "json").json
    assert shown["params"]["max_depth"] == "2"
    assert "training_score" in shown["metrics"]
    assert len(runs(amlflow)) == 1


def test_a_program_that_sets_another_experiment_is_tracked_all_the_same(amlflow: Any) -> None:
    script = (
        "import mlflow\n"
        "mlflow.set_experiment('other')\n"
        "with mlflow.start_run(): mlflow.log_metric('a', 1)\n"
        "mlflow.set_experiment('other')\n"
        "with mlflow.start_run(run_name='second'): mlflow.log_metric('a', 2)\n"
    )
    result = amlflow.ok("track", "-e", "mine", "--run-name", "first", "--", PY, "-W", "ignore", "-c", script)
    assert "set_experiment('other') is overruled" in result.err
    found = {run["name"]: (run["experiment"], run["metrics"]["a"]) for run in runs(amlflow)}
    assert found == {"first": ("mine", 1.0), "second": ("other", 2.0)}


def test_a_programs_own_sitecustomize_still_runs(amlflow: Any) -> None:
    (amlflow.cwd / "own").mkdir()
    (amlflow.cwd / "own/sitecustomize.py").write_text("import builtins; builtins.seen = True")
    result = amlflow.ok("track", "--", PY, "-c", "print(seen)", PYTHONPATH=str(amlflow.cwd / "own"))
    assert result.out == "True\n"


def test_system_metrics_on_request(amlflow: Any) -> None:
    amlflow.ok("track", "--system-metrics", "--", "true")
    metrics = amlflow.ok("run", "show", "last", "-o", "json").json["metrics"]
    assert metrics["system/system_memory_usage_megabytes"] > 0
    assert 0 <= metrics["system/disk_usage_percentage"] <= 100


def test_a_run_within_a_run_is_its_child(amlflow: Any) -> None:
    amlflow.ok("track", "--run-name", "outer", "--", amlflow.command[0], "track", "--run-name", "inner", "--", "true")
    by_name = {run["name"]: run for run in runs(amlflow)}
    assert by_name["inner"]["tags"]["mlflow.parentRunId"] == by_name["outer"]["run_id"]


def test_sixteen_at_once_on_a_new_workspace_lose_nothing(amlflow: Any) -> None:
    processes = [amlflow.start("-w", "local:./shared", "track", "-e", f"e{n % 4}", "--", "true") for n in range(16)]
    ended = [(process.communicate(timeout=200)[1], process.returncode) for process in processes]
    assert [code for _, code in ended] == [0] * 16, ended
    found = amlflow.ok("-w", "local:./shared", "run", "list", "-o", "json").json
    assert len({run["run_id"] for run in found}) == 16
    assert {run["status"] for run in found} == {"FINISHED"}
    import sqlite3

    with sqlite3.connect(amlflow.cwd / "shared/mlflow.db") as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert db.execute("SELECT COUNT(*) FROM experiments").fetchone() == (5,)
    assert not [left for left in (amlflow.cwd / "shared").iterdir() if left.name.startswith(".mlflow-")]


def test_a_workspace_that_may_only_be_read_is_read(amlflow: Any, tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may write anywhere")
    amlflow.ok("-w", "local:./ro", "track", "--", "true")
    (amlflow.cwd / "ro").chmod(0o500)
    assert len(amlflow.ok("-w", "local:./ro", "run", "list", "-o", "json").json) == 1
    refused = amlflow("-w", "local:./ro", "track", "--", "true")
    assert refused.code == 1
    assert "may not be written to" in refused.err
