"""Runs that are written through the journal: begun in the workspace, or offline; sent on beside the program; ended.

Everything that amlflow itself logs, and every program that it runs, writes this way, in every kind of workspace.
"""

from __future__ import annotations

import contextlib
import errno
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from amlflow.errors import AmlflowError, NotFound, Unavailable, UsageError
from amlflow.journal import attach, datasets, locations, records, spool
from amlflow.journal.drainer import Drainer
from amlflow.journal.errors import Refused
from amlflow.journal.folder import GENERAL, Journal, RunFolder
from amlflow.journal.router import OpenRun, Router
from amlflow.services.references import JOURNAL_FOLDER, sync_command
from amlflow.workspaces.base import Run, RunStatus, Workspace

FLUSH_TIMEOUT_S = 60.0
# A workspace that does not answer within this time is taken for away, and the run is made here.
ANSWER_S = 2.0
# A service that restarts is back within seconds; one that stays away longer is not waited for at a program's end.
_PATIENCE_MS = 10_000


@dataclass(frozen=True, slots=True)
class Options:
    """`offline` asks nothing of the workspace until `amlflow sync`. `durability` is when the disk must have what is logged:
    process, second or write. `rank_zero` lets only the first process of a distributed program log. `flush_timeout_s` is how
    long the end of a program waits for the workspace to have everything. `dataset_rows` is how many rows of each dataset that
    a program logs for training are kept with its run."""

    offline: bool = False
    durability: str = "process"
    rank_zero: bool = False
    flush_timeout_s: float = FLUSH_TIMEOUT_S
    dataset_rows: int = 0

    @property
    def variables(self) -> dict[str, str]:
        """Those by which a program on any machine learns of the options that are its own."""
        rows = {datasets.ROWS: str(self.dataset_rows)} if self.dataset_rows else {}
        return {**rows, attach.RANK_ZERO: "1"} if self.rank_zero else rows


@dataclass(frozen=True, slots=True)
class NewRun:
    experiment: str
    name: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    params: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Left:
    """What could not be sent: its size in bytes and why, in one clause. `refused` are the reasons of writes that the workspace
    refused for good."""

    pending_bytes: int = 0
    reason: str = ""
    refused: Sequence[str] = ()


