"""What a job prints, read as it is written: the building of its image first, then the program's own output."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from amlflow.errors import AmlflowError, NotFound, Unavailable
from amlflow.workspaces.azure import arm
from amlflow.workspaces.azure.blobs import read_url
from amlflow.workspaces.azure.service import Service, or_nearest

_BUILD = re.compile(r"azureml-logs/\d*_?image_build_log.*\.txt")
# The first node's first process; the others say the same or less.
_PROGRAM = re.compile(r"user_logs/std_log\D*0*(?:_ps)?\.txt")
# What a pipeline has as its own log: that its steps come and go. What they print is in theirs.
_PIPELINE = "logs/azureml/executionlogs.txt"
_OLD = re.compile(r"azureml-logs/(?:70_driver_log|75_job_post).*\.txt")
_ENDED = ("completed", "failed", "canceled", "cancelled", "notresponding")
_FIRST_POLL_S, _LONGEST_POLL_S = 1.0, 6.0
_PATIENCE_S = 1800.0
_LINE_CHARS, _SAME_CHARS = 300, 80
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\S+\s+")
_WORD = re.compile(r"^error:\s*", re.IGNORECASE)
_FAULT = re.compile(r"\b(?:error|failed|could not|no matching|not found|conflict|exception)\b", re.IGNORECASE)


def follow(service: Service, name: str, to_the_end: bool, report: Callable[[str], None]) -> Iterator[bytes]:
    """The logs as they are; with `to_the_end` until the job has ended. A connection that is lost is taken up again, where it was,
    for half an hour. Raises `NotFound` for no such job."""
    read: dict[str, int] = {}
    status, wait, lost_since = "", _FIRST_POLL_S, 0.0
    while True:
        try:
            details = read_details(service, name)
            fresh = list(_new_parts(service, details, read, name))
            for step in steps(service, name, details):
                fresh += _new_parts(service, read_details(service, step), read, step)
            lost_since = 0.0
        except Unavailable:
            if not to_the_end or (lost_since and time.monotonic() - lost_since > _PATIENCE_S):
                raise
            if not lost_since:
                lost_since = time.monotonic()
                report("The connection is lost; the job goes on, and its log will be taken up again")
            time.sleep(_LONGEST_POLL_S)
            continue
        if str(details.get("status") or "") != status:
            status = str(details.get("status") or "")
            report(f"Job {name} is {status.lower()}")
        yield from fresh
        if not to_the_end or status.lower() in _ENDED:
            return
        wait = _FIRST_POLL_S if fresh else min(wait * 1.3, _LONGEST_POLL_S)
        time.sleep(wait)


def read_details(service: Service, name: str) -> dict[str, Any]:
    """The run's status, its error and the addresses of its logs."""
    url = f"{service.data_plane('history/v1.0')}/runs/{arm.segment(name)}/details"

    def fetch() -> dict[str, Any]:
        answer = service.http.send("GET", url)
        if not 200 <= answer.status_code < 300:
            credential = service.http.credential
            raise arm.refusal(answer, f"job {name!r}", credential.clock_ahead_s, credential.winner)
        return service.arm.content(answer)

    return or_nearest(fetch, name, list, "`amlflow job list` shows the jobs of the workspace.")


def steps(service: Service, name: str, details: Mapping[str, Any]) -> list[str]:
    """The jobs that a pipeline is made of; none for any other job."""
    if _PIPELINE not in _logs(details):
        return []
    url = f"{service.data_plane('history/v1.0')}/runs/{arm.segment(name)}/children"
    answer = service.http.send("GET", url)
    if not 200 <= answer.status_code < 300:
        credential = service.http.credential
        raise arm.refusal(answer, f"steps of job {name!r}", credential.clock_ahead_s, credential.winner)
    return [str(run["runId"]) for run in service.arm.content(answer).get("value") or [] if run.get("runId")]


def problem(service: Service, name: str) -> str:
    """Why a job has failed, by the service's word and the line of the log that looks like the cause; empty where neither says."""
    try:
        details = read_details(service, name)
        # A pipeline says only that a step has failed.
        reasons = [problem(service, step) for step in steps(service, name, details)]
    except (NotFound, Unavailable):
        return ""
    if reason := next(filter(None, reasons), ""):
        return reason
    error = details.get("error") or {}
    inner = error.get("error") or error
    message = " ".join(str(inner.get("message") or "").split())
    build = next((url for log, url in _logs(details).items() if _BUILD.fullmatch(log)), "")
    program = any(_PROGRAM.fullmatch(log) for log in _logs(details))
    if build and not program:
        try:
            line = fault_line(read_url(service.http, build).decode(errors="replace"))
        except AmlflowError:
            line = ""
        if line:
            # The service's own word is often the same line.
            known = message if line[:_SAME_CHARS] in message else f"{line}. {message}"
            message = f"its environment could not be built: {known}".strip()
    return message


def fault_line(log: str) -> str:
    """The line of a build's log that looks like the cause: the last that names an error, of its last hundred; without the
    time and the word «error» before it."""
    lines = [_TIME.sub("", line.strip()) for line in log.splitlines() if line.strip()][-100:]
    named = [line for line in lines if line.lower().startswith(("error:", "error ", "failed", "pip failed"))]
    near = named or [line for line in lines if _FAULT.search(line)]
    if not near:
        return ""
    line = _WORD.sub("", near[-1]).rstrip(".")
    return line if len(line) <= _LINE_CHARS else f"{line[:_LINE_CHARS]}…"


def _new_parts(service: Service, details: Mapping[str, Any], read: dict[str, int], name: str) -> Iterator[bytes]:
    logs = _logs(details)
    for log in [*_named(logs, _BUILD), *(_named(logs, _PROGRAM) or _named(logs, _OLD))]:
        key = f"{name}/{log}"
        start = read.get(key, 0)
        part = read_url(service.http, logs[log], start)
        if part:
            read[key] = start + len(part)
            yield part


def _named(logs: Mapping[str, str], pattern: re.Pattern[str]) -> list[str]:
    return sorted(log for log in logs if pattern.fullmatch(log))


def _logs(details: Mapping[str, Any]) -> dict[str, str]:
    """The addresses carry their own right; one that is no https address is left alone."""
    found = details.get("logFiles") or {}
    return {str(log): str(url) for log, url in found.items() if urlsplit(str(url)).scheme == "https"}
