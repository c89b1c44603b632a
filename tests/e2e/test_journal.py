"""What is logged is never lost and never waited for: the journal, as a shell sees it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from servers import free_port, proxy, tracking_server

PY = sys.executable
LOG = "import mlflow\nfor step in range(50): mlflow.log_metric('loss', step, step=step)\nmlflow.log_text('x', 'note.txt')\n"


def wait_until(condition: Callable[[], Any], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.1)


def tracked(amlflow: Any, script: str, *options: str, **env: str) -> Any:
    return amlflow("track", *options, "--", PY, "-W", "ignore", "-c", script, **env)


def test_a_server_that_is_down_is_no_reason_to_stop(amlflow: Any, shared_cache: Path, tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    done = tracked(amlflow, LOG, "-w", url, "-e", "wine", "--run-name", "away")
    assert done.code == 0
    assert "amlflow sync" in done.err
    (waiting,) = amlflow.ok("-w", url, "sync", "status", "-o", "json").json
    assert (waiting["name"], waiting["size_bytes"] > 1000) == ("away", True)
    # A shell step logs into it all the same, by the id that the run has here.
    amlflow.ok("-w", url, "log", "metric", "rmse=0.5", "--run", waiting["run_id"])
    still = amlflow("-w", url, "sync", "--timeout", "1")
    assert still.code == 5
    assert "stay in the journal" in still.err
    with tracking_server(tmp_path, shared_cache) as real, proxy(real) as there:
        # The journal belongs to an address: the same server at another one is another workspace.
        assert amlflow.ok("-w", there, "sync", "status", "-o", "json").json == []
        moved = Path(amlflow.env["AMLFLOW_HOME"]) / "servers"
        state = next(folder for folder in moved.iterdir() if (folder / "journal/runs" / waiting["run_id"]).is_dir())
        amlflow.ok("-w", there, "track", "-e", "wine", "--", "true")
        (new,) = [folder for folder in moved.iterdir() if folder != state]
        (state / "journal/runs" / waiting["run_id"]).rename(new / "journal/runs" / waiting["run_id"])
        amlflow.ok("-w", there, "sync")
        shown = amlflow.ok("-w", there, "run", "show", waiting["run_id"], "--history", "loss", "-o", "json").json
        assert (shown["name"], shown["status"], shown["metrics"]["rmse"]) == ("away", "FINISHED", 0.5)
        assert [point["value"] for point in shown["histories"]["loss"]] == list(range(50))
        assert "note.txt" in {item["path"] for item in shown["artifacts"]}
        # The prefix and the name are the workspace's own; the id of the offline run is taken everywhere.
        amlflow.ok("-w", there, "compare", waiting["run_id"])
        amlflow.ok("-w", there, "run", "download", waiting["run_id"], "note.txt", "--to", "got")


def test_a_server_that_is_back_before_the_end_gets_the_run(amlflow: Any, mlflow_server: str, work: Path) -> None:
    with proxy(mlflow_server, back=work / "back") as url:
        done = tracked(amlflow, LOG + "open('back', 'w')", "-w", url, "-e", "back", "--run-name", "late")
        assert (done.code, "is kept on this machine" in done.err) == (0, True)
        assert "wait on this machine" not in done.err
        assert amlflow.ok("-w", url, "sync", "status", "-o", "json").json == []
        (run,) = amlflow.ok("-w", url, "run", "list", "-e", "back", "-o", "json").json
        assert (run["name"], run["status"]) == ("late", "FINISHED")


def test_a_server_that_accepts_and_never_answers_is_away(amlflow: Any) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(20)
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        done = tracked(amlflow, "import mlflow; mlflow.log_metric('a', 1)", "-w", url)
    assert done.code == 0
    assert "did not answer in time" in done.err
    assert len(amlflow.ok("-w", url, "sync", "status", "-o", "json").json) == 1


def test_sync_of_all_workspaces_and_nothing_twice(amlflow: Any, mlflow_server: str) -> None:
    experiment = f"all {uuid.uuid4().hex[:8]}"
    for where in ("local", mlflow_server):
        assert tracked(amlflow, LOG, "-w", where, "-e", experiment, "--offline").code == 0
    assert len(amlflow.ok("sync", "status", "--all", "-o", "json").json) == 2
    done = amlflow.ok("sync", "--all", "-o", "json").json
    assert sum(item["runs"] for item in done) == 2
    assert amlflow.ok("sync", "--all", "-o", "json").json == []
    for where in ("local", mlflow_server):
        (run,) = amlflow.ok("-w", where, "run", "list", "-e", experiment, "-o", "json").json
        assert (run["status"], run["metrics"]["loss"]) == ("FINISHED", 49.0)


def test_sync_watch_sends_what_comes(amlflow: Any, mlflow_server: str) -> None:
    experiment = f"watch {uuid.uuid4().hex[:8]}"
    watching = amlflow.start("-w", mlflow_server, "sync", "--watch")
    try:
        assert tracked(amlflow, LOG, "-w", mlflow_server, "-e", experiment, "--offline").code == 0
        wait_until(lambda: amlflow.ok("-w", mlflow_server, "sync", "status", "-o", "json").json == [])
    finally:
        watching.send_signal(signal.SIGINT)
        watching.communicate(timeout=60)
    assert watching.returncode == 130
    (run,) = amlflow.ok("-w", mlflow_server, "run", "list", "-e", experiment, "-o", "json").json
    assert run["metrics"]["loss"] == 49.0


def test_a_killed_track_and_its_killed_program_lose_nothing(amlflow: Any, mlflow_server: str) -> None:
    experiment = f"killed {uuid.uuid4().hex[:8]}"
    script = (
        "import mlflow, os, sys, time\n"
        "for step in range(200):\n"
        "    mlflow.log_metric('loss', step, step=step)\n"
        "print(os.getpid(), flush=True)\n"
        "time.sleep(300)\n"
    )
    track = amlflow.start("-w", mlflow_server, "track", "-e", experiment, "--", PY, "-W", "ignore", "-c", script)
    assert track.stdout is not None
    pid = int(track.stdout.readline())
    track.kill()
    track.wait()
    os.kill(pid, signal.SIGKILL)
    amlflow.ok("-w", mlflow_server, "sync")
    (run,) = amlflow.ok("-w", mlflow_server, "run", "list", "-e", experiment, "-o", "json").json
    shown = amlflow.ok("-w", mlflow_server, "run", "show", run["run_id"], "--history", "loss", "-o", "json").json
    assert [point["value"] for point in shown["histories"]["loss"]] == list(range(200))


@pytest.mark.parametrize("kind", ["local", "server"])
def test_any_program_logs_by_the_uri_alone(amlflow: Any, mlflow_server: str, kind: str) -> None:
    experiment = f"alone {uuid.uuid4().hex[:8]}"
    where = mlflow_server if kind == "server" else "local"
    script = f"import mlflow\nmlflow.set_experiment({experiment!r})\nmlflow.start_run()\n{LOG}"
    env = {**amlflow.env, "MLFLOW_TRACKING_URI": f"amlflow://{where}"}
    subprocess.run([PY, "-W", "ignore", "-c", script], env=env, cwd=amlflow.cwd, check=True, timeout=120)

    def arrived() -> bool:
        runs = amlflow("-w", where, "run", "list", "-e", experiment, "-o", "json")
        return runs.code == 0 and [run["status"] for run in runs.json] == ["FINISHED"]

    wait_until(arrived)
    (run,) = amlflow.ok("-w", where, "run", "list", "-e", experiment, "-o", "json").json
    assert run["metrics"]["loss"] == 49.0
    files = amlflow.ok("-w", where, "run", "show", run["run_id"], "-o", "json").json["artifacts"]
    assert [item["path"] for item in files] == ["note.txt"]


def test_workers_of_joblib_and_forks_log_into_the_run(amlflow: Any) -> None:
    script = (
        "import mlflow, os\n"
        "from joblib import Parallel, delayed\n"
        "run_id = os.environ['AMLFLOW_RUN']\n"
        "def work(n):\n"
        "    client = mlflow.MlflowClient()\n"
        "    for step in range(20): client.log_metric(run_id, f'w{n}', step, step=step)\n"
        "Parallel(n_jobs=2, backend='loky')(delayed(work)(n) for n in range(3))\n"
        "mlflow.log_metric('main', 1)\n"
        "if os.fork() == 0:\n"
        "    work(3)\n"
        "    os._exit(0)\n"
        "os.wait()\n"
    )
    done = tracked(amlflow, script)
    assert done.code == 0, done.err
    shown = amlflow.ok("run", "show", "last", "--history", "w0", "--history", "w3", "-o", "json").json
    assert {key: value for key, value in shown["metrics"].items() if key != "main"} == {f"w{n}": 19.0 for n in range(4)}
    assert [point["value"] for point in shown["histories"]["w3"]] == list(range(20))


def test_only_the_first_rank_logs_where_that_was_asked(amlflow: Any) -> None:
    script = (
        "import subprocess, sys, os\n"
        "code = \"import mlflow, os; mlflow.log_metric('rank', float(os.environ['RANK']));"
        " mlflow.log_text('x', os.environ['RANK'] + '.txt'); print(mlflow.active_run().info.run_id)\"\n"
        "for rank in ('0', '1', '2'):\n"
        "    subprocess.run([sys.executable, '-W', 'ignore', '-c', code], env={**os.environ, 'RANK': rank}, check=True)\n"
    )
    assert tracked(amlflow, script, "--rank-zero-only").code == 0
    shown = amlflow.ok("run", "show", "last", "--history", "rank", "-o", "json").json
    assert [point["value"] for point in shown["histories"]["rank"]] == [0.0]
    assert {item["path"] for item in shown["artifacts"]} == {"0.txt", "logs/stdout.log"}


AUTOLOG = """
import mlflow, numpy as np
mlflow.sklearn.autolog(serialization_format="cloudpickle")
from sklearn.linear_model import LinearRegression
from sklearn.preprocessing import FunctionTransformer
from sklearn.pipeline import make_pipeline
class Unpicklable(LinearRegression):
    def __reduce__(self):
        raise TypeError("this model cannot be written")
