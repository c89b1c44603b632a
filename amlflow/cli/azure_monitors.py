"""`amlflow monitor run` and `show` where Azure ML runs the monitors."""

from __future__ import annotations

from typing import Any

from amlflow.cli import following
from amlflow.cli.output import Column, moment, number
from amlflow.cli.state import State
from amlflow.errors import UsageError
from amlflow.services import azure_monitor_runs as runs
from amlflow.services import submission
from amlflow.services.azure_monitor_runs import Found
from amlflow.workspaces.abilities import HasOnlineEndpoints
from amlflow.workspaces.azure.monitors import AzureMonitors

_COLUMNS = (
    Column("SIGNAL", "signal"),
    Column("COLUMN", "column", style="cyan"),
    Column("METRIC", "metric"),
    Column("VALUE", lambda r: number(r["value"]), right=True),
    Column("THRESHOLD", lambda r: "" if r["threshold"] is None else number(r["threshold"]), right=True),
    Column("CROSSED", lambda r: "yes" if r["crossed"] else ""),
)


def run(state: State, name: str, html: str, markdown: bool, log: bool, detach: bool) -> None:
    for option, given in (("--html", html), ("--markdown", markdown), ("--no-log", not log)):
        if given:
            raise UsageError(
                f"A monitor that Azure ML runs has no {option}.",
                "Leave it out: the service keeps what it finds. `amlflow monitor drift ENDPOINT` has it, and looks now.",
            )
    started = runs.start(state.workspace, name)
    job = started.job
    if detach:
        state.out.one({"job_id": job.id, "status": job.status, "url": job.url}, "job_id")
        state.note(f"Follow it with `amlflow job logs -f {job.id}`; `amlflow monitor show {name}` shows what it finds.")
        return
    state.note(f"Job {job.id} runs the monitor {name!r}{f': {job.url}' if job.url else ''}")
    following.to_the_end(state, job.id, submission.follow(state.workspace, job, state.note))
    found = runs.found(state.workspace, started)
    _show(state, found)
    runs.check(started, found)


def show(state: State, name: str) -> None:
    assert isinstance(state.workspace, HasOnlineEndpoints)
    record = AzureMonitors(state.workspace.service).get(name)
    results = runs.recent(state.workspace, name)
    rows = rows_of(record)
    rows += [(f"run {moment(item['submitted_ms'])}", _summary(item)) for item in results]
    state.out.one({**record, "results": results}, "name", rows)


def rows_of(record: dict[str, Any]) -> list[tuple[str, Any]]:
    """A monitor for people to read, a line a threshold."""
    left_out = ("thresholds", "created_ms")
    rows: list[tuple[str, Any]] = [(key, value) for key, value in record.items() if key not in left_out]
    rows.append(("created", moment(record["created_ms"])))
    return rows + [(f"threshold {item['signal']}", _limit(item)) for item in record["thresholds"]]


def _show(state: State, found: Found) -> None:
    record = found.record()
    if state.out.wants_document() or state.quiet:
        state.out.one(record, "job_id")
    else:
        state.out.many(record["readings"], _COLUMNS, "column")
    crossed = [reading for reading in found.readings if reading.crossed]
    if crossed:
        silent = len(crossed) - len(found.alarming)
        also = f", {silent} of them in signals that alert nobody" if silent else ""
        state.note(f"{len(crossed)} metrics crossed their thresholds{also}.")
    elif found.by_output:
        state.note("No threshold was crossed.")
    else:
        state.note("No run of the job has the tag of a crossed threshold; its output is none that amlflow understands.")


def _limit(threshold: dict[str, Any]) -> str:
    value = threshold["threshold"]
    return f"{threshold['metric']} ({threshold['of']}) {'' if value is None else number(value)}"


def _summary(item: dict[str, Any]) -> str:
    if item["crossed"] is None:
        return f"{item['status']} ({item['job_id']})"
    crossed = [
        f"{reading['column'] or reading['signal']} {reading['metric']} {number(reading['value'])}"
        for reading in item["crossed"]
    ]
    return f"{item['status']}: {', '.join(crossed) or 'nothing crossed'}"
