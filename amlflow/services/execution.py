"""A program under a run: its environment, its output kept, the run closed however it ends."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from amlflow import paths, processes
from amlflow.journal import shipping
from amlflow.journal.folder import RUN_VARIABLE
from amlflow.services import model_check, recording
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
    """`left` is what the workspace has not taken yet. `lost_model` says that autologging was to keep a model and kept none;
    `no_model` that the run has none at all, where one was required."""

    run: Run
    ended: processes.Ended
    left: recording.Left = field(default_factory=recording.Left)
    lost_model: str = ""
    no_model: bool = False


@dataclass(frozen=True, slots=True)
class Watch:
    """How a run is written and watched. `require_model` makes a run that ends without a model a failed one. `ended` is called
    when the run has its end, of which the workspace may not know yet."""

    options: recording.Options = field(default_factory=recording.Options)
    require_model: bool = False
    show: bool = True
    announce: Callable[[Run], None] = lambda run: None
    warn: Callable[[str], None] = lambda line: None
    ended: Callable[[], None] = lambda: None


def execute(
    workspace: Workspace, program: Program, begin: Callable[[recording.Recorder], Run], watch: Watch | None = None
) -> Finished:
    """Begin the run, run the program in it, end it. The run never stays RUNNING: not when the program cannot be started, not
    when a signal comes at any moment."""
    watch = watch or Watch()
    with (
        processes.Interrupts() as interrupts,
        recording.Recorder(workspace, watch.options, watch.warn) as recorder,
    ):
        run = begin(recorder)
        status: RunStatus = "KILLED"
        spool = workspace.state_folder() / "jobs" / run.id
        lost, missing = "", False
        try:
            if interrupts.received:
                raise KeyboardInterrupt
            watch.announce(run)
            recorder.start()
            ended = _watched(workspace, recorder, run, program, spool, interrupts, watch.show)
            status = "KILLED" if ended.killed else "FINISHED" if ended.exit_code == 0 else "FAILED"
            lost, has_model = model_check.check(workspace, recorder, run.id, watch.require_model)
            missing = watch.require_model and not has_model
            if missing and status == "FINISHED":
                status = "FAILED"
        except Exception:
            status = "FAILED"
            raise
        finally:
            _keep_output(recorder, run, spool)
            recorder.end(run.id, status, now_ms())
            watch.ended()
            asked = len(interrupts.received)
            # Whoever interrupts once more does not want to wait; what is left is sent by the next sync.
            left = recorder.flush(runs=recorder.own(run.id), stop=lambda: len(interrupts.received) > asked)
    return Finished(recording.current(workspace, recorder.journal, run.id), ended, left, lost, missing)


def child_environment(
    recorder: recording.Recorder, reached: Mapping[str, str], run: Run, program: Program
) -> dict[str, str]:
    """The environment in which a program finds its run by MLflow's own variables. `reached` are those of the journal."""
    env = {**os.environ, **program.env, **reached}
    env["MLFLOW_RUN_ID"] = run.id
    env["MLFLOW_EXPERIMENT_ID"] = run.experiment_id
    env["MLFLOW_EXPERIMENT_NAME"] = run.experiment_name
    env[RUN_VARIABLE] = run.id
    env.setdefault("PYTHONUNBUFFERED", "1")
    if program.autolog:
        env["AMLFLOW_AUTOLOG"] = "1"
    env["AMLFLOW_EXPERIMENT"] = run.experiment_id
    env["PYTHONPATH"] = os.pathsep.join([*map(str, plugins()), *filter(None, [env.get("PYTHONPATH", "")])])
    return env


def plugins() -> list[Path]:
    """The folders of PYTHONPATH by which a program's Python finds what amlflow adds to it: the shim, and MLflow's plugin for the
    journal."""
    return [_SHIM, shipping.ship(paths.cache() / "journal")]


def parent_tag(workspace: Workspace) -> dict[str, str]:
    """The tag that nests a new run below the one that this process runs in, if it does."""
    parent = os.environ.get(RUN_VARIABLE, "")
    if not parent:
        return {}
    known = recording.journal_of(workspace).run(parent).exists()
    return {PARENT_TAG: parent} if known or workspace.find_run_ids(parent, limit=1) else {}


def _watched(
    workspace: Workspace,
    recorder: recording.Recorder,
    run: Run,
    program: Program,
    spool: Path,
    interrupts: processes.Interrupts,
    show: bool,
) -> processes.Ended:
    sampler = None
    if program.system_metrics:
        from amlflow.services.system_metrics import Sampler

        sampler = Sampler(recorder, run.id)
        sampler.start()
    try:
        with recorder.children() as reached:
            return processes.run(
                program.command,
                cwd=program.cwd,
                env=child_environment(recorder, reached, run, program),
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


def _keep_output(recorder: recording.Recorder, run: Run, spool: Path) -> None:
    try:
        for log in sorted(spool.glob("*.log")):
            if log.stat().st_size:
                recorder.keep(run.id, log, LOG_FOLDER)
    except Exception as error:
        # The run must be closed all the same; what was printed stays where it is.
        sys.stderr.write(f"Warning: the program's output could not be kept with the run: {error}. It is in {spool}.\n")
        return
    if not (spool / "job.json").exists():
        shutil.rmtree(spool, ignore_errors=True)


def now_ms() -> int:
    return time.time_ns() // 1_000_000