class Recorder:
    """The journal of one workspace, and whoever sends it on. Enter it to have it sent."""

    def __init__(
        self, workspace: Workspace, options: Options | None = None, report: Callable[[str], None] = lambda line: None
    ) -> None:
        self._workspace, self._options, self._report = workspace, options or Options(), report
        self.journal = journal_of(workspace)
        self._offline = self._options.offline
        self._drainer: Drainer | None = None

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, *_: object) -> None:
        if self._drainer is not None:
            self._drainer.stop(timeout_s=5.0)

    @property
    def offline(self) -> bool:
        return self._offline

    def begin(self, new: NewRun) -> Run:
        """Make a run; where the workspace does not answer it is made here, and in the workspace at the next sync."""
        if not self._offline:
            try:
                if reason := self._workspace.away(ANSWER_S):
                    raise Unavailable(f"{reason}.")
                experiment = self._workspace.ensure_experiment(new.experiment)
                with self.writing():
                    self.journal.begin(self._workspace.reference)
                    self.journal.note_experiment(experiment.name, experiment.id, experiment.artifact_location)
                run = self._workspace.create_run(experiment.id, new.name, new.tags, new.params)
            except Unavailable as error:
                self._offline = True
                self._report(
                    f"Warning: {error.message} The run is kept on this machine; `{sync_command(self._workspace)}` sends it "
                    "when the workspace answers."
                )
            else:
                with self.writing():
                    self.journal.run(run.id).begin({"run": to_rest(run), "fresh": True, "offline": False})
                return run
        with self.writing():
            self.journal.begin(self._workspace.reference)
            return self._begin_offline(new)

    def adopt(self, run: Run) -> None:
        """Go on with a run that the workspace has. Raises `AmlflowError` where the journal cannot be written."""
        with self.writing():
            self.journal.begin(self._workspace.reference)
            self.journal.run(run.id).begin({"run": to_rest(run), "fresh": False, "offline": False})

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Where the journal cannot be written, an `AmlflowError` says so."""
        try:
            yield
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            reason = f"the disk is full ({error.strerror})" if full else error.strerror or str(error)
            raise AmlflowError(
                f"The journal in {self.journal.root} cannot be written: {reason}.",
                f"{'Free some space' if full else 'Check who owns the folder'}, or use another workspace with `-w local:PATH`.",
            ) from error

    def open(self, run_id: str) -> OpenRun:
        return OpenRun(self.journal.run(run_id), self._options.durability)

    def start(self) -> None:
        """Send what is written from now on, beside whatever writes it."""
        if not self._offline and self._drainer is None:
            self._drainer = Drainer(
                self.journal, self._workspace.behind(), self._workspace.limits(), openers=self._workspace.sinks()
            )
            self._drainer.start()

    @contextlib.contextmanager
    def children(self) -> Iterator[Mapping[str, str]]:
        """The variables by which child processes write to this journal and read what is behind it."""
        env = {
            "MLFLOW_TRACKING_URI": "amlflow:",
            "MLFLOW_REGISTRY_URI": "amlflow:",
            "AMLFLOW_WORKSPACE": self._workspace.reference,
            attach.JOURNAL: str(self.journal.root),
            attach.DRAINED: "1",
            attach.DURABILITY: self._options.durability,
        }
        env.update(self._options.variables)
        with contextlib.ExitStack() as stack:
            if not self._offline:
                env.update(stack.enter_context(self._workspace.serving()))
            yield env

    def keep(self, run_id: str, file: Path, folder: str = "") -> None:
        """A file, or a folder with all it holds, among the run's artifacts."""
        run = current(self._workspace, self.journal, run_id)
        if run.artifact_uri and locations.is_local(run.artifact_uri):
            self._workspace.log_artifact(run.id, file, folder)
            return
        if ".." in Path(folder).parts or Path(folder).is_absolute():
            raise UsageError(
                f"The artifact path {folder!r} leads out of the run's artifacts.", "Give a path below them."
            )
        target = self.open(run_id)
        try:
            with self.writing():
                for source in [file] if file.is_file() else sorted(path for path in file.rglob("*") if path.is_file()):
                    below = source.name if file.is_file() else f"{file.name}/{source.relative_to(file).as_posix()}"
                    spool.keep(target.folder, target.append, source, f"{folder.strip('/')}/{below}".lstrip("/"))
        finally:
            target.writer.close()

    def end(self, run_id: str, status: RunStatus, end_time_ms: int) -> None:
        """A run that its own program has ended as FAILED or KILLED stays so when the program ends well."""
        with self.writing():
            run = self.open(run_id)
            known = run.view().info.get("status")
            kept = known if status == "FINISHED" and known in ("FAILED", "KILLED") else status
            run.append([records.UPDATED, {"status": kept, "end_time": end_time_ms}])
            run.writer.flush()
            run.writer.close()

    def flush(
        self,
        timeout_s: float | None = None,
        runs: Sequence[str] | None = None,
        stop: Callable[[], bool] = lambda: False,
    ) -> Left:
        """Wait until the workspace has everything, at most for the flush time-out, and not after `stop` says so. A workspace that
        was away when the run began is asked again."""
        if self._offline and not self._options.offline and not self._workspace.away(ANSWER_S):
            self._offline = False
        if not self._offline:
            self.start()
            assert self._drainer is not None
            wait_s = self._options.flush_timeout_s if timeout_s is None else timeout_s
            patience = _Patience(lambda: self._folders(runs))
            self._drainer.flush(runs, wait_s, lambda: stop() or patience.is_over())
        return self.left(runs)

    def own(self, run_id: str) -> list[str]:
        """The run, and what the program in it wrote besides."""
        general = [GENERAL] if self.journal.run(GENERAL).exists() else []
        return [run_id, *self.journal.under(run_id), *general]

    def left(self, runs: Sequence[str] | None = None) -> Left:
        folders = self._folders(runs)
        waiting = [(folder, folder.pending_bytes()) for folder in folders if folder.path.is_dir()]
        reasons = [problem["reason"] for folder, size in waiting if size and (problem := folder.problem())]
        default = "the workspace did not answer" if self._offline else "the workspace has not taken it yet"
        if self._options.offline:
            default = "--offline keeps them here"
        size = sum(size for _, size in waiting)
        refused = [item["reason"] for folder, _ in waiting for item in folder.refused()]
        return Left(size, " ".join((reasons or [default])[0].split()) if size else "", refused)

    def _folders(self, runs: Sequence[str] | None) -> list[RunFolder]:
        return self.journal.runs() if runs is None else [self.journal.run(run_id) for run_id in runs]

    def _begin_offline(self, new: NewRun) -> Run:
        router = Router(self.journal, None, offline=True)
        body = {"experiment_name": new.experiment}
        try:
            experiment = router.call("GET", "/api/2.0/mlflow/experiments/get-by-name", body)["experiment"]
        except Refused:
            made = router.call("POST", "/api/2.0/mlflow/experiments/create", {"name": new.experiment})
            experiment = {"experiment_id": made["experiment_id"], "name": new.experiment}
        tags = [{"key": key, "value": value} for key, value in new.tags.items()]
        made = router.call(
            "POST",
            "/api/2.0/mlflow/runs/create",
            {
                "experiment_id": experiment["experiment_id"],
                "run_name": new.name,
                "user_id": new.tags.get("mlflow.user", ""),
                "tags": tags,
            },
        )
        run_id = made["run"]["info"]["run_id"]
        if new.params:
            opened = self.open(run_id)
            opened.append([records.BATCH, [], [[key, value] for key, value in new.params.items()], []])
            opened.writer.close()
        return written(self.journal.run(run_id))


