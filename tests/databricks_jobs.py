"""Jobs 2.2, clusters and workspace files as Databricks' REST reference has them, as far as one-time runs of a Python file go. A
task is really run: as a process of this machine's Python."""

from __future__ import annotations

import email.parser
import email.policy
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

CLUSTER = {"cluster_id": "1127-181818-abc123", "cluster_name": "small cluster", "state": "RUNNING"}
STOPPED = {"cluster_id": "1127-181818-off456", "cluster_name": "stopped", "state": "TERMINATED"}
BROKEN = {"cluster_id": "1127-181818-err789", "cluster_name": "broken", "state": "ERROR"}
CLUSTERS = {str(item["cluster_id"]): item for item in (CLUSTER, STOPPED, BROKEN)}
_Answer = tuple[int, dict[str, Any]]


@dataclass
class Run:
    """One run with its only task, whose own id is one higher."""

    id: int
    body: dict[str, Any]
    process: subprocess.Popen[bytes]
    log: Path
    begun_ms: int
    cancelled: bool = False
    polled: int = 0
    ended_ms: int = 0
    code: str = ""
    message: str = ""


@dataclass
class Jobs:
    """`submitted` are the bodies of all submissions, `variables` by what a cluster's program signs in. `most_bytes` is what is
    kept of what a task prints; `tells_while_running` whether that is told before its end, which the reference leaves open."""

    folder: Path
    variables: dict[str, str] = field(default_factory=dict)
    submitted: list[dict[str, Any]] = field(default_factory=list)
    runs: dict[int, Run] = field(default_factory=dict)
    tokens: dict[str, int] = field(default_factory=dict)
    most_bytes: int = 5 << 20
    tells_while_running: bool = True

    def answer(self, request: BaseHTTPRequestHandler, path: str, query: str, body: bytes) -> _Answer | None:
        """Status and JSON; None for a path of somebody else."""
        key = f"{request.command} {path}"
        given = dict(parse_qsl(query))
        if key == "POST /api/2.0/workspace/import":
            return self._import(request, body)
        if body and request.headers.get("Content-Type", "").startswith("application/json"):
            given = json.loads(body)
        handlers = {
            "POST /api/2.0/workspace/mkdirs": self._mkdirs,
            "POST /api/2.0/workspace/delete": self._delete,
            "GET /api/2.1/clusters/get": self._cluster,
            "GET /api/2.1/clusters/list": lambda _given: (200, {"clusters": [*CLUSTERS.values()]}),
            "GET /api/2.2/jobs/runs/list": self._list,
            "POST /api/2.2/jobs/runs/submit": self._submit,
            "GET /api/2.2/jobs/runs/get": self._get,
            "GET /api/2.2/jobs/runs/get-output": self._output,
            "POST /api/2.2/jobs/runs/cancel": self._cancel,
        }
        handler = handlers.get(key)
        return handler(given) if handler else None

    def stop(self) -> None:
        for run in self.runs.values():
            if run.process.poll() is None:
                os.killpg(run.process.pid, signal.SIGKILL)
            run.process.wait()

    def files(self) -> list[str]:
        """The paths of the workspace's files."""
        root = self.folder / "workspace"
        return sorted(f"/{path.relative_to(root).as_posix()}" for path in root.rglob("*") if path.is_file())

    def _place(self, path: str) -> Path:
        return self.folder / "workspace" / path.lstrip("/")

    def _import(self, request: BaseHTTPRequestHandler, body: bytes) -> _Answer:
        head = f"Content-Type: {request.headers['Content-Type']}\r\n\r\n".encode()
        parts = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(head + body)
        fields = {
            str(part.get_param("name", header="content-disposition")): part.get_payload(decode=True)
            for part in parts.iter_parts()
        }
        content, path = fields["content"], fields["path"].decode()
        if not path.startswith("/"):
            return 400, {"error_code": "INVALID_PARAMETER_VALUE", "message": f"Path ({path}) must start with '/'."}
        if len(content) > 10 << 20:
            return 400, {"error_code": "MAX_NOTEBOOK_SIZE_EXCEEDED", "message": "File size exceeded max limit."}
        place = self._place(path)
        if not place.parent.is_dir():
            return 404, {
                "error_code": "RESOURCE_DOES_NOT_EXIST",
                "message": f"The parent folder of {path} does not exist.",
            }
        if place.exists() and fields.get("overwrite") != b"true":
            return 400, {"error_code": "RESOURCE_ALREADY_EXISTS", "message": f"{path} already exists."}
        place.write_bytes(content)
        return 200, {}

    def _mkdirs(self, given: dict[str, Any]) -> _Answer:
        self._place(given["path"]).mkdir(parents=True, exist_ok=True)
        return 200, {}

    def _delete(self, given: dict[str, Any]) -> _Answer:
        place = self._place(given["path"])
        if not place.exists():
            return 404, {"error_code": "RESOURCE_DOES_NOT_EXIST", "message": f"Path ({given['path']}) doesn't exist."}
        if place.is_file():
            place.unlink()
        elif any(place.iterdir()) and given.get("recursive") is not True:
            return 400, {"error_code": "DIRECTORY_NOT_EMPTY", "message": f"Folder ({given['path']}) is not empty."}
        else:
            shutil.rmtree(place)
        return 200, {}

    def _cluster(self, given: dict[str, Any]) -> _Answer:
        if given["cluster_id"] not in CLUSTERS:
            message = f"Cluster {given['cluster_id']} does not exist"
            return 400, {"error_code": "INVALID_PARAMETER_VALUE", "message": message}
        return 200, dict(CLUSTERS[given["cluster_id"]])

    def _submit(self, given: dict[str, Any]) -> _Answer:
        token = given.get("idempotency_token", "")
        if token and token in self.tokens:
            return 200, {"run_id": self.tokens[token]}
        (task,) = given["tasks"]
        wrong = (
            len(token) > 64
            or not re.fullmatch(r"[\w-]{1,100}", task["task_key"])
            or len(json.dumps(task["spark_python_task"].get("parameters", []))) > 10_000
            or given.get("timeout_seconds", 0) < 0
        )
        if wrong:
            return 400, {"error_code": "INVALID_PARAMETER_VALUE", "message": "A field of the run is out of bounds."}
        if task["existing_cluster_id"] not in CLUSTERS:
            message = f"Cluster {task['existing_cluster_id']} does not exist"
            return 400, {"error_code": "INVALID_PARAMETER_VALUE", "message": message}
        python = task["spark_python_task"]
        assert python["source"] == "WORKSPACE"
        file = self._place(python["python_file"])
        if not file.is_file():
            return 400, {"error_code": "INVALID_PARAMETER_VALUE", "message": f"{python['python_file']} does not exist"}
        self.submitted.append(given)
        run_id = 1000 + 2 * len(self.submitted)
        log = self.folder / f"{run_id}.log"
        # As on a cluster: the file is executed by what has a name of its own and no `__file__` for it.
        line = (
            "import sys; del sys.argv[0]; "
            "exec(compile(open(sys.argv[0], 'rb').read(), sys.argv[0], 'exec'), {'__name__': '__main__'})"
        )
        env = {name: value for name, value in os.environ.items() if not name.startswith(("AMLFLOW", "PYTHONPATH"))}
        env.update(self.variables)
        command = [sys.executable, "-c", line, str(file), *map(self._mounted, python.get("parameters", []))]
        with log.open("wb") as out:
            process = subprocess.Popen(
                command, stdout=out, stderr=out, env=env, cwd=self.folder, start_new_session=True
            )
        self.runs[run_id] = Run(run_id, given, process, log, int(time.time() * 1000))
        if token:
            self.tokens[token] = run_id
        return 200, {"run_id": run_id}

    def _mounted(self, argument: str) -> str:
        """A cluster has these as folders of its own; a process of this machine finds them where they are kept."""
        if argument.startswith("/Workspace/"):
            return str(self._place(argument.removeprefix("/Workspace")))
        return str(self.folder / argument.lstrip("/")) if argument.startswith("/Volumes/") else argument

    def _list(self, given: dict[str, Any]) -> _Answer:
        limit, first = int(given.get("limit", 20)), int(given.get("page_token") or 0)
        if not 0 <= limit < 25 or (given.get("active_only") == "true" and given.get("completed_only") == "true"):
            return 400, {"error_code": "INVALID_PARAMETER_VALUE", "message": "limit must be between 0 and 24."}
        newest = sorted(self.runs.values(), key=lambda run: -run.id)
        shown = [self._record(run) for run in newest[first : first + limit]]
        if given.get("expand_tasks") != "true":
            shown = [{key: value for key, value in record.items() if key != "tasks"} for record in shown]
        more = {"next_page_token": str(first + limit)} if first + limit < len(newest) else {}
        return 200, {"runs": shown, "has_more": bool(more), **more}

    def _get(self, given: dict[str, Any]) -> _Answer:
        run = self.runs.get(int(given["run_id"]))
        if run is None:
            return 400, {"error_code": "INVALID_PARAMETER_VALUE", "message": f"Run {given['run_id']} does not exist."}
        run.polled += 1
        return 200, self._record(run)

    def _record(self, run: Run) -> dict[str, Any]:
        status = self._status(run)
        task = {**run.body["tasks"][0], "run_id": run.id + 1, "status": status, "attempt_number": 0}
        named = {
            "run_id": run.id,
            "run_name": run.body.get("run_name", ""),
            "run_page_url": f"https://host/#job/runs/{run.id}",
        }
        ended = {"end_time": run.ended_ms} if run.ended_ms else {}
        return {
            **named,
            "start_time": run.begun_ms,
            "run_type": "SUBMIT_RUN",
            "status": status,
            "tasks": [task],
            **ended,
        }

    def end(self, run: Run, code: str, message: str) -> None:
        """Let a run end as the platform ends it."""
        run.code, run.message = code, message
        os.killpg(run.process.pid, signal.SIGKILL)
        run.process.wait()

    def _status(self, run: Run) -> dict[str, Any]:
        code = run.process.poll()
        if code is None:
            return {"state": "PENDING" if run.polled < 2 else "RUNNING"}
        run.ended_ms = run.ended_ms or int(time.time() * 1000)
        if run.code:
            details = {"code": run.code, "type": "CLOUD_FAILURE", "message": run.message}
        elif run.cancelled:
            details = {"code": "USER_CANCELED", "type": "SUCCESS", "message": "Run cancelled."}
        elif code == 0:
            details = {"code": "SUCCESS", "type": "SUCCESS", "message": ""}
        else:
            details = {"code": "RUN_EXECUTION_ERROR", "type": "CLIENT_ERROR", "message": f"SystemExit: {code}"}
        return {"state": "TERMINATED", "termination_details": details}

    def _output(self, given: dict[str, Any]) -> _Answer:
        run = self.runs.get(int(given["run_id"]) - 1)
        if run is None:
            message = "Retrieving the output of runs with multiple tasks is not supported."
            return 400, {"error_code": "INVALID_PARAMETER_VALUE", "message": message}
        code = run.process.poll()
        if code is None and not self.tells_while_running:
            return 200, {"metadata": self._record(run)}
        content = run.log.read_bytes()
        return 200, {
            "metadata": self._record(run),
            "logs": content[-self.most_bytes :].decode(errors="replace"),
            "logs_truncated": len(content) > self.most_bytes,
            **({"error": f"SystemExit: {code}"} if code and code > 0 else {}),
        }

    def _cancel(self, given: dict[str, Any]) -> _Answer:
        run = self.runs.get(int(given["run_id"]))
        if run is None:
            return 400, {"error_code": "INVALID_PARAMETER_VALUE", "message": f"Run {given['run_id']} does not exist."}
        if run.process.poll() is None:
            run.cancelled = True
            os.killpg(run.process.pid, signal.SIGKILL)
            run.process.wait()
        return 200, {}
