"""One job from its environment to its end."""

from __future__ import annotations

import re
import shutil
import signal
import socket
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from amlflow import processes
from amlflow.emulator.arm.computes import seconds
from amlflow.emulator.arm.datastores import ARTIFACTS, Datastores
from amlflow.emulator.running import variables
from amlflow.emulator.running.data import BadAddress, Data, run_path
from amlflow.emulator.running.environment import base_variables
from amlflow.emulator.running.logs import LogShipper
from amlflow.emulator.running.state import JobError, Jobs
from amlflow.emulator.settings import HOST, Settings
from amlflow.emulator.store import Document
from amlflow.errors import AmlflowError

_REFERENCE = re.compile(r"\$\{\{\s*(inputs|outputs)\.(\w+)\s*\}\}")
_OPTIONAL = re.compile(r"\$\[\[(.*?)\]\]", re.DOTALL)
_KILL_GRACE_S = 5.0
_POLL_S = 0.2
_LITERALS = ("literal", None)
# Of a failed program's log the service's error has the end too.
_SHOWN_BYTES, _SHOWN_CHARS = 4096, 500


@dataclass(frozen=True, slots=True)
class Scene:
    """What an execution needs of the emulator."""

    settings: Settings
    place: Path
    jobs: Jobs
    data: Data
    datastores: Datastores


