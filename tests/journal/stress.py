"""Programs that log and processes that send, made to be killed; and what must be true afterwards.

A program notes in a side file what it is about to write, and that it was written as soon as the call has returned. In the end the
server must hold everything that was noted as written, once, and nothing that was never begun.

    python stress.py program ROOT RUN_ID NAME SEED COUNT     log COUNT writes, and end the run with NAME `last`
    python stress.py drainer ROOT URL                        send until killed
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
import zlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from journals import artifacts, content, drainer, held, number, server

from amlflow.journal import records, segments
from amlflow.journal.batches import OPEN_SOURCE, shortened
from amlflow.journal.folder import Journal, RunFolder, new_id
from amlflow.journal.rest import RestServer

SPECIAL = (float("nan"), float("inf"), float("-inf"), -0.0, 5e-324, 1.7e308)
KEYS = ("loss", "acc/top 5", "ünï.码", "k" * 250)


# ---------------------------------------------------------------------- the processes


def program(root: Path, run_id: str, name: str, seed: int, count: int) -> None:
    folder = Journal(root).run(run_id)
    draw, writer = random.Random(seed), folder.writer()
    side = os.open(root.parent / f"{run_id}.{name}.side", os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def note(what: str, at: int, record: list[Any] | None = None) -> None:
        os.write(side, f"{what} {at} {json.dumps(record)}\n".encode())

    for at in range(seed * 10_000, seed * 10_000 + count):
        record = drawn(draw, name, at)
        note("+", at, record)
        try:
            if record[0] == records.FILE:
                folder.spool.mkdir(exist_ok=True)
                (folder.spool / record[2]).write_bytes(content_of(record[2]))
            writer.append(record)
        except OSError:
            # The disk is full: the write counts as not made, and a program may go on.
            time.sleep(0.001)
            continue
        note("=", at)
        time.sleep(draw.choice((0, 0.001, 0.004)))


def drawn(draw: random.Random, name: str, at: int) -> list[Any]:
    """One write; each is told from every other by its step, its key or its value."""
    value = draw.choice(SPECIAL) if draw.random() < 0.1 else at / 7
    # A clock that is stepped back now and then.
    time_ms = 1_700_000_000_000 + at - draw.choice((0, 0, 0, 3_600_000))
    point = [f"{name} {draw.choice(KEYS)}"[:250], value, at, time_ms]
    kind = draw.choice("mmmmmmmmmmmmbbpttttda")
    if kind == "b":
        points = [[*point[:2], at, time_ms + extra] for extra in range(draw.choice((1, 5, 300)))]
        params = [[f"{name}.b{at}.{n}", "v" * n] for n in range(draw.choice((0, 0, 0, 3)))]
        return ["b", points, params, [[f"{name}.tag{draw.randrange(3)}", f"b{at}"]]]
    if kind == "p":
        return ["p", f"{name}.p{at}", draw.choice(("", "1", "ü" * 2000, "x" * 6500))]
    if kind == "t":
        return ["t", f"{name}.tag{draw.randrange(3)}", str(at)]
    if kind == "d":
        return ["d", f"{name}.tag{draw.randrange(3)}"]
    if kind == "a":
        spooled = new_id()
        content = content_of(spooled)
        return ["a", f"{name}/{draw.randrange(5)}.bin", spooled, len(content), zlib.crc32(content)]
    return ["m", *point]


def content_of(spooled: str) -> bytes:
    return spooled.encode() * (1 + int(spooled[:3], 16))


def send(root: Path, url: str) -> None:
    drainer(Journal(root), server(url, timeout_s=1.0)).run(threading.Event())


# ---------------------------------------------------------------------- who kills them


@dataclass
class Ordeal:
    """One run, the processes around it, and a seed for what happens to them."""

    folder: RunFolder
    url: str
    seed: int
    kills: int = 0
    starts: int = 0
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.draw = random.Random(self.seed)
        self.root = self.folder.journal.root

    def start(self, who: str, count: int = 300) -> None:
        self.starts += 1
        if who.startswith("drainer"):
            arguments = ["drainer", str(self.root), self.url]
        else:
            arguments = ["program", str(self.root), self.folder.id, who, str(self.starts), str(count)]
        self.processes[who] = subprocess.Popen([sys.executable, __file__, *arguments], start_new_session=True)

    def kill(self, who: str) -> None:
        process = self.processes.pop(who, None)
        if process is not None:
            process.send_signal(signal.SIGKILL)
            process.wait()
            self.kills += 1

    def torment(self, kills: int) -> None:
        """Kill and restart programs and drainers until so many were killed."""
        names = ("one", "two", "drainer 1", "drainer 2")
        try:
            for name in names:
                self.start(name)
            # Python takes a while to be there; what dies before it wrote a thing proves little.
            time.sleep(1.0)
            while self.kills < kills:
                time.sleep(self.draw.uniform(0.0, 0.8))
                victims = self.draw.choice(
                    (("one",), ("two",), ("drainer 1",), ("drainer 2",), ("one", "drainer 1"), names)
                )
                for name in victims:
                    self.kill(name)
                if self.draw.random() < 0.5 and "one" in victims:
                    self.tear()
                for name in victims:
                    self.start(name)
        finally:
            for name in names:
                self.kill(name)

    def tear(self) -> None:
        """Leave half a record behind, as a computer that loses its power does."""
        newest = segments.numbers(self.folder.path)
        if newest:
            line = records.encode(["m", "torn", 1.0, 1, 1])
            with segments.segment(self.folder.path, newest[-1]).open("ab", buffering=0) as file:
                file.write(line[: self.draw.randrange(1, len(line) - 1)])


# ---------------------------------------------------------------------- what must be true


# What a program began to write, in its order, and whether it knows that it was written.
Notes = list[tuple[list[Any], bool]]


def verify(folder: RunFolder, run_id: str, behind: RestServer, temporary: Path) -> int:
    """Raises `AssertionError` unless the server holds what the programs wrote, once. Returns how many writes that were."""
    run, files = held(behind, run_id), artifacts(behind, run_id)
    notes = noted(folder)
    for name, writes in notes.items():
        lost = points_of(record for record, written in writes if written) - set(run.points)
        assert not lost, f"{len(lost)} points of {name} are lost, such as {sorted(lost)[:3]}"
        for record, written in writes:
            for key, value in params_of(record):
                assert run.params.get(key) in ({fitted(value)} if written else {fitted(value), None}), f"param {key}"
        for key, allowed in last((tags_of(record), written) for record, written in writes).items():
            assert run.tags.get(key) in allowed, f"tag {key} is {run.tags.get(key)!r}, not of {allowed}"
        for path, allowed in last((files_of(record), written) for record, written in writes).items():
            there = content(behind, run_id, path, temporary / "file") if path in files else None
            assert there in {spooled and content_of(spooled) for spooled in allowed}, f"file {path}"
    doubled = [point for point, times in Counter(run.points).items() if times > 1]
    assert not doubled, f"{len(doubled)} points are there more than once, such as {doubled[:3]}"
    invented = set(run.points) - points_of(record for writes in notes.values() for record, _ in writes)
    assert not invented, f"{len(invented)} points were never written, such as {sorted(invented)[:3]}"
    return sum(written for writes in notes.values() for _, written in writes)


def noted(folder: RunFolder) -> dict[str, Notes]:
    found = {}
    for side in sorted(folder.journal.root.parent.glob(f"{folder.id}.*.side")):
        begun: dict[int, list[Any]] = {}
        written = set()
        for line in side.read_text().split("\n"):
            what, number, record = [*line.split(" ", 2), "", ""][:3]
            # The last note of a killed program may be torn, and stand before that of the next.
            with contextlib.suppress(ValueError):
                if what == "+":
                    begun[int(number)] = json.loads(record)
                elif what == "=":
                    written.add(int(number))
        found[side.name.split(".")[1]] = [(record, number in written) for number, record in begun.items()]
    return found


def last(writes: Iterable[tuple[dict[str, Any], bool]]) -> dict[str, set[Any]]:
    """Key -> the values that the last write to it may have left: that of the last one that was written, or of one that was begun
    after it."""
    found: dict[str, set[Any]] = {}
    for values, written in writes:
        for key, value in values.items():
            found[key] = {value} if written else found.get(key, {None}) | {value}
    return found


def points_of(many: Iterable[list[Any]]) -> set[tuple[str, str, int, int]]:
    points = [
        point for record in many for point in (record[1] if record[0] == "b" else [record[1:]] * (record[0] == "m"))
    ]
    return {(key, number(value), step, time_ms) for key, value, step, time_ms in points}


def params_of(record: list[Any]) -> list[list[str]]:
    return record[2] if record[0] == "b" else [record[1:]] * (record[0] == "p")


def tags_of(record: list[Any]) -> dict[str, Any]:
    """Key -> value, None for a deletion."""
    if record[0] == "b":
        return dict(record[3])
    return {record[1]: record[2] if record[0] == "t" else None} if record[0] in ("t", "d") else {}


def files_of(record: list[Any]) -> dict[str, str]:
    """Path -> name in the spool."""
    return {record[1]: record[2]} if record[0] == "a" else {}


def fitted(value: str) -> str:
    return value if len(value) <= OPEN_SOURCE.param_chars else shortened(value, OPEN_SOURCE.param_chars)


if __name__ == "__main__":
    if sys.argv[1] == "program":
        program(Path(sys.argv[2]), sys.argv[3], sys.argv[4], int(sys.argv[5]), int(sys.argv[6]))
    else:
        send(Path(sys.argv[2]), sys.argv[3])
