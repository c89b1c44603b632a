"""The journal beside MLflow's own stores: what a program waits for, and how fast what it wrote is sent on.

benchmarks/journal.py [part …]      parts: call, batch, drain, track, files; all of them without any
"""

from __future__ import annotations

import http.client
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from timing import AMLFLOW, MLFLOW, Row, show, wall

from amlflow.journal import attach, shipping, spool
from amlflow.journal.batches import LOCAL, OPEN_SOURCE
from amlflow.journal.drainer import Drainer
from amlflow.journal.folder import Journal
from amlflow.journal.rest import RestServer
from amlflow.workspaces.local.rest import LocalRest
from amlflow.workspaces.local.workspace import LocalWorkspace

POINTS = 100_000
NOW = 1_700_000_000_000

# A store that does nothing: what is left is MLflow's own work for one call.
NOOP = """
from mlflow.entities import Experiment, LifecycleStage, Run, RunData, RunInfo
from mlflow.store.tracking.rest_store import RestStore
def store(store_uri=None, artifact_uri=None):
    return Noop()
class Noop(RestStore):
    def __init__(self):
        super().__init__(lambda: None)
    def get_run(self, run_id):
        info = RunInfo(run_id=run_id, experiment_id="0", user_id="", status="RUNNING", start_time=0, end_time=None,
            lifecycle_stage="active", artifact_uri="/tmp")
        return Run(info, RunData())
    def update_run_info(self, *args, **options):
        return self.get_run("x").info
    def log_metric(self, run_id, metric):
        pass
    def log_batch(self, run_id, metrics, params, tags):
        pass
"""
CALL = """
import os, statistics, sys, time
import mlflow
os.environ["MLFLOW_RUN_ID"] = sys.argv[1]
mlflow.start_run()
calls = int(sys.argv[2])
for step in range(200):
    mlflow.log_metric("warm", 1.0, step=step)
taken = []
for step in range(calls):
    begun = time.perf_counter()
    mlflow.log_metric("loss", 0.5, step=step)
    taken.append(time.perf_counter() - begun)
print("MEDIAN", statistics.median(taken) * 1000, statistics.fmean(taken) * 1000)
os._exit(0)
"""
BATCH = """
import sys, time
from mlflow import MlflowClient
from mlflow.entities import Metric
store = MlflowClient()._tracking_client.store
run_id, points = sys.argv[1], int(sys.argv[2])
batches = [[Metric("loss", 0.5, 1_700_000_000_000 + step, step) for step in range(start, start + 1000)]
    for start in range(0, points, 1000)]
begun = time.perf_counter()
for batch in batches:
    store.log_batch(run_id, batch, [], [])
router = getattr(store, "router", None)
if router is not None:
    router.sync()
print("TOOK", time.perf_counter() - begun)
"""
TRAIN = """
import mlflow
with mlflow.start_run():
    for step in range(2000):
        mlflow.log_metric("loss", 1 / (step + 1), step=step)
"""


def main() -> None:
    asked = sys.argv[1:] or ["call", "batch", "drain", "track", "files"]
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as temporary:
        os.environ.update(AMLFLOW_HOME=f"{temporary}/home", AMLFLOW_CACHE_DIR=f"{temporary}/cache")
        os.environ.update(PYTHONWARNINGS="ignore", MLFLOW_DISABLE_TELEMETRY="true")
        root = Path(temporary)
        for part in asked:
            rows += {"call": call, "batch": batch, "drain": drain, "track": track, "files": files}[part](root)
    show("The journal", rows)