class Execution:
    """Runs one job on the nodes that it was given. `stop` may be called from any thread."""

    def __init__(self, scene: Scene, workspace: Document, job: Document, experiment_id: str, token: str) -> None:
        self._scene, self._workspace, self._job = scene, workspace, job
        self._experiment_id, self._token = experiment_id, token
        self._properties: dict[str, Any] = job.body["properties"]
        self._folder = scene.jobs.places.job_folder(workspace, job.name)
        self._code = self._folder / "wd"
        self._running: list[processes.Interrupts] = []
        self._lock = threading.Lock()
        self._stopped = ""
        self._failure = 0
        self._failed_log: Path | None = None
        self._artifacts = ""

    @property
    def reason(self) -> str:
        """Why it was stopped; empty where it was not."""
        return self._stopped

    def stop(self, reason: str) -> None:
        """End the job's processes: first asked, then made to."""
        with self._lock:
            if self._stopped:
                return
            self._stopped = reason
            running = list(self._running)
        for interrupts in running:
            interrupts.stop(signal.SIGTERM)
        killer = threading.Timer(_KILL_GRACE_S, self._kill, [running])
        killer.daemon = True
        killer.start()

    def run(self, activation: Mapping[str, str], node_ids: list[str]) -> tuple[str, JobError | None]:
        """The status that the job ends with, and why it failed. Logs and outputs are in blobs by then."""
        self._artifacts = self._scene.datastores.container(self._workspace, ARTIFACTS)
        logs = self._folder / "logs"
        shutil.rmtree(logs, ignore_errors=True)
        (logs / "user_logs").mkdir(parents=True)
        (logs / "system_logs").mkdir()
        blobs = self._scene.data.blobs
        with LogShipper(blobs, self._artifacts, run_path(self._job.name), logs):
            lifecycle = logs / "system_logs" / "lifecycler.log"
            lifecycle.write_text(f"Nodes: {', '.join(node_ids)}\n", encoding="utf-8")
            try:
                inputs, outputs = self._prepare()
            except (BadAddress, AmlflowError) as error:
                with lifecycle.open("a", encoding="utf-8") as sink:
                    sink.write(f"{error}\n")
                return "Failed", JobError(f"Preparing the job's data failed: {error}")
            codes = self._processes(activation, node_ids, inputs, outputs, logs / "user_logs")
            with lifecycle.open("a", encoding="utf-8") as sink:
                sink.write(f"Exit codes: {codes}\n")
        # A job that is being cancelled goes no further on its own, but what it has made is kept all the same.
        if self._stopped != "preempted":
            self._scene.jobs.set_status(self._job, "Finalizing")
        self._keep(outputs)
        if self._stopped == "timeout":
            return "Canceled", JobError(f"The job was cancelled: it ran longer than {self._timeout()}.")
        if self._stopped:
            return "Canceled", None
        if self._failure:
            log = "user_logs/std_log.txt" if len(codes) == 1 else "user_logs/std_log_process_*.txt"
            text = (
                f"Execution failed. User process '{self._properties['command'].split()[0]}' exited with status code "
                f"{self._failure}. Please check log file '{log}' for error details."
            )
            said = _last_line(self._failed_log)
            return "Failed", JobError(f"{text} Error: {said}" if said else text)
        return "Completed", None

    def _prepare(self) -> tuple[dict[str, str], dict[str, Path]]:
        """Code, inputs and outputs in place: the text that each input stands for, and the folder of each output."""
        for folder in (self._code, self._folder / "inputs", self._folder / "outputs"):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
        if code := self._properties.get("codeId"):
            self._fetch_code(code)
        inputs = {}
        for name, given in (self._properties.get("inputs") or {}).items():
            inputs[name] = self._input(name, given)
        outputs = {}
        for name, wanted in (self._properties.get("outputs") or {}).items():
            if name == "default":
                continue
            outputs[name] = self._folder / "outputs" / name
            if wanted.get("jobOutputType") != "uri_file":
                outputs[name].mkdir()
        (self._code / "outputs").mkdir(exist_ok=True)
        (self._code / "logs").mkdir(exist_ok=True)
        return inputs, outputs

    def _fetch_code(self, code_id: str) -> None:
        code = self._scene.jobs.get(code_id)
        if code is None:
            raise BadAddress(f"There is no code '{code_id}'.")
        blob = self._scene.data.locate(self._workspace, code.body["codeUri"])
        if not self._scene.data.blobs.download(blob.container, blob.path, self._code):
            raise BadAddress(f"The code '{code_id}' is empty.")

    def _input(self, name: str, given: Mapping[str, Any]) -> str:
        kind, mode = given.get("jobInputType"), given.get("mode") or "ReadOnlyMount"
        if kind in _LITERALS:
            return str(given.get("value", ""))
        if mode == "Direct":
            return str(given["uri"])
        folder = self._folder / "inputs" / name
        return str(self._scene.data.fetch(self._workspace, given["uri"], folder, kind == "uri_file"))

    def _processes(
        self,
        activation: Mapping[str, str],
        node_ids: list[str],
        inputs: Mapping[str, str],
        outputs: Mapping[str, Path],
        logs: Path,
    ) -> list[int]:
        """The exit code of each process; when one fails, the others are stopped."""
        distribution = self._properties.get("distribution") or {}
        count = variables.count_processes(distribution, len(node_ids))
        ports = _free_ports(max(1, count))
        planned = variables.processes(distribution, node_ids, ports)
        shared = {
            **base_variables(),
            **activation,
            **variables.of_job(
                self._scene.settings, self._scene.place, self._workspace, self._job, self._experiment_id, self._token
            ),
            **{f"AZURE_ML_INPUT_{name}": value for name, value in inputs.items()},
            **{f"AZURE_ML_OUTPUT_{name}": str(path) for name, path in outputs.items()},
            **{name: str(value) for name, value in (self._properties.get("environmentVariables") or {}).items()},
        }
        command = ["bash" if shutil.which("bash") else "sh", "-c", self._command(inputs, outputs)]
        codes: dict[int, int] = {}
        threads = []
        for process in planned:
            own = {**shared, **variables.of_process(process, distribution)}
            digits = len(str(len(planned) - 1))
            suffix = "" if len(planned) == 1 else f"_process_{process.rank:0{digits}d}"
            log = logs / f"std_log{suffix}.txt"
            thread = threading.Thread(target=self._one, args=(command, own, log, process.rank, codes), daemon=True)
            threads.append(thread)
        for thread in threads:
            thread.start()
        self._watch(threads)
        return [codes.get(process.rank, 1) for process in planned]

    def _one(self, command: list[str], env: dict[str, str], log: Path, rank: int, codes: dict[int, int]) -> None:
        interrupts = processes.Interrupts()
        with self._lock:
            if self._stopped:
                codes[rank] = 128 + signal.SIGTERM
                return
            self._running.append(interrupts)
        log.touch()
        try:
            ended = processes.run(
                command, cwd=self._code, env=env, stdout_log=log, stderr_log=log, show=False, interrupts=interrupts
            )
            codes[rank] = ended.exit_code
        except AmlflowError as error:
            log.write_text(f"{error.paragraph()}\n", encoding="utf-8")
            codes[rank] = 127
        with self._lock:
            first = bool(codes[rank]) and not self._stopped and not self._failure
            if first:
                self._failure, self._failed_log = codes[rank], log
        if first:
            for other in self._running:
                if other is not interrupts:
                    other.stop(signal.SIGTERM)

    def _watch(self, threads: list[threading.Thread]) -> None:
        limit = seconds(self._timeout()) if self._timeout() else float("inf")
        deadline = time.monotonic() + limit
        while any(thread.is_alive() for thread in threads):
            for thread in threads:
                thread.join(_POLL_S)
            if time.monotonic() > deadline:
                self.stop("timeout")

    def _kill(self, running: list[processes.Interrupts]) -> None:
        for interrupts in running:
            interrupts.stop(signal.SIGTERM)

    def _timeout(self) -> str:
        return str((self._properties.get("limits") or {}).get("timeout") or "")

    def _command(self, inputs: Mapping[str, str], outputs: Mapping[str, Path]) -> str:
        """The command with its references put in. An optional part `$[[…]]` goes where its input is not given."""
        values = {("inputs", name): value for name, value in inputs.items()}
        values.update({("outputs", name): str(path) for name, path in outputs.items()})

        def part(match: re.Match[str]) -> str:
            known = all((kind, name) in values for kind, name in _REFERENCE.findall(match[1]))
            return match[1] if known else ""

        text = _OPTIONAL.sub(part, self._properties["command"])
        return _REFERENCE.sub(lambda match: values.get((match[1], match[2]), match[0]), text)

    def _keep(self, outputs: Mapping[str, Path]) -> None:
        blobs = self._scene.data.blobs
        for name in ("outputs", "logs"):
            blobs.upload(self._artifacts, run_path(self._job.name, name), self._code / name)
        for name, path in outputs.items():
            self._scene.data.keep(self._workspace, self._properties["outputs"][name]["uri"], path)


def _last_line(log: Path | None) -> str:
    """The last line that says something; empty where there is none."""
    if log is None:
        return ""
    with log.open("rb") as source:
        source.seek(max(0, log.stat().st_size - _SHOWN_BYTES))
        lines = source.read().decode(errors="replace").split("\n")
    said = next((line.strip() for line in reversed(lines) if line.strip()), "")
    return said if len(said) <= _SHOWN_CHARS else f"{said[:_SHOWN_CHARS]}…"


def _free_ports(count: int) -> list[int]:
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind((HOST, 0))
        return [int(probe.getsockname()[1]) for probe in probes]
    finally:
        for probe in probes:
            probe.close()
