"""`amlflow compare --watch`, while runs go on."""

from __future__ import annotations

import signal
import threading
import time
from typing import Any

from compared import NOW, Maker, compare

from amlflow.workspaces.base import Metric
from amlflow.workspaces.local.workspace import LocalWorkspace


class Watching:
    """A command that follows runs, with what it has said so far."""

    def __init__(self, amlflow: Any, *arguments: str) -> None:
        self.process = amlflow.start("-w", "local:./a", "compare", "--watch", *arguments)
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        self.lines.extend(line.decode() for line in self.process.stderr)

    def seen(self, text: str) -> None:
        deadline = time.monotonic() + 120
        while not any(text in line for line in self.lines):
            assert self._reader.is_alive(), self.lines
            assert time.monotonic() < deadline, self.lines
            time.sleep(0.05)

    def ended(self) -> tuple[int, str]:
        """The exit code and the result."""
        out = self.process.stdout.read().decode()
        self._reader.join(timeout=60)
        return self.process.wait(timeout=60), out


def log(amlflow: Any, run_id: str, step: int, ends: bool = False, **metrics: float) -> None:
    store = LocalWorkspace(amlflow.cwd / "a", "a")
    store.log_batch(run_id, [Metric(key, value, step, NOW + step * 1000) for key, value in metrics.items()])
    if ends:
        store.finish_run(run_id, "FINISHED")


def test_watch_ends_with_the_runs(amlflow: Any, make: Maker) -> None:
    run_id = make("slow", loss=[1.0], running=True)
    watching = Watching(amlflow, "last", "--metric", "loss", "--fail-if", "loss > 0.3", "-o", "json")
    watching.seen("slow RUNNING loss=1")
    log(amlflow, run_id, 1, loss=0.5)
    watching.seen("slow RUNNING loss=0.5")
    # What `last` meant stays what is followed.
    make("newer", loss=9.0)
    log(amlflow, run_id, 2, ends=True, loss=0.25)
    code, out = watching.ended()
    assert code == 0, watching.lines
    assert f'"run_id": "{run_id}"' in out
    assert '"outcome": "passed"' in out


def test_watch_holds_the_gates_to_the_same_runs(amlflow: Any, make: Maker) -> None:
    make("base", rmse=0.5)
    for name, rmse in (("a1", 0.52), ("b1", 0.54), ("c1", 0.6)):
        make(name, rmse=rmse)
    asked = ("a1", "b1", "c1", "--baseline", "base", "--top", "3", "--fail-if", "rmse > 0.55", "-o", "json")
    watched = compare(amlflow, *asked, "--watch")
    assert watched.code == 6, watched.err
    assert watched.json == compare(amlflow, *asked).json
    make("there", "b", rmse=0.7)
    other = ("a1", "local:./b::there", "--baseline", "local:./b::there", "--top", "1", "--query", "runs[].name")
    assert compare(amlflow, *other, "--watch").out == compare(amlflow, *other).out == "there\na1\n"


def test_watch_waits_for_all_that_are_named_and_chooses_the_first_anew(amlflow: Any, make: Maker) -> None:
    first, second = (make(name, rmse=rmse, running=True) for name, rmse in (("first", 0.5), ("second", 0.9)))
    watching = Watching(amlflow, "first", "second", "--sort", "rmse", "--top", "1", "--query", "runs[].name")
    watching.seen("first RUNNING rmse=0.5")
    log(amlflow, first, 1, ends=True)
    watching.seen("first FINISHED")
    log(amlflow, second, 1, rmse=0.3)
    watching.seen("second RUNNING rmse=0.3")
    log(amlflow, second, 2, ends=True, rmse=0.2)
    assert watching.ended() == (0, "second\n")


def test_watch_follows_the_runs_of_the_first_so_many_groups(amlflow: Any, make: Maker) -> None:
    make("one", rmse=0.5, params={"seed": "1"})
    running = make("two", rmse=0.7, params={"seed": "2"}, running=True)
    asked = ("-e", "wine", "--seeds", "seed", "--sort", "rmse", "--top", "1")
    watching = Watching(amlflow, *asked, "--query", "groups.groups[].metrics.rmse.mean")
    watching.seen("two RUNNING")
    log(amlflow, running, 1, ends=True, rmse=0.3)
    assert watching.ended() == (0, "0.4\n")


def test_the_best_is_the_best_when_the_runs_have_ended(amlflow: Any, make: Maker) -> None:
    make("first", rmse=0.5)
    running = make("slow", rmse=0.9, running=True)
    watching = Watching(amlflow, "-e", "wine", "--baseline", "best:-rmse", "--fail-if", "rmse > baseline * 2")
    watching.seen("slow RUNNING rmse=0.9")
    log(amlflow, running, 1, ends=True, rmse=0.1)
    code, _ = watching.ended()
    assert code == 6, watching.lines
    assert any("run 'first'" in line and "baseline.rmse = 0.1" in line for line in watching.lines)


def test_watch_redraws_a_terminal_and_leaves_at_ctrl_c(amlflow: Any, make: Maker) -> None:
    import pexpect

    run_id = make("slow", loss=[1.0, 0.75], running=True)
    child = pexpect.spawn(
        amlflow.command[0],
        ["-w", "local:./a", "compare", "slow", "--watch", "--plot", "loss", "--metric", "later"],
        env={**amlflow.env, "TERM": "xterm-256color"},
        cwd=str(amlflow.cwd),
        encoding="utf-8",
        dimensions=(60, 100),
        preexec_fn=amlflow.take_interrupts,
        timeout=120,
    )
    child.expect("slow: last 0.75, 2 values")
    child.expect("1 of 1 runs go on")
    LocalWorkspace(amlflow.cwd / "a", "a").log_batch(run_id, [Metric("loss", 0.5, 2, NOW + 2000)])
    child.expect("slow: last 0.5, 3 values")
    child.sendintr()
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 130


def test_watch_of_what_has_ended_is_a_comparison(amlflow: Any, make: Maker) -> None:
    make("one", rmse=1.0)
    assert compare(amlflow, "-e", "wine", "--watch").out == compare(amlflow, "-e", "wine").out


def test_a_watcher_can_be_interrupted(amlflow: Any, make: Maker) -> None:
    make("slow", loss=1.0, running=True)
    process = amlflow.start("-w", "local:./a", "compare", "-e", "wine", "--watch")
    assert b"slow RUNNING" in process.stderr.readline()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, b"Traceback" in err) == (130, False)
    assert err.endswith(b"Interrupted. The runs go on.\n")