def call(root: Path) -> list[Row]:
    """One fluent log_metric, the caller's time in milliseconds."""
    plugin = root / "noop"
    (plugin / "noop-1.dist-info").mkdir(parents=True)
    (plugin / "noop_store.py").write_text(NOOP)
    (plugin / "noop-1.dist-info/METADATA").write_text("Metadata-Version: 2.1\nName: noop\nVersion: 1\n")
    (plugin / "noop-1.dist-info/entry_points.txt").write_text(
        "[mlflow.tracking_store]\nnoop = noop_store:store\n[mlflow.model_registry_store]\nnoop = noop_store:store\n"
    )
    database = new_database(root / "call.db", root)
    kinds: dict[str, tuple[dict[str, str], str, int]] = {
        "journal": (*into_journal(root / "call-journal"), 5000),
        "noop": ({"MLFLOW_TRACKING_URI": "noop:", "PYTHONPATH": str(plugin)}, "0" * 32, 5000),
        "sqlite": ({"MLFLOW_TRACKING_URI": f"sqlite:///{database}"}, new_run(f"sqlite:///{database}"), 500),
    }
    with mlflow_server(root / "call-server") as url:
        kinds["server"] = ({"MLFLOW_TRACKING_URI": url}, new_run(url), 300)
        taken: dict[str, list[float]] = {kind: [] for kind in kinds}
        for _ in range(5):
            for kind, (env, run_id, calls) in kinds.items():
                if len(taken[kind]) < (5 if kind in ("journal", "noop") else 2):
                    taken[kind].append(number("MEDIAN", CALL, env, run_id, str(calls)))
    found = {kind: statistics.median(values) for kind, values in taken.items()}
    return [
        Row("one log_metric, caller / a store that does nothing", found["journal"], found["noop"], 1.15, "ms"),
        Row("one log_metric, caller / SQLite", found["journal"], found["sqlite"], 1.0, "ms"),
        Row("one log_metric, caller / mlflow server", found["journal"], found["server"], 1.0, "ms"),
    ]


def batch(root: Path) -> list[Row]:
    """100,000 points in full batches until they are durable: the store's own time."""
    ours, theirs = [], []
    for turn in range(3):
        env, run_id = into_journal(root / f"batch-{turn}")
        ours.append(number("TOOK", BATCH, env, run_id, str(POINTS)))
    uri = f"sqlite:///{new_database(root / 'batch.db', root)}"
    theirs.append(number("TOOK", BATCH, {"MLFLOW_TRACKING_URI": uri}, new_run(uri), str(POINTS)))
    return [
        Row("100,000 points by log_batch, durable / 2 s", statistics.median(ours), 2.0, 1.0),
        Row("100,000 points by log_batch, durable / SQLite", statistics.median(ours), theirs[0], 1.0),
    ]


def drain(root: Path) -> list[Row]:
    """100,000 points from the journal until they are acknowledged, beside full batches that are ready, back to back."""
    rates: dict[str, list[float]] = {"local": [], "local bare": [], "server": [], "server bare": []}
    points = [["loss", 0.5, step, NOW + step] for step in range(POINTS)]
    workspace = LocalWorkspace(root / "drain-local")
    experiment = workspace.ensure_experiment("drain").id
    rest = LocalRest(workspace)
    for _ in range(5):
        run = workspace.create_run(experiment, "", {}, {}).id
        rates["local bare"].append(per_second(lambda run=run: send(rest, run, points, LOCAL.metrics)))
        run = workspace.create_run(experiment, "", {}, {}).id
        rates["local"].append(per_second(drained(root / "drain-j", rest, LOCAL, run)))
    with mlflow_server(root / "drain-server") as url, slowed(url, 0.1) as far:
        server = RestServer(far)
        for _ in range(3):
            run = new_run(url)
            rates["server bare"].append(per_second(lambda run=run: send(server, run, points, OPEN_SOURCE.metrics)))
            run = new_run(url)
            rates["server"].append(per_second(drained(root / "drain-j2", server, OPEN_SOURCE, run)))
    found = {kind: statistics.median(values) for kind, values in rates.items()}
    return [
        Row("drained to the local workspace / batches alone", found["local"], found["local bare"], 0.8, "/s", True),
        Row("drained to a server 100 ms away / batches alone", found["server"], found["server bare"], 0.8, "/s", True),
    ]


