"""Runs the command of an MLflow Project on a Databricks cluster. amlflow sends a copy of this file there with the project in it.

It runs there without amlflow, on Python 3.8 and later."""

from __future__ import annotations

import base64
import io
import json
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

# A line of JSON: the project as a ZIP archive in base64, the command, its variables, and the beginning of the last line that is
# printed here, which tells the command's exit code.
REQUEST = ""


def main(request: dict[str, Any]) -> int:
    with tempfile.TemporaryDirectory(prefix="project-") as folder:
        with zipfile.ZipFile(io.BytesIO(base64.b64decode(request["project"]))) as archive:
            for item in archive.infolist():
                mode = item.external_attr >> 16
                path = Path(archive.extract(item, folder))
                if mode:
                    path.chmod(mode & 0o777)
        env = {**os.environ, **credentials(), **request["variables"]}
        # `python` in the command is the cluster's own, with the libraries that were installed for this run.
        env["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), env.get("PATH", "")])
        command = ["/bin/bash", "-c", request["command"]]
        process = subprocess.Popen(command, cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        assert process.stdout is not None
        for line in process.stdout:
            sys.stdout.write(line.decode("utf-8", "replace"))
            sys.stdout.flush()
        code = process.wait()
    return code if code >= 0 else 128 - code


def credentials() -> dict[str, str]:
    """What a program of the command signs in to MLflow here with: in a process of its own it does not find it by itself."""
    if os.environ.get("DATABRICKS_HOST") and os.environ.get("DATABRICKS_TOKEN"):
        return {}
    try:
        from databricks.sdk.core import Config

        config = Config()
        kind, _, token = config.authenticate().get("Authorization", "").partition(" ")
        return {"DATABRICKS_HOST": config.host, "DATABRICKS_TOKEN": token} if kind == "Bearer" and token else {}
    except Exception as error:
        sys.stdout.write(f"The program finds no way to sign in to Databricks by itself: {error}\n")
        return {}


def end(request: dict[str, Any], code: int) -> None:
    """Close the run, whoever watches it."""
    try:
        from mlflow.tracking import MlflowClient

        os.environ.update(request["variables"])
        status = "FINISHED" if code == 0 else "FAILED"
        client = MlflowClient()
        if client.get_run(request["variables"]["MLFLOW_RUN_ID"]).info.status == "RUNNING":
            client.set_terminated(request["variables"]["MLFLOW_RUN_ID"], status)
    except Exception as error:
        sys.stdout.write(f"The run could not be closed from the cluster: {error}\n")


if __name__ == "__main__":
    asked = json.loads(REQUEST)
    exit_code = main(asked)
    end(asked, exit_code)
    sys.stdout.write(f"\n{asked['mark']} {exit_code}\n")
    sys.stdout.flush()
    if exit_code:
        sys.exit(exit_code)
