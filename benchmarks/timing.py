"""How the benchmarks measure: whole processes, run in turn with their peer, medians."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

BIN = Path(sys.executable).parent
AMLFLOW = str(BIN / "amlflow")
MLFLOW = str(BIN / "mlflow")


@dataclass(frozen=True)
class Row:
    """One line of a result. `target` is the most that ours/peer may be (or the least, with `at_least`)."""

    what: str
    ours: float
    peer: float
    target: float
    unit: str = "s"
    at_least: bool = False

    @property
    def ratio(self) -> float:
        return self.ours / self.peer

    @property
    def reached(self) -> bool:
        return self.ratio >= self.target if self.at_least else self.ratio <= self.target


def wall(command: Sequence[str], env: Mapping[str, str] | None = None, cwd: Path | None = None) -> float:
    """Seconds from start to end; raises when the command fails."""
    start = time.perf_counter()
    done = subprocess.run(
        list(command), env={**os.environ, **(env or {})}, cwd=cwd, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    took = time.perf_counter() - start
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr.decode()[-2000:]}")
    return took


def medians(commands: Sequence[Sequence[str]], runs: int, env: Mapping[str, str] | None = None) -> list[float]:
    """The median of each command, all of them run in turn so that a slow moment of the machine meets every one."""
    taken: list[list[float]] = [[] for _ in commands]
    for command in commands:
        wall(command, env)
    for _ in range(runs):
        for index, command in enumerate(commands):
            taken[index].append(wall(command, env))
    return [statistics.median(times) for times in taken]


def show(title: str, rows: Sequence[Row]) -> None:
    print(f"\n{title}")
    print(f"{'':58}{'amlflow':>12}{'peer':>12}{'ratio':>8}{'to reach':>10}")
    for row in rows:
        bound = f"{'>=' if row.at_least else '<='} {row.target:.3g}"
        mark = "" if row.reached else "  NOT REACHED"
        ours, peer = (f"{value:.4g} {row.unit}" for value in (row.ours, row.peer))
        print(f"{row.what:58}{ours:>12}{peer:>12}{row.ratio:>8.3f}{bound:>10}{mark}")