class _Patience:
    """Is over when nothing of what waits has gone for a while, though it was tried: the workspace does not answer."""

    def __init__(self, folders: Callable[[], list[RunFolder]]) -> None:
        self._folders = folders
        self._size: int | None = None
        self._since_ms = 0

    def is_over(self) -> bool:
        waiting = [(folder, size) for folder in self._folders() if (size := folder.pending_bytes())]
        size, now_ms = sum(size for _, size in waiting), time.time_ns() // 1_000_000
        if size != self._size:
            self._size, self._since_ms = size, now_ms
        problems = [folder.problem() for folder, _ in waiting]
        tried = all(problem and problem.get("last_ms", 0) >= self._since_ms for problem in problems)
        return bool(waiting) and tried and now_ms - self._since_ms > _PATIENCE_MS


def journal_of(workspace: Workspace) -> Journal:
    return Journal(workspace.state_folder() / JOURNAL_FOLDER)


def current(workspace: Workspace, journal: Journal, run_id: str) -> Run:
    """The run as it is now: as its journal has it while anything of it waits, else as the workspace has it."""
    folder = journal.run(run_id)
    if folder.exists() and folder.pending_bytes():
        return written(folder)
    try:
        return workspace.get_run(journal.real_id(run_id))
    except (NotFound, Unavailable):
        if folder.exists():
            return written(folder)
        raise


def written(folder: RunFolder) -> Run:
    """The run as its journal tells it."""
    run = OpenRun(folder, "process").view()
    info, names = run.info, {entry["experiment_id"]: name for name, entry in folder.journal.experiments().items()}
    experiment_id = str(info.get("experiment_id", ""))
    return Run(
        folder.id,
        info.get("run_name", ""),
        experiment_id,
        names.get(experiment_id, ""),
        info.get("status", "RUNNING"),
        _time(info.get("start_time")),
        _time(info.get("end_time")),
        info.get("lifecycle_stage", "active"),
        info.get("artifact_uri", ""),
        info.get("user_id", ""),
        {key: value for key, (value, _, _) in run.metrics.items()},
        dict(run.params),
        dict(run.tags),
    )


def to_rest(run: Run) -> dict[str, Any]:
    """A run as MLflow's REST API shows it; of its metrics the last value without its step, which a `Run` does not know."""
    info = {
        "run_id": run.id,
        "run_uuid": run.id,
        "run_name": run.name,
        "experiment_id": run.experiment_id,
        "user_id": run.user,
        "status": run.status,
        "start_time": run.start_time_ms or 0,
        "artifact_uri": run.artifact_uri,
        "lifecycle_stage": run.lifecycle_stage,
    }
    if run.end_time_ms is not None:
        info["end_time"] = run.end_time_ms
    return {
        "info": info,
        "data": {
            "params": [{"key": key, "value": value} for key, value in run.params.items()],
            "tags": [{"key": key, "value": value} for key, value in run.tags.items()],
            "metrics": [{"key": key, "value": value, "step": 0, "timestamp": 0} for key, value in run.metrics.items()],
        },
    }


def _time(value: Any) -> int | None:
    return int(value) if value else None
