"""Monitors that this machine keeps: what each looks at and when, and the lines by which cron or a CI service runs it."""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from amlflow.errors import AmlflowError, NotFound, UsageError
from amlflow.journal.folder import write_text
from amlflow.monitoring import thresholds, windows
from amlflow.monitoring.timing import Timing
from amlflow.services import alerts, baselines, deployment, gates, monitoring, performing
from amlflow.services.monitored_data import DataRequest
from amlflow.services.monitoring import DriftRequest
from amlflow.services.performing import PerformanceRequest
from amlflow.workspaces.base import Workspace
from amlflow.workspaces.resolve import without_login

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")
_FOLDER = "monitors"
_GITHUB = """on:
  schedule:
    - cron: "{when}"
jobs:
  monitor:
    runs-on: self-hosted
    steps:
      - run: {command}
"""
_PIPELINES = """schedules:
  - cron: "{when}"
    displayName: monitor
    branches:
      include: [main]
    always: true
steps:
  - script: {command}
"""


@dataclass(frozen=True, slots=True)
class Monitor:
    """`webhook` is told when something crossed; `fail` says that this ends `monitor run` with 6, as `fail_if` does."""

    name: str
    request: DriftRequest | PerformanceRequest
    timing: Timing
    webhook: str = ""
    fail: bool = False
    fail_if: Sequence[str] = ()
    experiment: str = ""
    created_ms: int = 0

    @property
    def kind(self) -> str:
        return "drift" if isinstance(self.request, DriftRequest) else "performance"

    def record(self) -> dict[str, Any]:
        """What may be shown: of the webhook its host alone."""
        data = self.request.data
        return {
            "name": self.name,
            "kind": self.kind,
            "data": data.name or ", ".join(data.files),
            "when": self.timing.every or self.timing.cron,
            "webhook": alerts.shown(self.webhook) if self.webhook else "",
            "fail": self.fail,
            "fail_if": list(self.fail_if),
            "experiment": self.experiment or f"{self.name}-monitoring",
            "created_ms": self.created_ms,
            "request": asdict(self.request),
        }


@dataclass(frozen=True, slots=True)
class Lines:
    """How to run it: a line of a crontab, and the parts of a workflow of GitHub Actions and of an Azure pipeline."""

    cron: str
    github: str
    azure_pipelines: str


def check_name(name: str) -> None:
    """The names that schedules of Azure ML may have too. Raises `UsageError`."""
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} cannot name a monitor.",
            "A name has letters, digits, '_' and '-', and begins with one of the first two.",
        )


