"""Jobs that score by a batch endpoint: from what a user names as data to the file of predictions."""

from __future__ import annotations

import re
import tempfile
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from amlflow.errors import AmlflowError, NotFound, NotSupported, UsageError
from amlflow.targets import payloads
from amlflow.workspaces.abilities import Job, JobInput, Progress
from amlflow.workspaces.azure import job_bodies
from amlflow.workspaces.azure.arm import segment
from amlflow.workspaces.azure.assets import Assets
from amlflow.workspaces.azure.batch import AzureBatch, BatchDeployment, BatchEndpoint, ScoringInput
from amlflow.workspaces.azure.computes import AzureComputes
from amlflow.workspaces.azure.datastores import AzureDatastores
from amlflow.workspaces.azure.jobs import AzureJobs
from amlflow.workspaces.azure.service import Service, or_nearest

OUTPUT = "score"
DATA_API = "2023-04-01-preview"
_OUTPUT_PLACE = "amlflow/predictions"
_ASSET = re.compile(r"(?:azureml:)?(?P<name>[A-Za-z0-9][\w.-]*)(?::(?P<version>[\w.-]+)|@(?P<label>latest))")
# What the service's own script for MLflow models reads: docs of Azure ML, "Deploy MLflow models in batch deployments".
_READABLE = (".csv", ".parquet", ".pqt", ".png", ".jpg", ".jpeg", ".tiff", ".bmp", ".gif")
_TAIL_LINES = 12


@dataclass(frozen=True, slots=True)
class ScoringJob:
    """`output` is where its file of predictions goes, as a URI; empty where the deployment writes none."""

    id: str
    endpoint: str
    deployment: str
    output: str


