"""A process that sends a journal for programs that nobody watches: beside the program, and for what it leaves behind.

    python -m PACKAGE.drainer --journal ROOT --behind URL [--prefix PREFIX] [--parent PID] [--until-idle SECONDS]

The token for the address is never an argument: it comes from the environment, as `attach` says.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
import threading
import time
from pathlib import Path
from types import FrameType
from typing import List, Optional

from . import attach
from .batches import AZURE_ML, OPEN_SOURCE
from .drainer import Drainer
from .folder import Journal

_LOOK_S = 0.5


def main(arguments: Optional[List[str]] = None) -> None:
    given = _parser().parse_args(arguments)
    env = {**os.environ, attach.BEHIND: given.behind, attach.PREFIX: given.prefix}
    behind = attach.behind_of(env)
    if behind is None or "@" in given.behind:
        sys.exit("--behind takes the address of a server, without user and password: these come from the environment.")
    journal = Journal(Path(given.journal))
    # Azure ML's API is the one that stands behind a prefix.
    drainer = Drainer(journal, behind, AZURE_ML if given.prefix else OPEN_SOURCE)
    stop = threading.Event()
    _end_by_signal(stop)
    drainer.start()
    _watch(drainer, journal, given.parent, given.until_idle, stop)
    drainer.stop(timeout_s=5.0)


def _watch(drainer: Drainer, journal: Journal, parent: int, idle_s: float, stop: threading.Event) -> None:
    """Until the parent is gone and nothing is left, or what is left has not become less for `idle_s`."""
    begun = _started(parent)
    left, since = -1, time.monotonic()
    while not stop.wait(_LOOK_S):
        now = sum(folder.pending_bytes() for folder in journal.runs())
        if now != left:
            left, since = now, time.monotonic()
        if parent and begun and _started(parent) == begun:
            continue
        idle = time.monotonic() - since >= idle_s
        if idle or (left == 0 and drainer.flush(None, _LOOK_S)):
            return


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="drainer", description="Send what a journal holds to its workspace.")
    parser.add_argument("--journal", required=True, help="the journal's folder")
    parser.add_argument("--behind", required=True, help="the address of MLflow's REST API")
    parser.add_argument("--prefix", default="", help="what stands before its routes")
    parser.add_argument("--parent", type=int, default=0, help="the process to stay beside")
    parser.add_argument(
        "--until-idle", type=float, default=60.0, help="seconds without progress after which to give up"
    )
    return parser


def _end_by_signal(stop: threading.Event) -> None:
    def end(number: int, frame: Optional[FrameType]) -> None:
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)


def _started(pid: int) -> str:
    """When a process was started, in the system's own terms, so that another one of the same number is told from it; empty where
    there is none."""
    if not pid:
        return ""
    with contextlib.suppress(OSError, IndexError):
        text = Path(f"/proc/{pid}/stat").read_text()
        state, *fields = text.rpartition(")")[2].split()
        return "" if state == "Z" else fields[18]
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return ""
    except OSError:
        return "there"
    return "there"
