"""A program under a run: its environment, its output kept, the run closed however it ends."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from amlflow import processes
from amlflow.services.references import RUN_VARIABLE
from amlflow.workspaces.base import Run, RunStatus, Workspace

LOG_FOLDER = "logs"
# Read by shim/sitecustomize.py: the folder whose steps share the project's environment.
PROJECT_VARIABLE = "AMLFLOW_PROJECT"
PARENT_TAG = "mlflow.parentRunId"
_SHIM = Path(__file__).parent / "shim"


@dataclass(frozen=True, slots=True)
class Program:
    """What to run, and how it is watched. `env` is laid over the environment of amlflow itself. `one_log` keeps stdout and
    stderr in one file, in the order of writing."""

    command: Sequence[str]
    cwd: Path | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    autolog: bool = False
    system_metrics: bool = False
    capture: bool = True
    one_log: bool = False


@dataclass(frozen=True, slots=True)
class Finished:
    run: Run
    ended: processes.Ended


def execute(
    workspace: Workspace,
    program: Program,
    make_run: Callable[[], Run],
    *,
    announce: Callable[[Run], None] = lambda run: None,
    show: bool = True,
) -> Finished:
    """Make the run, run the program in it, close it. The run never stays RUNNING: not when the program cannot be
    started, not when a signal comes at any moment."""
    with processes.Interrupts() as interrupts:
        run = make_run()
        status: RunStatus = "KILLED"
        spool = workspace.state_folder() / "jobs" / run.id
        try:
            if interrupts.received:
                raise KeyboardInterrupt
            announce(run)
            ended = _watched(workspace, run, program, spool, interrupts, show)
            status = "KILLED" if ended.killed else "FINISHED" if ended.exit_code == 0 else "FAILED"
        except Exception:
            status = "FAILED"
            raise
        finally:
            _keep_output(workspace, run, spool)
            workspace.finish_run(run.id, status)
    return Finished(workspace.get_run(run.id), ended)


def child_environment(workspace: Workspace, run: Run, program: Program) -> dict[str, str]:
    """The environment in which a program finds its run by MLflow's own variables."""
    env = {**os.environ, **program.env, **workspace.child_environment()}
    env["MLFLOW_RUN_ID"] = run.id
    env["MLFLOW_EXPERIMENT_ID"] = run.experiment_id
    env["MLFLOW_EXPERIMENT_NAME"] = run.experiment_name
    env[RUN_VARIABLE] = run.id
    env.setdefault("PYTHONUNBUFFERED", "1")
    if program.autolog:
        env["AMLFLOW_AUTOLOG"] = "1"
    env["AMLFLOW_EXPERIMENT"] = run.experiment_id
    env["PYTHONPATH"] = os.pathsep.join(filter(None, [str(_SHIM), env.get("PYTHONPATH", "")]))
    return env


def parent_tag(workspace: Workspace) -> dict[str, str]:
    """The tag that nests a new run below the one that this process runs in, if it does."""
    parent = os.environ.get(RUN_VARIABLE, "")
    return {PARENT_TAG: parent} if parent and workspace.find_run_ids(parent, limit=1) else {}


def _watched(
    workspace: Workspace, run: Run, program: Program, spool: Path, interrupts: processes.Interrupts, show: bool
) -> processes.Ended:
    sampler = None
    if program.system_metrics:
        from amlflow.services.system_metrics import Sampler

        sampler = Sampler(workspace, run.id)
        sampler.start()
    try:
        return processes.run(
            program.command,
            cwd=program.cwd,
            env=child_environment(workspace, run, program),
            stdout_log=_log(spool, program, "stdout"),
            stderr_log=_log(spool, program, "stderr"),
            show=show,
            interrupts=interrupts,
        )
    finally:
        if sampler is not None:
            sampler.stop()


def _log(spool: Path, program: Program, stream: str) -> Path | None:
    if not program.capture:
        return None
    return spool / ("output.log" if program.one_log else f"{stream}.log")


def _keep_output(workspace: Workspace, run: Run, spool: Path) -> None:
    try:
        for log in sorted(spool.glob("*.log")):
            if log.stat().st_size:
                workspace.log_artifact(run.id, log, LOG_FOLDER)
    except Exception as error:
        # The run must be closed all the same; what was printed stays where it is.
        sys.stderr.write(f"Warning: the program's output could not be kept with the run: {error}. It is in {spool}.\n")
        return
    if not (spool / "job.json").exists():
        shutil.rmtree(spool, ignore_errors=True)


def now_ms() -> int:
    return time.time_ns() // 1_000_000
