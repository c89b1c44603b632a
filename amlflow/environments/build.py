"""Environments made by uv (or conda), once for each content.

Each stands in the cache under the digest of what it was made from. A changed file has another digest; an unchanged one finds
its environment by reading one marker, without any process. A build that was cut leaves no marker, and is made anew.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from amlflow import paths
from amlflow.environments.spec import EnvironmentSpec
from amlflow.errors import AmlflowError, NotFound, Unavailable
from amlflow.locks import locked

Manager = Literal["uv", "local", "conda"]
LOCK_FILE = "amlflow-lock.txt"
_MARKER = "amlflow-complete"
_BIN = "Scripts" if os.name == "nt" else "bin"
_EXE = "python.exe" if os.name == "nt" else "python"


@dataclass(frozen=True, slots=True)
class Environment:
    """An environment to run in. `prefix` is its folder, None for the one that runs amlflow; `created` is False where the
    cache had it."""

    python: Path
    prefix: Path | None
    created: bool

    def variables(self) -> dict[str, str]:
        """What activating it sets."""
        path = os.pathsep.join([str(self.python.parent), os.environ.get("PATH", os.defpath)])
        if self.prefix is None:
            return {"PATH": path}
        return {"PATH": path, "VIRTUAL_ENV": str(self.prefix), "PYTHONNOUSERSITE": "1"}


def ensure(
    spec: EnvironmentSpec, manager: Manager = "uv", report: Callable[[str], None] = lambda line: None
) -> Environment:
    """The environment, made if it is new. Processes that want the same one at once build it once.

    Raises `AmlflowError` naming the requirement that cannot be met, `NotFound` for a Python or conda that is not there,
    `Unavailable` when the package index does not answer."""
    if manager == "local":
        return Environment(Path(sys.executable), None, False)
    version = "" if spec.python else f"-py{sys.version_info[0]}{sys.version_info[1]}"
    prefix = paths.environments() / f"{manager}-{spec.digest()}{version}"
    ready = Environment(prefix / _BIN / _EXE, prefix, False)
    if (prefix / _MARKER).exists():
        return ready
    with locked(prefix.with_suffix(".lock")):
        if (prefix / _MARKER).exists():
            return ready
        shutil.rmtree(prefix, ignore_errors=True)
        report(f"Making the environment of {spec.source} ({len(spec.requirements)} requirements)…")
        try:
            (_build_with_conda if manager == "conda" else _build_with_uv)(spec, prefix, report)
            (prefix / _MARKER).touch()
        except BaseException:
            shutil.rmtree(prefix, ignore_errors=True)
            raise
    return Environment(prefix / _BIN / _EXE, prefix, True)


def uv_binary() -> str:
    """uv, which comes with amlflow."""
    from uv import find_uv_bin

    try:
        return str(find_uv_bin())
    except FileNotFoundError:
        found = shutil.which("uv")
    if found is None:
        raise NotFound("There is no uv on this machine.", "Install it with `pip install uv`.")
    return found


def _build_with_uv(spec: EnvironmentSpec, prefix: Path, report: Callable[[str], None]) -> None:
    uv = uv_binary()
    _venv(uv, spec, prefix, report)
    lines = [*spec.build_requirements, *spec.requirements]
    if not lines:
        return
    python = prefix / _BIN / _EXE
    # The lines go in by a file, not by arguments: they may carry credentials of a private index.
    file = prefix / "requirements.in"
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    file.chmod(0o600)
    done = _run([uv, "pip", "install", "--python", str(python), "--requirement", str(file)])
    file.unlink()
    if done.returncode != 0:
        raise install_error(spec, done.stderr)
    frozen = _run([uv, "pip", "freeze", "--python", str(python)])
    (prefix / LOCK_FILE).write_text(frozen.stdout, encoding="utf-8")


def _venv(uv: str, spec: EnvironmentSpec, prefix: Path, report: Callable[[str], None]) -> None:
    wanted = spec.python or sys.executable
    done = _run([uv, "venv", "--quiet", "--no-project", "--python", wanted, str(prefix)])
    if done.returncode == 0:
        return
    minor = ".".join(spec.python.split(".")[:2])
    if re.fullmatch(r"\d+\.\d+\.\d+", spec.python):
        if sys.version_info[:2] == tuple(int(part) for part in minor.split(".")):
            again = sys.executable
        else:
            again = minor
        done = _run([uv, "venv", "--quiet", "--no-project", "--python", again, str(prefix)])
        if done.returncode == 0:
            report(f"Python {spec.python} is not on this machine; another {minor} is used.")
            return
    listed = _run([uv, "python", "list", "--only-installed"]).stdout.splitlines()
    known = sorted({line.split("-")[1] for line in listed if line.count("-") > 1})
    raise NotFound(
        f"{spec.source} asks for Python {spec.python or sys.version.split()[0]}, which is not on this machine and could not be "
        f"downloaded. It has: {', '.join(known) or 'none'}.",
        f"Install it, with `uv python install {minor}` for example, or run with --env-manager local.",
    )


def _build_with_conda(spec: EnvironmentSpec, prefix: Path, report: Callable[[str], None]) -> None:
    conda = os.environ.get("CONDA_EXE") or next(
        (found for name in ("mamba", "micromamba", "conda") if (found := shutil.which(name))), None
    )
    if not conda:
        raise NotFound(
            f"{spec.source} has packages that only conda has, and there is no conda, mamba or micromamba on this machine.",
            "Install one (https://conda.io), keep to PyPI packages, or run with --env-manager local.",
        )
    if spec.conda_file is None:
        raise AmlflowError(f"{spec.source} is not a conda file.", "Leave out --env-manager conda.")
    verb = ["create"] if Path(conda).name.startswith("micromamba") else ["env", "create"]
    done = _run([conda, *verb, "--yes", "--quiet", "--prefix", str(prefix), "--file", str(spec.conda_file)])
    if done.returncode != 0:
        lines = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        raise AmlflowError(f"conda could not make the environment of {spec.source}: {' '.join(lines[-4:])}")


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    # Of what stands around us only the environment that is active here must not leak into the one being made.
    env = {key: value for key, value in os.environ.items() if key not in ("VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME")}
    return subprocess.run(
        command, env={**env, "NO_COLOR": "1"}, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )


def install_error(spec: EnvironmentSpec, stderr: str) -> AmlflowError:
    text = "\n".join(
        line for line in stderr.splitlines() if not line.startswith(("warning:", "Using Python", "Resolved"))
    )
    cause = _cause(text)
    low = text.lower()
    if any(
        word in low for word in ("dns error", "connection refused", "timed out", "could not connect", "error sending")
    ):
        return Unavailable(
            f"The packages of {spec.source} could not be fetched: {cause}", "Check the network and the package index."
        )
    return AmlflowError(
        f"The environment of {spec.source} cannot be made: {cause}",
        f"Correct the requirement in {spec.source}.",
    )


def _cause(text: str) -> str:
    """uv's own reason, in one line: from its arrow on where there is one."""
    flat = " ".join(re.sub(r"[╰─▶│×├]+", " ", text).split())
    for start in ("Because", "error:", "Failed"):
        if start in flat:
            flat = flat[flat.index(start) :]
            break
    flat = flat.removeprefix("error: ")
    return flat[:600] + ("…" if len(flat) > 600 else "")
