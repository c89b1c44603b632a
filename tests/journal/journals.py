"""Journals as programs leave them, and what a server holds of their runs."""

from __future__ import annotations

import time
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from amlflow.journal import segments
from amlflow.journal.drainer import Drainer
from amlflow.journal.folder import Journal, RunFolder, new_id
from amlflow.journal.rest import Behind, RestServer
from amlflow.journal.retry import RetryPolicy

# Tests try again at once and give up soon: what they wait for is on this machine.
QUICK = RetryPolicy(most=8, base_s=0.02, cap_s=0.2, deadline_s=60.0, after_cap_s=0.2)


@dataclass
class Held:
    """A run as a server has it. `points` are all of all metrics, each as often as it is held."""

    status: str
    name: str
    params: dict[str, str]
    tags: dict[str, str]
    points: list[tuple[str, str, int, int]]
    info: dict[str, Any]
    inputs: dict[str, Any] = field(default_factory=dict)
    outputs: dict[str, Any] = field(default_factory=dict)


def begin(root: Path) -> Journal:
    journal = Journal(root)
    journal.begin("test")
    return journal


def server(url: str, timeout_s: float = 30.0) -> RestServer:
    return RestServer(url, lambda: {}, policy=QUICK, timeout_s=timeout_s)


def drainer(journal: Journal, behind: Behind, **options: Any) -> Drainer:
    return Drainer(journal, behind, **{"policy": QUICK, **options})


def online(journal: Journal, behind: Behind, experiment: str = "0") -> RunFolder:
    """A run that the workspace has, with its journal."""
    body = {"experiment_id": experiment, "start_time": time.time_ns() // 1_000_000}
    made = behind.request("POST", "/api/2.0/mlflow/runs/create", body)["run"]
    folder = journal.run(made["info"]["run_id"])
    folder.begin({"run": made, "fresh": True, "offline": False})
    return folder


def offline(
    journal: Journal, experiment: str, parent: str = "", experiment_id: str = "offline-0123456789ab"
) -> RunFolder:
    """A run that the workspace does not know yet."""
    folder = journal.run(new_id())
    info = {"run_id": folder.id, "run_name": "made offline", "artifact_uri": f"amlflow://0123456789ab/runs/{folder.id}"}
    folder.begin({"run": {"info": info}, "fresh": True, "offline": True})
    tags = [["mlflow.runName", "made offline"], *([["mlflow.parentRunId", parent]] if parent else [])]
    made = {
        "key": new_id(),
        "experiment_id": experiment_id,
        "experiment_name": experiment,
        "run_name": "made offline",
        "start_time": 1_700_000_000_000,
        "user_id": "somebody",
        "tags": tags,
    }
    write(folder, ["c", made])
    return folder


def write(folder: RunFolder, *many: list[Any]) -> None:
    writer = folder.writer()
    writer.extend(many)
    writer.close()


def spool(folder: RunFolder, path: str, content: bytes, target: str = "") -> None:
    """A file of the run, as a program logs it."""
    folder.spool.mkdir(parents=True, exist_ok=True)
    name = new_id()
    (folder.spool / name).write_bytes(content)
    write(folder, ["a", path, name, len(content), zlib.crc32(content), *([target] if target else [])])


def end(folder: RunFolder, status: str = "FINISHED") -> None:
    write(folder, ["u", {"status": status, "end_time": 1_700_000_100_000}])


def held(behind: Behind, run_id: str) -> Held:
    run = behind.request("GET", "/api/2.0/mlflow/runs/get", {"run_id": run_id})["run"]
    data, info = run.get("data", {}), run["info"]
    points = []
    for metric in data.get("metrics", []):
        query = {"run_id": run_id, "metric_key": metric["key"]}
        history = behind.request("GET", "/api/2.0/mlflow/metrics/get-history", query).get("metrics", [])
        points += [(p["key"], number(p.get("value", 0.0)), p.get("step", 0), p.get("timestamp", 0)) for p in history]
    return Held(
        info["status"],
        info.get("run_name", ""),
        {item["key"]: item.get("value", "") for item in data.get("params", [])},
        {item["key"]: item.get("value", "") for item in data.get("tags", [])},
        sorted(points),
        info,
        run.get("inputs", {}),
        run.get("outputs", {}),
    )


def number(value: Any) -> str:
    """A metric's value in a form that can be compared: MLflow's SQL stores keep infinities as the largest numbers."""
    found = float(value)
    return str(max(-1.7976931348623157e308, min(1.7976931348623157e308, found))) if found == found else "nan"


def artifacts(behind: Behind, run_id: str, path: str = "") -> dict[str, int]:
    """Path -> size in bytes, of all files below `path`."""
    found: dict[str, int] = {}
    query = {"run_id": run_id, **({"path": path} if path else {})}
    for item in behind.request("GET", "/api/2.0/mlflow/artifacts/list", query).get("files", []):
        if item.get("is_dir"):
            found |= artifacts(behind, run_id, item["path"])
        else:
            found[item["path"]] = int(item.get("file_size", 0))
    return found


def content(behind: RestServer, run_id: str, path: str, to: Path) -> bytes:
    uri = behind.request("GET", "/api/2.0/mlflow/runs/get", {"run_id": run_id})["run"]["info"]["artifact_uri"]
    behind.download(f"/api/2.0/mlflow-artifacts/artifacts/{uri.partition(':/')[2]}/{path}", to)
    return to.read_bytes()


def is_all_sent(folder: RunFolder) -> bool:
    sent = folder.sent()
    return sent["sending"] is None and not segments.pending_bytes(folder.path, sent["log"])


def flushed(sender: Drainer, timeout_s: float = 120.0) -> bool:
    """Flush, and again where a token that seemed to have expired twice made the drainer give up."""
    deadline = time.monotonic() + timeout_s
    while not sender.flush(timeout_s=max(0.0, deadline - time.monotonic())):
        if time.monotonic() >= deadline:
            return False
    return True
