"""The runs on clusters that `run-project` has begun, as jobs. A job has the id of its tracked run; Databricks' own number of it
is found too."""

from __future__ import annotations

import contextlib
import itertools
import re
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from amlflow.errors import AmlflowError, NotFound, NotSupported, UsageError
from amlflow.workspaces.abilities import Job, JobQuery, Progress
from amlflow.workspaces.base import Run, RunStatus, Workspace
from amlflow.workspaces.databricks import parcels, pending
from amlflow.workspaces.databricks.access import Access
from amlflow.workspaces.databricks.jobs import PAGE, ClusterRun, ClusterRuns, Outcome, Printed
from amlflow.workspaces.databricks.parcels import Parcels

PREFIX = "databricks:"
# MLflow's own name for it (mlflow.utils.mlflow_tags).
NUMBER_TAG = "mlflow.databricks.jobRunID"
STATUS: dict[Outcome, RunStatus] = {"finished": "FINISHED", "failed": "FAILED", "killed": "KILLED"}
_NUMBER = re.compile(r"\d{1,19}")
_RUN_ID = re.compile(r"[0-9a-f]{32}")
_POLL_S, _MOST_POLL_S = 1.0, 10.0
# A cluster may take longer to let go of a run, which is then TERMINATING.
_CANCEL_S = 60.0
_NEAR = 100


@dataclass(frozen=True, slots=True)
class Ended:
    """`exit_code` is that of the program, or 1 where it was not let begin or end."""

    job: Job
    exit_code: int