def track(root: Path) -> list[Row]:
    """Whole processes: `amlflow track` over the program alone that logs to SQLite."""
    script = root / "train.py"
    script.write_text(TRAIN)
    idle = root / "idle.py"
    idle.write_text("import time\ntime.sleep(5)\n")
    uri = f"sqlite:///{new_database(root / 'track.db', root)}"
    wall([AMLFLOW, "track", "--", "true"])
    ours = [wall([AMLFLOW, "track", "--", sys.executable, str(script)]) for _ in range(3)]
    theirs = [wall([sys.executable, str(script)], {"MLFLOW_TRACKING_URI": uri}) for _ in range(2)]
    with_track = [wall([AMLFLOW, "track", "--", sys.executable, str(idle)]) for _ in range(3)]
    alone = [wall([sys.executable, str(idle)]) for _ in range(3)]
    extra = statistics.median(with_track) - statistics.median(alone)
    return [
        Row(
            "track of 2,000 metrics / the program into SQLite", statistics.median(ours), statistics.median(theirs), 1.0
        ),
        Row("track of 5 s that log nothing, extra / 0.5 s", extra, 0.5, 1.0),
    ]


def files(root: Path) -> list[Row]:
    """Artifacts until an MLflow server has them, the copy into the spool included, beside MLflow's own client."""
    many, big = root / "many", root / "big"
    for folder in (many, big):
        folder.mkdir()
    for index in range(200):
        (many / f"f{index:03}.bin").write_bytes(os.urandom(1 << 20))
    with (big / "big.bin").open("wb") as target:
        for _ in range(512):
            target.write(os.urandom(1 << 20))
    rows = []
    with mlflow_server(root / "files-server") as url:
        client = (
            "import sys, time\nfrom mlflow import MlflowClient\nclient = MlflowClient()\nbegun = time.perf_counter()\n"
            "client.log_artifacts(sys.argv[1], sys.argv[2])\nprint('TOOK', time.perf_counter() - begun)\n"
        )
        for what, folder in (("200 files of 1 MB", many), ("one file of 512 MB", big)):
            ours, theirs = [], []
            for turn in range(3):
                run = new_run(url)
                theirs.append(number("TOOK", client, {"MLFLOW_TRACKING_URI": url}, run, str(folder)))
                ours.append(uploaded(root / f"files-{folder.name}-{turn}", url, new_run(url), folder))
            rows.append(Row(f"{what} to a server / mlflow", statistics.median(ours), statistics.median(theirs), 1.0))
    return rows


def uploaded(folder: Path, url: str, run_id: str, source: Path) -> float:
    """Seconds until the server has every file: the copy into the spool and the sending, which goes on beside it."""
    server = RestServer(url)
    journal, run = begun(folder, server, run_id)
    drainer = Drainer(journal, server)
    drainer.start()
    start = time.perf_counter()
    writer = run.writer()
    for file in sorted(source.iterdir()):
        spool.keep(run, writer.append, file, file.name)
    if not drainer.flush(timeout_s=300):
        raise SystemExit("not everything was sent")
    took = time.perf_counter() - start
    writer.close()
    drainer.stop()
    return took


def send(rest: Any, run_id: str, points: list[list[Any]], size: int) -> None:
    """Full batches, back to back."""
    for start in range(0, len(points), size):
        part = points[start : start + size]
        if isinstance(rest, LocalRest):
            rest.log_points(run_id, [(key, value, step, when) for key, value, step, when in part])
            continue
        metrics = [{"key": key, "value": value, "step": step, "timestamp": when} for key, value, step, when in part]
        rest.request("POST", "/api/2.0/mlflow/runs/log-batch", {"run_id": run_id, "metrics": metrics})