make = Unpicklable if {lost} else LinearRegression
make().fit(np.array([[1.0], [2.0]]), [1.0, 2.0])
"""


def test_autologging_keeps_its_model_on_a_server_without_logged_models(amlflow: Any, mlflow_server: str) -> None:
    with proxy(mlflow_server, missing=("/logged-models", "/runs/outputs")) as lacking:
        done = tracked(amlflow, AUTOLOG.format(lost=False), "-w", lacking, "--require-model")
        assert done.code == 0, done.err
        assert "NO MODEL" not in done.err
        run = amlflow.ok("-w", lacking, "run", "list", "-n", "1", "-o", "json").json[0]
        amlflow.ok("-w", lacking, "register", run["run_id"], "--name", f"auto-{uuid.uuid4().hex[:8]}")


def test_a_model_that_autologging_lost_is_said_aloud(amlflow: Any) -> None:
    done = tracked(amlflow, AUTOLOG.format(lost=True))
    assert done.code == 0
    assert "HAS NO MODEL" in done.err
    required = tracked(amlflow, AUTOLOG.format(lost=True), "--require-model")
    assert required.code == 1
    assert "--require-model asks for one" in required.err
    assert [run["status"] for run in amlflow.ok("run", "list", "-o", "json").json] == ["FAILED", "FINISHED"]
    assert tracked(amlflow, "pass", "--require-model").code == 1


def test_traces_arrive(amlflow: Any) -> None:
    script = (
        "import mlflow\n"
        "with mlflow.start_run():\n"
        "    with mlflow.start_span('outer') as span:\n"
        "        span.set_inputs({'a': 1})\n"
        "        with mlflow.start_span('inner'): pass\n"
        "mlflow.flush_trace_async_logging()\n"
    )
    done = tracked(amlflow, script, "-e", "traced")
    assert done.code == 0, done.err
    assert "refused" not in done.err
    read = (
        "import mlflow\n"
        "mlflow.set_experiment('traced')\n"
        "(trace,) = mlflow.search_traces(return_type='list')\n"
        "print(sorted(span.name for span in trace.data.spans))\n"
    )
    uri = amlflow.ok("workspace", "show", "--query", "tracking_uri", "-o", "tsv").out.strip()
    env = {**amlflow.env, "MLFLOW_TRACKING_URI": uri}
    shown = subprocess.run([PY, "-W", "ignore", "-c", read], env=env, capture_output=True, text=True, timeout=120)
    assert "['inner', 'outer']" in shown.stdout, shown.stderr


def test_bad_options_are_named(amlflow: Any) -> None:
    wrong = amlflow("track", "--durability", "sekond", "--", "true")
    assert wrong.code == 2
    assert "Did you mean 'second'?" in wrong.err
    assert amlflow("sync", "stauts").code == 2
    assert amlflow.ok("sync").err.strip() == "Nothing waits."
    for durability in ("second", "write"):
        assert tracked(amlflow, "import mlflow; mlflow.log_metric('a', 1)", "--durability", durability).code == 0


@pytest.mark.parametrize("kind", ["local", "server"])
def test_the_params_of_a_project_that_ran_offline_arrive(
    amlflow: Any, mlflow_server: str, project: Any, kind: str
) -> None:
    main = "  main: {parameters: {alpha: float, word: {type: string, default: w}}, command: 'echo {alpha} {word}'}\n"
    project(MLproject=f"name: p\nentry_points:\n{main}")
    where = mlflow_server if kind == "server" else "local"
    experiment = f"offline project {uuid.uuid4().hex[:8]}"
    amlflow.ok("-w", where, "run-project", "proj", "-P", "alpha=0.5", "-e", experiment, "--offline")
    amlflow.ok("-w", where, "sync")
    (run,) = amlflow.ok("-w", where, "run", "list", "-e", experiment, "-o", "json").json
    assert (run["status"], run["params"]) == ("FINISHED", {"alpha": "0.5", "word": "w"})
