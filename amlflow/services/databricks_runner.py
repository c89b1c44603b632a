"""Runs the command of an MLflow Project on a Databricks cluster. amlflow sends a copy of this file there with the project in it.

It runs there without amlflow, on Python 3.8 and later."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import traceback
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

# A line of JSON: the project as a ZIP archive in base64 (or the size of one that lies beside this file or in a volume, in the
# folder that this program is given), the command, its variables, and the beginning of the last line that is printed here, which
# tells the command's exit code.
REQUEST = ""


def main(request: dict[str, Any]) -> int:
    with tempfile.TemporaryDirectory(prefix="project-") as folder:
        with contents(request) as content, zipfile.ZipFile(content) as archive:
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


@contextlib.contextmanager
def contents(request: dict[str, Any]) -> Iterator[IO[bytes]]:
    """The archive, whole."""
    if "project" in request:
        yield io.BytesIO(base64.b64decode(request["project"]))
        return
    folder = Path(sys.argv[1])
    with tempfile.TemporaryFile() as whole:
        for part in sorted(folder.glob("project.zip.*")):
            with part.open("rb") as source:
                shutil.copyfileobj(source, whole, 1 << 20)
        if whole.tell() != request["size"]:
            raise OSError(f"The project in {folder} has {whole.tell()} bytes instead of {request['size']}.")
        whole.seek(0)
        yield whole


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
        run_id = request["variables"]["MLFLOW_RUN_ID"]
        client = MlflowClient()
        # MLflow calls a run finished whose program ends with any exit code.
        if code or client.get_run(run_id).info.status == "RUNNING":
            client.set_terminated(run_id, "FAILED" if code else "FINISHED")
    except Exception as error:
        sys.stdout.write(f"The run could not be closed from the cluster: {error}\n")


if __name__ == "__main__":
    asked = json.loads(REQUEST)
    try:
        exit_code = main(asked)
    except Exception:
        traceback.print_exc(file=sys.stdout)
        exit_code = 1
    end(asked, exit_code)
    sys.stdout.write(f"\n{asked['mark']} {exit_code}\n")
    sys.stdout.flush()
    if exit_code:
        sys.exit(exit_code)
