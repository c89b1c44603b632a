"""Azure ML's inference server with a scoring script, in the environment of the deployment: a process behind a socket that only
this user can reach, because the server itself asks nobody for a key."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from amlflow import processes
from amlflow.emulator.running.doors import Door
from amlflow.emulator.running.environment import base_variables

_POLL_S = 0.1
_END_S = 10.0
_PROBE_S = 30.0
# The note of a server, and what stands before it while the server has not answered yet.
_STATE = ".script.json"
_COMING = ".new"


class NotStarted(Exception):
    """The server ended, or did not answer in time."""


@dataclass(frozen=True, slots=True)
class Script:
    """What a server runs: the script in its folder, the model's folder, and the variables that it sees, those of its environment
    among them."""

    folder: Path
    name: str
    model: Path
    variables: Mapping[str, str]


class InferenceServers:
    """One process a deployment, noted in `root` so that an emulator after this one finds it."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def start(self, name: str, script: Script, log: Path, timeout_s: float) -> Door:
        """Bring it up beside one that runs under that name already, and end that one then. Raises `NotStarted`."""
        fresh = f"{name}{_COMING}"
        self._end(fresh)
        door = Door(path=str(Path(tempfile.mkdtemp(prefix="amlflow-")) / "s"))
        process = self._launched(script, door, log)
        state = {"pid": process.pid, "started": processes.started(process.pid), "path": door.path}
        self._file(fresh).write_text(json.dumps(state), encoding="utf-8")
        try:
            self._wait(process, door, timeout_s)
        except BaseException:
            self._end(fresh)
            raise
        finally:
            # It is meant to outlive an emulator that is killed, of which Popen would warn.
            process.returncode = 0
        before = self._noted(name)
        self._file(fresh).replace(self._file(name))
        _stop(before)
        return door

    def running(self, name: str) -> Door | None:
        """The server of that name, by an emulator before this one perhaps."""
        state = self._noted(name)
        if state and processes.started(int(str(state["pid"]))) == state["started"]:
            return Door(path=str(state["path"]))
        return None

    def stop(self, name: str) -> None:
        """End it, also where it is on its way up."""
        self._end(f"{name}{_COMING}")
        self._end(name)

    def close(self) -> None:
        for file in self._root.glob(f"*{_STATE}"):
            self._end(file.name.removesuffix(_STATE))

    def _end(self, name: str) -> None:
        _stop(self._noted(name))
        self._file(name).unlink(missing_ok=True)

    @staticmethod
    def _launched(script: Script, door: Door, log: Path) -> subprocess.Popen[bytes]:
        env = {
            **base_variables(),
            **script.variables,
            "AML_APP_ROOT": str(script.folder),
            "AZUREML_ENTRY_SCRIPT": str(script.folder / script.name),
            "AZUREML_MODEL_DIR": str(script.model),
            # The server keeps a socket of its own there, as in a container that is nobody else's.
            "HOME": str(Path(door.path).parent),
            "PYTHONUNBUFFERED": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        python = Path(shutil.which("python", path=env.get("PATH")) or "python")
        command = [str(python), "-m", "gunicorn", "--bind", f"unix:{door.path}", "--workers", "1", "--timeout", "300"]
        with log.open("ab") as sink:
            return subprocess.Popen(
                [*command, "azureml_inference_server_http.server.entry:app"],
                cwd=script.folder,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                start_new_session=True,
            )

    @staticmethod
    def _wait(process: subprocess.Popen[bytes], door: Door, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if process.poll() is not None:
                raise NotStarted(f"The inference server ended with exit code {process.returncode}.")
            connection = door.connection(_PROBE_S)
            with contextlib.suppress(OSError, ValueError), contextlib.closing(connection):
                connection.request("GET", "/")
                if connection.getresponse().status == 200:
                    return
            time.sleep(_POLL_S)
        raise NotStarted(f"The inference server has not answered its probe within {timeout_s:.0f} s.")

    def _noted(self, name: str) -> dict[str, object] | None:
        try:
            found = json.loads(self._file(name).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return found if isinstance(found, dict) else None

    def _file(self, name: str) -> Path:
        return self._root / f"{name}{_STATE}"


def _stop(state: Mapping[str, object] | None) -> None:
    if state is None:
        return
    pid = int(str(state["pid"]))
    if processes.started(pid) == state["started"]:
        _kill(pid)
    shutil.rmtree(Path(str(state["path"])).parent, ignore_errors=True)


def _kill(pid: int) -> None:
    import psutil

    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        family = [process, *process.children(recursive=True)]
        process.terminate()
        for left in psutil.wait_procs(family, timeout=_END_S)[1]:
            with contextlib.suppress(psutil.Error):
                left.kill()
