"""Images without a container engine: the steps of a Dockerfile, carried out with a folder in the place of the root.

COPY, RUN, ENV and CMD have their effect; absolute paths below `/app` and `/opt` are led into the folder. The base is not pulled:
its programs are this machine's. What only a container has (USER, EXPOSE, HEALTHCHECK) is read over.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from amlflow.emulator.running.environment import base_variables

_BELOW = re.compile(r"(?<![\w./:-])/(app|opt)(?=/|\b)")
_READ_OVER = ("FROM", "USER", "EXPOSE", "HEALTHCHECK", "LABEL", "WORKDIR", "ARG", "STOPSIGNAL")


class BuildFailed(Exception):
    """The message names the step, as the service's log does."""


@dataclass(frozen=True, slots=True)
class Built:
    """A command and its environment variables, with all paths in place."""

    command: list[str]
    variables: Mapping[str, str]

    def record(self) -> dict[str, Any]:
        return {"command": self.command, "variables": dict(self.variables)}


def carry_out(context: Path, dockerfile: str, root: Path, say: Callable[[str], None]) -> Built:
    """Raises `BuildFailed`; the folder is gone then."""
    try:
        text = (context / dockerfile).read_text(encoding="utf-8")
    except OSError as error:
        raise BuildFailed(
            f"unable to prepare context: unable to evaluate symlinks in Dockerfile path: {error}"
        ) from error
    steps, command, variables = list(_steps(text)), list[str](), dict[str, str]()
    root.mkdir(parents=True)
    try:
        for number, (instruction, value) in enumerate(steps, 1):
            say(f"Step {number}/{len(steps)} : {instruction} {value}")
            if instruction == "COPY":
                _copy(context, root, value)
            elif instruction == "RUN":
                _run(_below(value, root), value, {**base_variables(), **variables}, root, say)
            elif instruction == "ENV":
                variables |= dict(word.split("=", 1) for word in shlex.split(value) if "=" in word)
            elif instruction == "CMD":
                command = [_below(word, root) for word in json.loads(value)]
            elif instruction not in _READ_OVER:
                raise BuildFailed(f"Dockerfile: the emulator cannot carry out {instruction}.")
        _place(root)
    except (ValueError, OSError) as error:
        shutil.rmtree(root, ignore_errors=True)
        raise BuildFailed(f"Dockerfile: {error}") from error
    except BaseException:
        shutil.rmtree(root, ignore_errors=True)
        raise
    return Built(command, variables)


def _steps(text: str) -> Iterator[tuple[str, str]]:
    for line in text.replace("\\\n", " ").splitlines():
        if line.strip() and not line.lstrip().startswith("#"):
            instruction, _, value = line.strip().partition(" ")
            yield instruction.upper(), value.strip()


def _copy(context: Path, root: Path, value: str) -> None:
    source, target = value.split()
    found, placed = (context / source).resolve(), root / target.lstrip("/")
    if not found.is_relative_to(context.resolve()) or not placed.resolve().is_relative_to(root.resolve()):
        raise BuildFailed(f"COPY failed: forbidden path outside the build context: {source}")
    if not found.exists():
        raise BuildFailed(f"COPY failed: file not found in build context: stat {source}: file does not exist")
    placed.parent.mkdir(parents=True, exist_ok=True)
    if found.is_dir():
        shutil.copytree(found, placed, dirs_exist_ok=True)
    else:
        shutil.copyfile(found, placed)


def _run(command: str, shown: str, variables: Mapping[str, str], root: Path, say: Callable[[str], None]) -> None:
    with subprocess.Popen(
        ["/bin/sh", "-c", command],
        cwd=root,
        env=dict(variables),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            say(line.rstrip("\n"))
        code = process.wait()
    if code != 0:
        raise BuildFailed(f"The command '/bin/sh -c {' '.join(shown.split())}' returned a non-zero code: {code}")


def _place(root: Path) -> None:
    """The scoring app's own paths are in a file, which no shell reads."""
    spec = root / "app/spec.json"
    if spec.is_file():
        spec.write_text(_below(spec.read_text(encoding="utf-8"), root), encoding="utf-8")


def _below(text: str, root: Path) -> str:
    return _BELOW.sub(lambda match: f"{root}/{match[1]}", text)