class Scoring:
    def __init__(self, service: Service) -> None:
        self._service, self._azure = service, AzureBatch(service)
        self._datastores = AzureDatastores(service)
        self._jobs = AzureJobs(service, AzureComputes(service), self._datastores)

    def start(self, endpoint: BatchEndpoint, deployment: BatchDeployment, asked: str, progress: Progress) -> ScoringJob:
        """Begin with a job that scores a file, a folder, a datastore path, a data asset or a web address. Raises `NotFound` for
        data that is not there, `UsageError` for what the deployment cannot read."""
        data = self._data(asked, deployment.plain, progress)
        output = ""
        if deployment.output_action == "append":
            place = f"{_OUTPUT_PLACE}/{uuid.uuid4().hex[:20]}/{deployment.output_file}"
            output = self._datastores.uri("", place)
        name = self._azure.score(endpoint, deployment.name, data, output)
        return ScoringJob(name, endpoint.name, deployment.name, output)

    def follow(self, job: ScoringJob, report: Callable[[str], None]) -> Iterator[bytes]:
        """What the job prints, until it has ended."""
        return self._jobs.logs(job.id, True, report)

    def ended(self, job: ScoringJob) -> Job:
        """The job after its end. Raises `AmlflowError` with the end of its log unless it has done its work."""
        found = self._jobs.outcome(job.id)
        if found.outcome == "finished":
            return found
        reason = f": {found.problem.rstrip('.')}" if found.problem else ""
        tail = self.tail(job.id)
        shown = f"\nThe end of its log:\n{tail}\n" if tail else ""
        raise AmlflowError(
            f"Job {job.id} of endpoint {job.endpoint!r} {found.outcome}{reason}.{shown}",
            f"`amlflow job logs {job.id}` shows all that it printed.",
        )

    def tail(self, name: str) -> str:
        try:
            text = b"".join(self._jobs.logs(name, False, lambda line: None)).decode(errors="replace")
        except AmlflowError:
            return ""
        return "\n".join([line for line in text.splitlines() if line.strip()][-_TAIL_LINES:])

    def log(self, name: str, follow: bool) -> Iterator[bytes]:
        return self._jobs.logs(name, follow, lambda line: None)

    def fetch(self, job: ScoringJob, folder: Path, progress: Progress) -> Path | None:
        """Download the file of predictions into the folder; None where the deployment writes none."""
        if not job.output:
            return None
        datastore, path = job_bodies.datastore_path(job.output)
        self._datastores.download(datastore, path, folder, progress)
        return folder / path.rpartition("/")[2]

    def predictions(self, endpoint: BatchEndpoint, deployment: BatchDeployment, body: bytes, content_type: str) -> Any:
        """Score the table of a request, and wait for the predictions: a list with one for each row."""
        if deployment.output_action != "append":
            raise NotSupported(
                f"The deployment {deployment.name!r} of {endpoint.name!r} writes no predictions: its output action is "
                f"{deployment.output_action}.",
                "Deploy with `--output-action append` to get them.",
            )
        with tempfile.TemporaryDirectory(prefix="amlflow-") as scratch:
            sent = Path(scratch) / "data.csv"
            sent.write_bytes(payloads.as_csv(body, content_type))
            job = self.start(endpoint, deployment, str(sent), _silent)
            for _ in self.follow(job, lambda line: None):
                pass
            self.ended(job)
            file = self.fetch(job, Path(scratch) / "out", _silent)
            assert file is not None
            try:
                return payloads.of_predictions(file.read_text(encoding="utf-8"))
            except ValueError as error:
                raise AmlflowError(f"The predictions of job {job.id} cannot be read: {error}.") from error

    def _data(self, asked: str, plain: bool, progress: Progress) -> ScoringInput:
        place = Path(asked).expanduser()
        if re.match(r"azureml:.*datastores/", asked):
            return self._stored(asked)
        if asked.startswith("https://"):
            return ScoringInput(asked, Path(asked.partition("?")[0]).suffix.lower() in _READABLE)
        if place.exists():
            if plain:
                _check_readable(place)
            given = JobInput("uri_file" if place.is_file() else "uri_folder", str(place.absolute()))
            sent = Assets(self._service, self._datastores).input(given, progress)
            return ScoringInput(sent.value, place.is_file())
        if match := _ASSET.fullmatch(asked):
            return self._asset(match["name"], match["version"] or "")
        raise NotFound(
            f"There is no file or folder {asked!r}, and it names no data of the workspace.",
            "Give a file, a folder, azureml://datastores/NAME/paths/PATH or a data asset as NAME:VERSION.",
        )

    def _stored(self, asked: str) -> ScoringInput:
        """Data in a datastore, looked at before a node is taken for it."""
        datastore, path = job_bodies.datastore_path(asked)
        first = next(iter(self._datastores.files(datastore, path)), None)
        if first is None:
            raise NotFound(
                f"There is nothing at {asked!r}.", f"`amlflow datastore ls {datastore}` shows what there is."
            )
        return ScoringInput(asked, not first.is_dir and first.path == path.strip("/"))

    def _asset(self, name: str, version: str) -> ScoringInput:
        arm, base = self._service.arm, f"{self._service.path}/data"
        versions, what = f"{base}/{segment(name)}/versions", f"data asset {name!r}"

        def find() -> dict[str, Any] | None:
            if version:
                return arm.get(f"{versions}/{segment(version)}", DATA_API, f"data asset '{name}:{version}'")
            return next(arm.pages(versions, DATA_API, what, **{"$orderBy": "createdtime desc", "$top": 1}), None)

        def known() -> Iterator[str]:
            return (str(item.get("name")) for item in arm.pages(base, DATA_API, "list of data assets"))

        found = or_nearest(find, name, known, "Give a file, a folder, or a data asset as NAME:VERSION.")
        properties = (found or {}).get("properties") or {}
        kind = str(properties.get("dataType") or "").lower()
        if found is None or kind not in ("uri_file", "uri_folder"):
            raise UsageError(
                f"The data asset {name!r} is of the type {kind or 'unknown'}, which batch endpoints do not read.",
                "Make one of the type uri_file or uri_folder.",
            )
        return ScoringInput(str(found["id"]), kind == "uri_file")


def _check_readable(place: Path) -> None:
    """Raises `UsageError` for data that would make the job fail."""
    if place.is_dir():
        nested = next((item for item in sorted(place.iterdir()) if item.is_dir()), None)
        if nested is not None:
            raise UsageError(
                f"The folder {str(place)!r} holds the folder {nested.name!r}, and batch endpoints look into none of those.",
                "Put the files into one folder.",
            )
    files = [place] if place.is_file() else sorted(place.iterdir())
    odd = next((file for file in files if file.suffix.lower() not in _READABLE), None)
    if odd is not None:
        raise UsageError(
            f"{odd.name!r} is of a type that batch endpoints do not read for MLflow models: the job would fail.",
            f"They read {', '.join(_READABLE)}.",
        )


def _silent(done: int, total: int) -> None:
    return None
