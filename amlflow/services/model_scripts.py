"""A script that asks a model in the model's own environment, without anything that is set up here for MLflow."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from amlflow import serving
from amlflow.environments.build import Environment
from amlflow.errors import AmlflowError

_TAIL_LINES = 12


def answer(
    environment: Environment,
    script: str,
    arguments: Sequence[Path],
    timeout_s: float,
    late: str,
    failed: str,
    mend: str,
) -> Any:
    """What the script of the scoring app's folder writes into the last of its arguments, as JSON; it runs beside that file.
    Raises `AmlflowError`: `late` where it has not ended in time, `failed` with the end of what it printed where it fails."""
    into = arguments[-1]
    env = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW_", "_MLFLOW_", "PYTHON"))}
    try:
        done = subprocess.run(
            [str(environment.python), "-I", str(Path(serving.__file__).with_name(script)), *map(str, arguments)],
            env={**env, **environment.variables()},
            cwd=into.parent,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=timeout_s,
        )
    except subprocess.TimeoutExpired as error:
        raise AmlflowError(f"{late} after {timeout_s / 60:.0f} minutes.") from error
    if done.returncode != 0 or not into.is_file():
        tail = " ".join(line.strip() for line in done.stderr.splitlines()[-_TAIL_LINES:] if line.strip())
        raise AmlflowError(f"{failed}: {tail[-1500:] or f'exit code {done.returncode}'}", mend)
    return json.loads(into.read_text(encoding="utf-8"))