class ClusterJobs:
    def __init__(self, workspace: Workspace, access: Access) -> None:
        self._workspace = workspace
        self._runs, self._parcels = ClusterRuns(access), Parcels(access)

    @property
    def pending(self) -> Path:
        """Where this machine notes what it has begun."""
        return self._workspace.state_folder() / "clusters"

    def list(self, query: JobQuery) -> Iterator[Job]:
        compute = query.compute.removeprefix(PREFIX)
        cluster_id = self._runs.cluster(compute).id if compute else ""
        own = (run for run in self._runs.newest() if parcels.run_of(run.file))
        found = 0
        filtered = query.status or query.experiment or query.limit is None
        page = PAGE if filtered else min(PAGE, query.limit or PAGE)
        for job in self._read((run for run in own if cluster_id in ("", run.cluster_id)), page):
            if query.limit is not None and found >= query.limit:
                return
            if _fits(job, query):
                found += 1
                yield job

    def get(self, name: str) -> Job:
        return self._job(self._run(name))

    def outcome(self, name: str) -> Job:
        """What is left to do after the end of a job that nobody watched is done now."""
        found = self._run(name)
        job = self._job(found)
        if found.outcome == "running":
            return job
        return self._settled(found, job)

    def find(self, asked: str) -> Job:
        if asked in ("", "last"):
            newest = next(self.list(JobQuery(limit=1)), None)
            if newest is None:
                raise NotFound(
                    f"Databricks keeps no run that amlflow has begun in {self._workspace.name!r}.",
                    "`amlflow run-project --compute databricks:CLUSTER` begins one.",
                )
            return newest
        if _NUMBER.fullmatch(asked) or _RUN_ID.fullmatch(asked):
            with contextlib.suppress(NotFound):
                return self.get(asked)
        known = list(self.list(JobQuery(limit=_NEAR)))
        hits = [job for job in known if job.id.startswith(asked) or job.name == asked]
        if len(hits) == 1:
            return hits[0]
        if hits:
            raise UsageError(
                f"{asked!r} fits {len(hits)} jobs: {', '.join(job.id for job in hits[:5])}.", "Give more of the id."
            )
        raise NotFound(
            f"There is no job {asked!r} in workspace {self._workspace.name!r}.",
            "`amlflow job list` shows them; Databricks keeps them for 60 days.",
            name=asked,
            known=[name for job in known for name in (job.id[:8], job.name)],
        )

    def cancel(self, name: str) -> Job:
        found = self._run(name)
        if found.outcome != "running":
            raise AmlflowError(f"Job {name} has ended already: it is {self._job(found).status}.")
        self._runs.cancel(found.id)
        deadline = time.monotonic() + _CANCEL_S
        while (found := self._runs.get(found.id)).outcome == "running" and time.monotonic() < deadline:
            time.sleep(_POLL_S)
        job = self._job(found)
        return job if found.outcome == "running" else self._settled(found, job)

    def logs(self, name: str, follow: bool, report: Callable[[str], None]) -> Iterator[bytes]:
        found, shown, state, pause_s = self._run(name), "", "", _POLL_S
        mark = mark_of(parcels.run_of(found.file))
        while True:
            if found.state != state:
                state, pause_s = found.state, _POLL_S
                report(f"Run {found.id} on the cluster: {state.lower()}")
            ended = found.outcome != "running"
            if ended or state in ("RUNNING", "TERMINATING"):
                printed = self._runs.printed(found.task_id, patient=follow)
                text, code = told(printed.text, mark)
                text = text if ended or code is not None else _whole_lines(text)
                fresh = _after(shown, text, printed.is_cut)
                if printed.is_cut and not shown:
                    report("Databricks keeps the last 5 MB of what a task prints: the beginning is missing.")
                shown = text if fresh or ended else shown
                yield fresh.encode()
                if ended and printed.error and code is None:
                    yield f"{printed.error}\n".encode()
            if ended or not follow:
                break
            time.sleep(pause_s)
            pause_s = min(_MOST_POLL_S, pause_s * 1.3)
            found = self._runs.get(found.id, patient=True)
        if ended:
            self._settled(found, self._job(found))

    def ended(self, name: str) -> Ended:
        """Of a job that has ended."""
        found = self._run(name)
        job = self._settled(found, self._job(found))
        code = told(self._printed(found).text, mark_of(job.id))[1]
        return Ended(job, code if code is not None else int(job.outcome != "finished"))

    def download(self, name: str, destination: Path, output: str, progress: Progress) -> int:
        """What its program has logged as artifacts."""
        if output:
            raise NotSupported(f"Job {name} ran on a cluster and has no named outputs.", "Leave out --result.")
        files = self._workspace.list_artifacts(name)
        if not files:
            raise NotFound(f"Job {name} has left no files.", f"`amlflow job logs {name}` shows what it did.")
        size, done = sum(item.size_bytes or 0 for item in files), 0
        for item in files:
            self._workspace.download_artifacts(name, item.path, destination)
            progress(done := done + (item.size_bytes or 0), size)
        return sum(1 for item in destination.rglob("*") if item.is_file())

    def again(self, name: str, new_name: str) -> Job:
        raise NotSupported(
            f"Job {name} ran on a cluster, from files that are no longer there.", "Run the project again."
        )

    def submitted(self, run_id: str, number: int) -> Job:
        """The job of a run that has just been begun."""
        return replace(self._job(self._runs.get(number)), id=run_id)

    def _run(self, name: str) -> ClusterRun:
        if not _RUN_ID.fullmatch(name):
            return self._runs.get(int(name)) if _NUMBER.fullmatch(name) else self._run(self.find(name).id)
        number = self._workspace.get_run(name).tags.get(NUMBER_TAG, "")
        if number.isdigit():
            return self._runs.get(int(number))
        # It was begun by an amlflow that did not live to note the number.
        found = next((run for run in self._runs.newest() if parcels.run_of(run.file) == name), None)
        if found is None:
            raise NotFound(f"Run {name} was not begun on a cluster, or more than 60 days ago.")
        return found

    def _read(self, runs: Iterable[ClusterRun], size: int) -> Iterator[Job]:
        """The tracked runs of a page, of that size, are read at the same time."""
        with ThreadPoolExecutor(8) as pool:
            rest = iter(runs)
            while page := list(itertools.islice(rest, size)):
                yield from pool.map(self._job, page)

    def _job(self, found: ClusterRun) -> Job:
        run_id = parcels.run_of(found.file)
        tracked: Run | None = None
        if run_id:
            with contextlib.suppress(NotFound):
                tracked = self._workspace.get_run(run_id)
        outcome = found.outcome
        return Job(
            run_id or str(found.id),
            found.name,
            tracked.experiment_name if tracked else "",
            STATUS[outcome] if outcome != "running" else found.state,
            f"{PREFIX}{found.cluster_id}",
            found.submitted_ms,
            found.ended_ms,
            found.url,
            _reason(found) if outcome in ("failed", "killed") else "",
            {**(tracked.tags if tracked else {}), NUMBER_TAG: str(found.id)},
        )

    def _settled(self, found: ClusterRun, job: Job) -> Job:
        """A job that has ended, with the tracked run closed and what was sent for it removed; with the error of its program as
        the problem."""
        outcome = found.outcome
        if parcels.run_of(found.file) and outcome != "running":
            with contextlib.suppress(AmlflowError):
                # MLflow calls a run finished whose program ends with any exit code.
                if self._workspace.get_run(job.id).status in ("RUNNING", "FINISHED" if outcome != "finished" else ""):
                    self._workspace.finish_run(job.id, STATUS[outcome], found.ended_ms)
            self._parcels.remove(found.file, found.arguments)
            pending.forget(self.pending, job.id)
        if outcome != "failed":
            return job
        printed = self._printed(found)
        code = told(printed.text, mark_of(job.id))[1]
        if code:
            return replace(job, problem=f"its command ended with exit code {code}")
        said = printed.error.splitlines()[0] if printed.error else ""
        return replace(job, problem=f"{job.problem}: {said}") if said and said not in job.problem else job

    def _printed(self, found: ClusterRun) -> Printed:
        """Nothing, where a run ended before it had a task."""
        try:
            return self._runs.printed(found.task_id, patient=True)
        except NotFound:
            return Printed("", False, "")


