"""`python -m amlflow_journal.job LINE`: a shell line within an Azure ML job, its MLflow calls led through a journal.

What an earlier try of the job has left in `outputs/` is there again before the line runs. Azure ML's server answers 404 to what
MLflow 3 asks of it for logged models; the journal answers in its place, and sends on what the server takes. The line runs as it
is where there is no MLflow, or no job around it.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional
from urllib.parse import quote, urlsplit

from . import attach, azure, outputs
from .batches import AZURE_ML
from .drainer import Drainer
from .folder import Journal
from .rest import RestServer

_TRACKING, _TOKEN, _RUN = "MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_TOKEN", "MLFLOW_RUN_ID"
_V1, _V2, _HISTORY = "/mlflow/v1.0/", "/mlflow/v2.0/", "/history/v1.0/"
FLUSH_TIMEOUT_S = 600.0


def behind_of(env: Mapping[str, str]) -> Optional[Dict[str, str]]:
    """The journal's variables for the workspace that the job's own name; None where they name none."""
    parts = urlsplit(env.get(_TRACKING, ""))
    if parts.scheme != "azureml" or not env.get(_TOKEN) or _V1 not in parts.path + "/":
        return None
    prefix = parts.path.rstrip("/").replace(_V1, _V2, 1)
    return {attach.BEHIND: f"https://{parts.netloc}", attach.PREFIX: prefix, attach.TOKEN: env[_TOKEN]}


def run(line: str, env: Mapping[str, str]) -> int:
    """Run the line to its end and send what it has logged; its exit code, 1 where something could not be sent."""
    behind = behind_of(env)
    # MLflow brings it.
    if behind is None or importlib.util.find_spec("requests") is None:
        return _finished(line, env)
    token = behind[attach.TOKEN]

    def service(prefix: str) -> RestServer:
        return RestServer(behind[attach.BEHIND], lambda: {"Authorization": f"Bearer {token}"}, prefix=prefix)

    tracking, history = service(behind[attach.PREFIX]), service(behind[attach.PREFIX].replace(_V2, _HISTORY, 1))
    if env.get(_RUN):
        root = f"{env[_TRACKING]}/runs/{quote(env[_RUN], safe='')}/artifacts"
        outputs.restore(azure.AzureMlSink(root, tracking, history), Path.cwd(), _tell)
    if importlib.util.find_spec("mlflow") is None:
        return _finished(line, env)
    folder = tempfile.mkdtemp(prefix="amlflow-journal-")
    journal = Journal(Path(folder))
    journal.begin(behind[attach.BEHIND])
    openers = azure.opener(history)
    drainer = Drainer(journal, tracking, AZURE_ML, openers=openers, tell=_tell)
    drainer.start()
    own = {_TRACKING: "amlflow:", "MLFLOW_REGISTRY_URI": "amlflow:", attach.JOURNAL: folder, attach.DRAINED: "1"}
    try:
        code = _finished(line, {**env, **behind, **own})
        drainer.flush(None, FLUSH_TIMEOUT_S)
        left = [run for run in journal.runs() if run.pending_bytes()]
        for one in left:
            _tell(f"What run {one.id} has logged could not be sent whole: {(one.problem() or {}).get('reason', '')}.")
        for one in journal.runs():
            for refused in one.refused():
                _tell(f"The workspace refused a part of run {one.id}: {refused['reason']}")
        return code or (1 if left else 0)
    finally:
        drainer.stop(timeout_s=5.0)
        shutil.rmtree(folder, ignore_errors=True)


def _finished(line: str, env: Mapping[str, str]) -> int:
    shell = shutil.which("bash") or "/bin/sh"
    child = subprocess.Popen([shell, "-c", line], env=dict(env))

    def pass_on(number: int, _frame: Any) -> None:
        child.send_signal(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, pass_on)
    code = child.wait()
    return code if code >= 0 else 128 - code


def _tell(sentence: str) -> None:
    sys.stderr.write(f"amlflow: {sentence}\n")


def main(arguments: List[str]) -> int:
    if len(arguments) != 1:
        _tell("The one argument is the line to run.")
        return 2
    return run(arguments[0], os.environ)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
