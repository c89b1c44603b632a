"""From the variables that a program is started with to its journal.

AMLFLOW_JOURNAL         the journal's folder
AMLFLOW_BEHIND          the address of MLflow's REST API of the workspace; none offline
AMLFLOW_BEHIND_PREFIX   what stands before its routes, in Azure ML
AMLFLOW_BEHIND_TOKEN    the token for it; without one MLflow's own variables say who asks
AMLFLOW_DRAINED         1 where another process sees to the sending
AMLFLOW_DURABILITY      process, second or write
AMLFLOW_RANK_ZERO       1 where only the first process of a distributed program is to log
"""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Callable, Dict, Mapping, Optional

from .errors import Refused, Unreachable
from .folder import Journal, write_json
from .rest import Behind, RestServer
from .router import Router
from .segments import DURABILITIES

JOURNAL, BEHIND, PREFIX, TOKEN = "AMLFLOW_JOURNAL", "AMLFLOW_BEHIND", "AMLFLOW_BEHIND_PREFIX", "AMLFLOW_BEHIND_TOKEN"
DRAINED, DURABILITY, RANK_ZERO = "AMLFLOW_DRAINED", "AMLFLOW_DURABILITY", "AMLFLOW_RANK_ZERO"
# As torchrun, Open MPI, MPICH and Intel MPI, and Slurm number the processes of a program.
_RANKS = ("RANK", "OMPI_COMM_WORLD_RANK", "PMI_RANK", "SLURM_PROCID")

_routers: Dict[str, Router] = {}
_by_key: Dict[str, Router] = {}


def attached(environment: Optional[Mapping[str, str]] = None) -> Router:
    """The router of the journal that the variables name. Raises `RuntimeError` where they name none."""
    env = os.environ if environment is None else environment
    folder = env.get(JOURNAL, "")
    if not folder:
        raise RuntimeError(
            "The tracking URI amlflow: needs a journal to write to. Run the program with `amlflow track -- …`, or install "
            "amlflow in its environment."
        )
    if folder not in _routers:
        journal = Journal(Path(folder))
        behind = behind_of(env)
        if env.get(RANK_ZERO) == "1" and rank(env) > 0:
            return register(folder, Router(_nowhere(journal, behind, env), None, offline=True))
        wake = (lambda: None) if env.get(DRAINED) == "1" else _starter(journal, env)
        register(folder, Router(journal, behind, durability=durability(env), wake=wake))
    return _routers[folder]


def register(name: str, router: Router) -> Router:
    """Make a router known under a name, and to the addresses that it gives out."""
    _routers[name] = router
    _by_key[router.locations.key] = router
    atexit.register(router.sync)
    return router


def known(name: str) -> Optional[Router]:
    return _routers.get(name)


def has_key(key: str) -> bool:
    """Whether addresses with this key are of a journal that this process uses."""
    return key in _by_key


def owner(artifact_uri: str) -> Router:
    """The router whose address it is."""
    key = artifact_uri.partition("://")[2].split("/")[0]
    return _by_key.get(key) or attached()


def behind_of(env: Mapping[str, str]) -> Optional[Behind]:
    """MLflow's REST API of the workspace, as the variables describe it; None offline."""
    url = env.get(BEHIND, "")
    if not url:
        return None
    token = env.get(TOKEN, "")
    headers = (lambda: {"Authorization": f"Bearer {token}"}) if token else None
    return RestServer(url, headers, env.get(PREFIX, ""))


def durability(env: Mapping[str, str]) -> str:
    asked = env.get(DURABILITY, "process")
    return asked if asked in DURABILITIES else "process"


def rank(env: Mapping[str, str]) -> int:
    """The number of this process among those of a distributed program; 0 for the first, and for a program that is not one."""
    for name in _RANKS:
        value = env.get(name, "")
        if value.isdigit():
            return int(value)
    return 0


def _nowhere(journal: Journal, behind: Optional[Behind], env: Mapping[str, str]) -> Journal:
    """A journal that is thrown away, for the processes of a distributed program that are not to log."""
    temporary = Journal(Path(tempfile.mkdtemp(prefix="amlflow-rank-")))
    atexit.register(shutil.rmtree, temporary.root, ignore_errors=True)
    run_id = env.get("AMLFLOW_RUN", "") or env.get("MLFLOW_RUN_ID", "")
    base = journal.run(run_id).base() if run_id else None
    if run_id and base is None and behind is not None:
        # What the first process had logged has been sent already, and its journal is gone.
        with contextlib.suppress(Refused, Unreachable):
            base = {"run": behind.request("GET", "/api/2.0/mlflow/runs/get", {"run_id": run_id})["run"], "fresh": False}
    if base:
        folder = temporary.run(run_id)
        folder.path.mkdir(parents=True)
        info = {**base["run"]["info"], "artifact_uri": str(temporary.root / "artifacts")}
        write_json(folder.path / "run.json", {**base, "run": {**base["run"], "info": info}})
    for name, entry in journal.experiments().items():
        temporary.note_experiment(name, entry["experiment_id"], entry["artifact_location"])
    return temporary


def _starter(journal: Journal, env: Mapping[str, str]) -> Callable[[], None]:
    """Starts a process that sends what is written here, beside this one and for a while after it."""
    package = __name__.rpartition(".")[0]
    # The folder that this package was found in may be on PYTHONPATH alone.
    found_in = str(Path(__file__).resolve().parents[package.count(".") + 1])
    command = [sys.executable, "-m", f"{package}.drainer", "--journal", str(journal.root)]
    command += ["--behind", env.get(BEHIND, ""), "--prefix", env.get(PREFIX, ""), "--parent", str(os.getpid())]

    def start() -> None:
        if env.get(BEHIND):
            path = os.pathsep.join(filter(None, [found_in, env.get("PYTHONPATH", "")]))
            start_detached(command, {**env, "PYTHONPATH": path})

    return start


def start_detached(command: "list[str]", env: Mapping[str, str]) -> None:
    """Start a process that outlives this one, and whose output nobody reads."""
    child = subprocess.Popen(
        command,
        env=dict(env),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    # Nobody here will wait for it, and Popen warns of that when it is collected.
    child.returncode = 0
