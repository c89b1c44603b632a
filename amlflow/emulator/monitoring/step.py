"""The program of a monitor's step: `python -m amlflow.emulator.monitoring.step`, with the variables of a job.

It fails where a signal has no data or cannot be computed, with the reason as the last line of its log; a threshold that was
crossed fails nothing, as in the service. Mail is not sent: what the service would send is in the log and in the tags of the
runs.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from amlflow.emulator.monitoring import data, recording, signals
from amlflow.emulator.monitoring.signals import Row
from amlflow.errors import AmlflowError
from amlflow.workspaces.azure.workspace import AzureWorkspace


def main() -> int:
    env = os.environ
    definition: dict[str, Any] = json.loads(env["AZURE_ML_INPUT_definition"])
    output = Path(env[f"AZURE_ML_OUTPUT_{recording.OUTPUT}"])
    try:
        with tempfile.TemporaryDirectory(prefix="monitor-") as scratch:
            found = _computed(definition, Path(scratch))
        _record(definition, found, output)
    except AmlflowError as error:
        _say(error.paragraph())
        return 1
    return 0


def _computed(definition: Mapping[str, Any], scratch: Path) -> dict[str, list[Row]]:
    """The rows of each signal. Every signal is tried before one that fails fails the step."""
    found: dict[str, list[Row]] = {}
    failed: AmlflowError | None = None
    for index, (name, signal) in enumerate(definition["signals"].items()):
        if signal["signalType"] not in signals.SUPPORTED:
            _say(f"The signal '{name}' is {signal['signalType']}, which the emulator does not compute: it is left out.")
            continue
        try:
            found[name] = _rows(name, signal, definition["time"], scratch / str(index))
        except AmlflowError as error:
            _say(f"The signal '{name}': {error.paragraph()}")
            failed = failed or AmlflowError(f"The signal '{name}' failed. {error.paragraph()}")
    if failed is not None:
        raise failed
    if not found:
        raise AmlflowError("The monitor has no signal that the emulator computes.")
    return found


def _rows(name: str, signal: Mapping[str, Any], time_s: float, scratch: Path) -> list[Row]:
    now_ms = round(time_s * 1000)

    def say(line: str) -> None:
        _say(f"The signal '{name}': {line}")

    if len(signal["productionData"]) > 1:
        say("There are several production data; the first are taken.")
    sides = [
        data.read(given, os.environ.get(f"AZURE_ML_INPUT_{given['input']}", ""), scratch / side, now_ms, say)
        for side, given in (("production", signal["productionData"][0]), ("reference", signal["referenceData"]))
    ]
    say(f"{sides[0].count} rows of production data, {sides[1].count} of reference data.")
    return signals.compute(signal, sides[0], sides[1], say)


def _record(definition: Mapping[str, Any], found: Mapping[str, Sequence[Row]], output: Path) -> None:
    workspace, run_id = _workspace(), os.environ["AZUREML_RUN_ID"]
    root_id = workspace.get_run(run_id).tags["mlflow.rootRunId"]
    recorder = recording.Recorder(workspace, definition["monitor"], definition["time"], run_id, root_id)
    for name, rows in found.items():
        recorder.signal(name, definition["signals"][name]["signalType"], rows, output)
    recording.write_manifest([*found], output)
    breached = {name: crossed for name, rows in found.items() if (crossed := [row for row in rows if row.crossed])}
    told = [name for name in breached if definition["signals"][name].get("mode") != "Disabled"]
    emails = definition["emails"] if told else []
    if breached:
        recorder.breach(breached, emails)
    for name, rows in breached.items():
        for row in rows:
            _say(
                f"The signal '{name}': {row.metric} of {row.group or 'all'} is {row.value:.6g}, against {row.threshold:.6g}."
            )
    if emails:
        _say(f"Mail to {', '.join(emails)} would say that {', '.join(told)} crossed their thresholds; none is sent.")


def _workspace() -> AzureWorkspace:
    env = os.environ
    scope = [env[f"AZUREML_ARM_{part}"] for part in ("SUBSCRIPTION", "RESOURCEGROUP", "WORKSPACE_NAME")]
    return AzureWorkspace(scope[0], scope[1], scope[2], urlsplit(env["MLFLOW_TRACKING_URI"]).netloc)


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    raise SystemExit(main())