def create(workspace: Workspace, monitor: Monitor, replacing: bool) -> Monitor:
    """Keep it. Raises `UsageError` for what could never run, `NotFound` for no such endpoint, `AmlflowError` where there is a
    monitor of that name and it is not to be replaced."""
    check(monitor)
    data = monitor.request.data
    if data.name and not data.files:
        deployment.find_endpoint(workspace, data.name)
    file = _file(workspace, monitor.name)
    if file.exists() and not replacing:
        raise AmlflowError(f"There is a monitor {monitor.name!r}.", "Add --replace, or choose another name.")
    made = replace(monitor, request=_placed(monitor), created_ms=time.time_ns() // 1_000_000)
    content = {**asdict(made), "kind": made.kind}
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    # The webhook's address is a secret: the file is its owner's alone.
    write_text(file, json.dumps(content, indent=1))
    return made


def check(monitor: Monitor) -> None:
    """What can be checked before there are data. Raises `UsageError`."""
    check_name(monitor.name)
    request, data = monitor.request, monitor.request.data
    if not data.name and not data.files:
        raise UsageError("There are no data to look at.", "Name --endpoint E, or files with --data FILE.")
    if data.window:
        windows.duration_ms(data.window, "--window")
    if data.every:
        windows.duration_ms(data.every, "--split")
    gates.read(monitor.fail_if, monitor.kind == "performance", of_drift=monitor.kind == "drift")
    if monitor.webhook:
        alerts.check(monitor.webhook)
    if isinstance(request, DriftRequest):
        monitoring.check_kinds(request.kinds)
        thresholds.parse(request.metrics, request.thresholds, None)
        if not data.name and not request.baseline:
            raise UsageError("There is nothing to compare with.", "Name a file, a run or a model with --baseline.")
        return
    if monitor.fail:
        performing.check_can_fail(request, monitor.fail_if)
    if request.task not in ("", *performing.TASKS):
        raise UsageError(f"There is no task {request.task!r}.", f"It is {' or '.join(performing.TASKS)}.")
    if request.average not in ("", *performing.AVERAGES):
        raise UsageError(f"There is no average {request.average!r}.", f"It is {' or '.join(performing.AVERAGES)}.")


def get(workspace: Workspace, name: str) -> Monitor:
    """Raises `NotFound`, naming the nearest, and `AmlflowError` for one that somebody has damaged."""
    return _read(_found(workspace, name))


def listing(workspace: Workspace, warn: Callable[[str], None]) -> list[Monitor]:
    """`warn` is told of those that cannot be read."""
    found = []
    for name in names(workspace):
        try:
            found.append(_read(_file(workspace, name)))
        except AmlflowError as error:
            warn(error.paragraph())
    return found


def names(workspace: Workspace) -> list[str]:
    """Of all that are kept, whether they can be read or not."""
    return sorted(file.stem for file in (workspace.state_folder() / _FOLDER).glob("*.json"))


def delete(workspace: Workspace, name: str) -> None:
    """Also where it cannot be read. Its runs stay. Raises `NotFound`, naming the nearest."""
    _found(workspace, name).unlink(missing_ok=True)


def _found(workspace: Workspace, name: str) -> Path:
    check_name(name)
    file = _file(workspace, name)
    if not file.is_file():
        raise NotFound(
            f"There is no monitor {name!r} in {workspace.name!r}.",
            "`amlflow monitor list` shows those that there are; `amlflow monitor create` makes one.",
            name=name,
            known=names(workspace),
        )
    return file


def lines(workspace: Workspace, monitor: Monitor) -> Lines:
    """Raises `UsageError` where cron cannot say when."""
    when = monitor.timing.expression
    reference = without_login(str(workspace.reference))
    command = ["amlflow", "-w", reference, "monitor", "run", monitor.name]
    beside = Path(sys.executable).with_name("amlflow")
    own = [str(beside) if beside.exists() else "amlflow", *command[1:]]
    home = os.environ.get("AMLFLOW_HOME")
    setting = f"AMLFLOW_HOME={shlex.quote(str(Path(home).expanduser().absolute()))} " if home else ""
    # To cron a percent sign is the end of the line.
    local = f"{setting}{shlex.join(own)}".replace("%", "\\%")
    quoted = json.dumps(shlex.join(command))
    return Lines(
        f"{when} {local}", _GITHUB.format(when=when, command=quoted), _PIPELINES.format(when=when, command=quoted)
    )


def _placed(monitor: Monitor) -> DriftRequest | PerformanceRequest:
    """With the paths of files made whole, because cron begins elsewhere; and of an endpoint, without a window, what came since
    the last time."""
    request = monitor.request
    data = replace(
        request.data,
        files=[str(Path(file).expanduser().absolute()) for file in request.data.files],
        window=request.data.window or (monitor.timing.every if not request.data.files else ""),
    )
    is_file = baselines.names_files(request.baseline)
    named = str(Path(request.baseline).expanduser().absolute()) if is_file else request.baseline
    if isinstance(request, PerformanceRequest):
        return replace(request, data=data, baseline=named, truth=str(Path(request.truth).expanduser().absolute()))
    return replace(request, data=data, baseline=named)


def _read(file: Path) -> Monitor:
    """Raises `AmlflowError` for a file that somebody has damaged."""
    try:
        content: Mapping[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        request = {**content["request"], "data": DataRequest(**content["request"]["data"])}
        kept = {key: value for key, value in content.items() if key != "kind"}
        made: DriftRequest | PerformanceRequest = (
            DriftRequest(**request) if content["kind"] == "drift" else PerformanceRequest(**request)
        )
        return Monitor(**{**kept, "request": made, "timing": Timing(**content["timing"])})
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise AmlflowError(
            f"The monitor {file.stem!r} cannot be read from {str(file)!r} ({type(error).__name__}).",
            f"Make it anew with `amlflow monitor create {file.stem} --replace …`, or forget it with "
            f"`amlflow monitor delete {file.stem}`.",
        ) from error


def _file(workspace: Workspace, name: str) -> Path:
    return workspace.state_folder() / _FOLDER / f"{name}.json"
