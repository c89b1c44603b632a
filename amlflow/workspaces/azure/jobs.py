"""Command jobs of an Azure ML workspace."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from amlflow.errors import AmlflowError, NotFound, UsageError
from amlflow.journal.retry import Transient, persist
from amlflow.workspaces.abilities import Job, JobQuery, JobSpec, Progress, Snapshot
from amlflow.workspaces.azure import job_bodies, job_logs
from amlflow.workspaces.azure import snapshot as snapshots
from amlflow.workspaces.azure.arm import segment
from amlflow.workspaces.azure.assets import Assets
from amlflow.workspaces.azure.computes import AzureComputes
from amlflow.workspaces.azure.datastores import AzureDatastores
from amlflow.workspaces.azure.http import Unanswered
from amlflow.workspaces.azure.service import Service, or_nearest

PUT_API = "2025-01-01-preview"
# The last one that knows Ray.
RAY_API = "2024-01-01-preview"
READ_API = "2024-01-01-preview"
CANCEL_API = "2023-04-01-preview"
DEFAULT_OUTPUT = "default"
_ARTIFACTS = ("workspaceartifactstore", "ExperimentRun/dcid.{name}")
_NEAR = 200
_LISTED = "`amlflow job list` shows the jobs of the workspace."


class AzureJobs:
    def __init__(self, service: Service, computes: AzureComputes, datastores: AzureDatastores) -> None:
        self._service, self._arm = service, service.arm
        self._computes, self._datastores = computes, datastores
        self._assets = Assets(service, datastores)

    def snapshot(self, spec: JobSpec) -> Snapshot:
        return snapshots.take(spec.code, spec.beside, spec.code_limit_bytes)

    def check(self, spec: JobSpec) -> None:
        job_bodies.check_spec(spec)
        if spec.compute == job_bodies.SERVERLESS:
            return
        if spec.size:
            raise UsageError(
                f"A size goes with --compute {job_bodies.SERVERLESS} only: {spec.compute!r} has its own.",
                "Leave out --size.",
            )
        found = self._computes.get(spec.compute)
        if not found.takes_jobs:
            start = f"Start it with `amlflow compute start {found.name}`." if found.state == "Stopped" else ""
            problem = f": {found.problem}" if found.problem else ""
            raise AmlflowError(f"Compute {found.name!r} takes no jobs: it is {found.state.lower()}{problem}.", start)
        job_bodies.check_fit(spec, found)

    def submit(self, spec: JobSpec, report: Callable[[str], None], progress: Progress) -> Job:
        """What does not depend on each other is asked for at the same time."""
        job_bodies.check_spec(spec)
        snapshot = self.snapshot(spec)
        with ThreadPoolExecutor(max_workers=8) as pool:
            checked = pool.submit(self.check, spec)
            code = pool.submit(self._assets.known_code, snapshot)
            environment = pool.submit(self._assets.environment, spec.environment, report)
            inputs = {name: pool.submit(self._assets.input, value, progress) for name, value in spec.inputs.items()}
            checked.result()
            code_id = code.result()
            if not code_id:
                report(f"Sending {len(snapshot.files)} files, {snapshot.size_bytes / 1e6:.1f} MB")
                code_id = self._assets.send_code(snapshot, progress)
            environment_id = environment.result()
            given = {name: value.result() for name, value in inputs.items()}
        compute_id = (
            "" if spec.compute == job_bodies.SERVERLESS else f"{self._service.path}/computes/{segment(spec.compute)}"
        )
        body = job_bodies.body(spec, code_id, environment_id, compute_id, given)
        return self._put(spec.name, body, RAY_API if spec.distribution == "ray" else PUT_API)

    def list(self, query: JobQuery) -> Iterator[Job]:
        found = 0
        path = f"{self._service.path}/jobs"
        for record in self._arm.pages(path, READ_API, "list of jobs", listViewType="ActiveOnly"):
            if query.limit is not None and found >= query.limit:
                return
            job = job_bodies.job(record)
            if _fits(job, query):
                found += 1
                yield job

    def get(self, name: str) -> Job:
        return job_bodies.job(self._record(name))

    def outcome(self, name: str) -> Job:
        found = self.get(name)
        return replace(found, problem=job_logs.problem(self._service, name)) if found.outcome == "failed" else found

    def find(self, asked: str) -> Job:
        if asked in ("", "last"):
            newest = next(self.list(JobQuery(limit=1)), None)
            if newest is None:
                raise NotFound(
                    f"The workspace {self._service.name!r} has no jobs.",
                    "`amlflow run-project --compute` submits one.",
                )
            return newest
        try:
            return job_bodies.job(self._arm.get(self._path(asked), READ_API, f"job {asked!r}"))
        except NotFound as error:
            if error.mend:
                raise
            known = list(self.list(JobQuery(limit=_NEAR)))
        hits = [job for job in known if job.id.startswith(asked) or job.name == asked]
        if len(hits) == 1 or (hits and hits[0].name == asked):
            return hits[0]
        if hits:
            raise UsageError(
                f"{asked!r} fits {len(hits)} jobs: {', '.join(job.id for job in hits[:5])}.", "Give more of it."
            )
        names = [name for job in known for name in {job.id, job.name}]
        raise NotFound(
            f"There is no job {asked!r} in workspace {self._service.name!r}.", _LISTED, name=asked, known=names
        )

    def cancel(self, name: str) -> Job:
        job = self.get(name)
        if job.outcome != "running":
            raise AmlflowError(f"Job {name} has ended already: it is {job.status}.")
        what = f"job {name!r}"
        self._arm.finished(self._arm.post(f"{self._path(name)}/cancel", CANCEL_API, what), what)
        return self.get(name)

    def logs(self, name: str, follow: bool, report: Callable[[str], None]) -> Iterator[bytes]:
        return job_logs.follow(self._service, name, follow, report)

    def download(self, name: str, destination: Path, output: str, progress: Progress) -> int:
        record = self._record(name)
        if output and output != DEFAULT_OUTPUT:
            uri = job_bodies.output_uri(record, output) or self._step_output(name, output)
            if not uri:
                outputs = [*((record.get("properties") or {}).get("outputs") or {})]
                raise NotFound(f"Job {name} has no output {output!r}.", name=output, known=outputs)
            datastore, path = job_bodies.datastore_path(uri)
        else:
            datastore, path = job_bodies.datastore_path(job_bodies.output_uri(record, DEFAULT_OUTPUT))
            if not datastore or not path:
                datastore, path = _ARTIFACTS[0], _ARTIFACTS[1].format(name=name)
        if not datastore:
            raise AmlflowError(f"The output {output!r} of job {name} lies at {uri}, which is no datastore's.")
        try:
            return self._datastores.download(datastore, path, destination, progress)
        except NotFound:
            status = job_bodies.job(record).status
            raise NotFound(
                f"Job {name} ({status}) has left nothing {f'in its output {output!r}' if output else 'to download'}.",
                f"`amlflow job logs {name}` shows what it did.",
            ) from None

    def again(self, name: str, new_name: str) -> Job:
        record = self._record(name)
        job = job_bodies.job(record)
        if job.outcome == "running":
            raise AmlflowError(
                f"Job {name} has not ended: it is {job.status}.", f"`amlflow job cancel {name}` ends it."
            )
        properties = record["properties"]
        if str(properties.get("jobType", "")).lower() != "command":
            raise UsageError(f"Job {name} is a {properties.get('jobType')} job: only command jobs are submitted again.")
        kept = {
            key: properties[key]
            for key in (
                "jobType displayName experimentName command codeId environmentId environmentVariables inputs resources "
                "distribution limits identity queueSettings computeId tags description"
            ).split()
            if properties.get(key) is not None
        }
        outputs = {
            key: dict(value) for key, value in (properties.get("outputs") or {}).items() if key != DEFAULT_OUTPUT
        }
        for value in outputs.values():
            if value.get("uri"):
                value["uri"] = str(value["uri"]).replace(f"/{name}/", f"/{new_name}/")
        ray = str((kept.get("distribution") or {}).get("distributionType", "")).lower() == "ray"
        body = {"properties": {**kept, "outputs": outputs, "isArchived": False}}
        return self._put(new_name, body, RAY_API if ray else PUT_API)

    def _step_output(self, name: str, output: str) -> str:
        """Where a step of a pipeline put the output; empty for none."""
        details = job_logs.read_details(self._service, name)
        found = (
            job_bodies.output_uri(self._record(step), output) for step in job_logs.steps(self._service, name, details)
        )
        return next(filter(None, found), "")

    def _put(self, name: str, body: Mapping[str, Any], api: str) -> Job:
        """The name is new and ours: after each attempt that may have been carried out, one look says whether the job is there."""

        def attempt(_remaining_s: float) -> Job:
            try:
                answer = self._arm.put(self._path(name), api, f"job {name!r}", body, repeatable=False)
                return job_bodies.job(self._arm.content(answer))
            except Unanswered as error:
                if not error.maybe_applied:
                    raise
                try:
                    return self.get(name)
                except NotFound:
                    raise error.failure from error

        try:
            return persist(self._service.http.policy, attempt)
        except Transient as failure:
            raise Unanswered(f"Job {name!r} could not be submitted: Azure", failure) from failure

    def _record(self, name: str) -> dict[str, Any]:
        return or_nearest(
            lambda: self._arm.get(self._path(name), READ_API, f"job {name!r}"),
            name,
            lambda: (job.id for job in self.list(JobQuery(limit=_NEAR))),
            _LISTED,
        )

    def _path(self, name: str) -> str:
        return f"{self._service.path}/jobs/{segment(name)}"


def _fits(job: Job, query: JobQuery) -> bool:
    wanted = query.status.lower()
    return (
        (not wanted or wanted in (job.status.lower(), job.outcome))
        and (not query.compute or job.compute.lower() == query.compute.lower())
        and (not query.experiment or job.experiment == query.experiment)
    )