def drained(folder: Path, rest: Any, limits: Any, run_id: str) -> Callable[[], None]:
    """A journal with a record a point, and what sends it."""
    journal, run = begun(folder / run_id, rest, run_id)
    writer = run.writer()
    for start in range(0, POINTS, 1000):
        writer.extend([["m", "loss", 0.5, step, NOW + step] for step in range(start, start + 1000)])
    writer.close()

    def act() -> None:
        drainer = Drainer(journal, rest, limits)
        if not drainer.drain_once():
            raise SystemExit("not everything was sent")
        drainer.stop()

    return act


def begun(folder: Path, rest: Any, run_id: str) -> tuple[Journal, Any]:
    journal = Journal(folder)
    journal.begin("benchmark")
    run = journal.run(run_id)
    answer = rest.request("GET", "/api/2.0/mlflow/runs/get", {"run_id": run_id})
    run.begin({"run": answer["run"], "fresh": True, "offline": False})
    return journal, run


def per_second(act: Callable[[], None]) -> float:
    start = time.perf_counter()
    act()
    return POINTS / (time.perf_counter() - start)


def into_journal(folder: Path) -> tuple[dict[str, str], str]:
    """The variables and the run of a program that writes to a journal which nobody sends."""
    journal = Journal(folder)
    journal.begin("benchmark")
    run_id = "1" * 32
    info = {"run_id": run_id, "experiment_id": "0", "status": "RUNNING", "lifecycle_stage": "active", "start_time": 1}
    journal.run(run_id).begin({"run": {"info": {**info, "artifact_uri": str(folder)}}, "fresh": True, "offline": False})
    shipped = shipping.ship(folder / "shipped")
    env = {
        "MLFLOW_TRACKING_URI": "amlflow:",
        "PYTHONPATH": str(shipped),
        attach.JOURNAL: str(folder),
        attach.DRAINED: "1",
    }
    return env, run_id


def number(word: str, script: str, env: dict[str, str], *arguments: str) -> float:
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], env={**os.environ, **env}, capture_output=True, text=True
    )
    for line in done.stdout.splitlines():
        if line.startswith(word):
            return float(line.split()[1])
    raise SystemExit(done.stdout + done.stderr)


def new_database(file: Path, root: Path) -> Path:
    subprocess.run([MLFLOW, "db", "upgrade", f"sqlite:///{file}"], check=True, capture_output=True, cwd=root)
    return file


def new_run(uri: str) -> str:
    if uri.startswith("http"):
        made = RestServer(uri).request("POST", "/api/2.0/mlflow/runs/create", {"experiment_id": "0", "start_time": 1})
        return str(made["run"]["info"]["run_id"])
    script = "import mlflow\nprint('RUN', mlflow.MlflowClient().create_run('0').info.run_id)"
    done = subprocess.run(
        [sys.executable, "-c", script], env={**os.environ, "MLFLOW_TRACKING_URI": uri}, capture_output=True, text=True
    )
    return done.stdout.split("RUN ")[1].strip()


@contextmanager
def mlflow_server(root: Path) -> Iterator[str]:
    root.mkdir()
    port = free_port()
    command = [MLFLOW, "server", "--port", str(port), "--backend-store-uri", f"sqlite:///{root}/mlflow.db"]
    command += ["--serve-artifacts", "--artifacts-destination", str(root / "artifacts")]
    with (root / "log").open("wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True, cwd=root)
    try:
        while True:
            try:
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
                connection.request("GET", "/health")
                if connection.getresponse().status == 200:
                    break
            except OSError:
                time.sleep(0.2)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


@contextmanager
def slowed(url: str, seconds: float) -> Iterator[str]:
    """The server as if it were so far away: each answer comes that much later."""
    host = url.partition("//")[2]
    local = threading.local()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if not hasattr(local, "connection"):
                local.connection = http.client.HTTPConnection(host, timeout=60)
                local.connection.connect()
                local.connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            local.connection.request(self.command, self.path, body, {"Content-Type": "application/json"})
            reply = local.connection.getresponse()
            content = reply.read()
            time.sleep(seconds)
            self.send_response(reply.status)
            self.send_header("Content-Type", reply.headers.get("Content-Type", ""))
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PATCH = answer

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    main()
