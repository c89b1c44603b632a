"""Data scored by a batch endpoint: from what a user names to the predictions."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from amlflow.services import deployment
from amlflow.targets import payloads
from amlflow.targets.base import DeployTarget, Endpoint
from amlflow.targets.batch_scoring import Scoring, ScoringJob
from amlflow.workspaces.abilities import Progress

# What is printed rather than only said to be there.
SMALL_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Begun:
    """A job of a batch endpoint, and what follows it."""

    job: ScoringJob
    scoring: Scoring


def scores(target: DeployTarget) -> bool:
    from amlflow.targets.batch import BatchTarget

    return isinstance(target, BatchTarget)


def submit(
    target: DeployTarget, endpoint: Endpoint, source: str, stdin: Callable[[], bytes], progress: Progress
) -> Begun:
    """Begin with the job that scores the source: a file, a folder, a datastore path, a data asset, or a request in any form that
    other endpoints take (`.json`, or `-` for stdin), which is sent as CSV."""
    if source == "-" or (Path(source).suffix.lower() == ".json" and Path(source).is_file()):
        return submit_request(target, endpoint, *deployment.read_payload(source, stdin), progress)
    return _begun(target, endpoint, source, progress)


def submit_request(
    target: DeployTarget, endpoint: Endpoint, body: bytes, content_type: str, progress: Progress
) -> Begun:
    """Begin with the job that scores the table of a request."""
    with tempfile.TemporaryDirectory(prefix="amlflow-") as scratch:
        sent = Path(scratch) / "data.csv"
        sent.write_bytes(payloads.as_csv(body, content_type))
        return _begun(target, endpoint, str(sent), progress)


def _begun(target: DeployTarget, endpoint: Endpoint, source: str, progress: Progress) -> Begun:
    from amlflow.targets.batch import BatchTarget

    assert isinstance(target, BatchTarget)
    job = target.scoring.start(*target.asked(endpoint.name), source, progress)
    return Begun(job, target.scoring)