def mark_of(run_id: str) -> str:
    """How the line begins with which the program on the cluster tells the exit code of its command."""
    return f"amlflow-{run_id}-exit-code"


def told(printed: str, mark: str) -> tuple[str, int | None]:
    """What a person is to see of it, and the exit code in the line that the runner ends with; None where there is none."""
    match = re.search(rf"\n?^{re.escape(mark)} (\d+)$\n?", printed, re.MULTILINE)
    if match is None:
        return printed, None
    return printed[: match.start()], int(match[1])


def _whole_lines(text: str) -> str:
    """Of a program that still writes: without the last line, which may be the beginning of the one that is not shown."""
    lines = text[: text.rfind("\n") + 1]
    return lines[:-1] if lines.endswith("\n\n") else lines


def _after(shown: str, text: str, is_cut: bool) -> str:
    """What of the text has not been shown yet. Of a text whose beginning was cut off since, what comes after the end of
    what was shown."""
    if text.startswith(shown):
        return text[len(shown) :]
    if shown.startswith(text):
        return ""
    tail = shown[-4096:]
    place = text.rfind(tail) if is_cut else -1
    return text[place + len(tail) :] if place >= 0 else text


def _reason(found: ClusterRun) -> str:
    return ": ".join(part for part in (found.code or found.state, found.reason.rstrip(".")) if part)


def _fits(job: Job, query: JobQuery) -> bool:
    wanted = query.status.lower()
    words = (job.status.lower(), job.outcome, job.problem.partition(":")[0].lower())
    # An experiment is named by its whole path there, and by a name below the user's own folder elsewhere.
    near = not query.experiment or f"/{job.experiment}".endswith(f"/{query.experiment}")
    return near and (not wanted or wanted in words)
