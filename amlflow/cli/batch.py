"""`amlflow endpoint invoke` of a batch endpoint: the job as it goes, and the predictions in the end."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

from amlflow.cli import following, progress
from amlflow.cli.state import State
from amlflow.services import batch
from amlflow.services.batch import Begun


def show(state: State, begun: Begun, to: Path | None, detach: bool) -> None:
    """Follow the job to its end, unless it is left to itself, and give its predictions: in the folder `to`, or on stdout where
    they are few. Raises `AmlflowError` for a job that fails."""
    job = begun.job
    if detach:
        record = {"job_id": job.id, "endpoint": job.endpoint, "deployment": job.deployment, "output": job.output}
        state.out.one(record, "job_id")
        state.note(
            f"Follow it with `amlflow job logs -f {job.id}`; `amlflow job download {job.id} --result score` fetches the "
            "predictions."
        )
        return
    state.note(f"Job {job.id} scores by {job.deployment} of {job.endpoint}")
    following.to_the_end(state, job.id, begun.scoring.follow(job, state.note))
    status = begun.scoring.ended(job).status
    if to is not None:
        _print(state, begun, status, _fetched(state, begun, to))
    elif state.out.wants_document() or state.quiet or not job.output:
        _print(state, begun, status, None)
    else:
        with tempfile.TemporaryDirectory(prefix="amlflow-") as scratch:
            file = _fetched(state, begun, Path(scratch))
            assert file is not None
            if file.stat().st_size <= batch.SMALL_BYTES:
                sys.stdout.write(file.read_text(encoding="utf-8"))
            else:
                _print(state, begun, status, None)
                state.note(f"The predictions are {file.stat().st_size / 1e6:.0f} MB: give --to DIR to keep them.")


def _fetched(state: State, begun: Begun, folder: Path) -> Path | None:
    with progress.transfer(state, "Downloading") as advance:
        return begun.scoring.fetch(begun.job, folder, advance)


def _print(state: State, begun: Begun, status: str, file: Path | None) -> None:
    job = begun.job
    record: dict[str, Any] = {
        "job_id": job.id,
        "status": status,
        "endpoint": job.endpoint,
        "deployment": job.deployment,
        "output": job.output,
        "file": str(file) if file else "",
    }
    rows = [(key, value) for key, value in record.items() if value != ""]
    state.out.one(record, "file" if file else "job_id", rows)
