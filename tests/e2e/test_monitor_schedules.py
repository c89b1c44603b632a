"""`monitor create|list|show|run|delete`: kept on this machine, run as cron runs them, and told to a webhook."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import typer
from test_monitor import rows, table, truth, write_tables

from amlflow.cli import errors
from amlflow.cli.app import app

SECRET = "T0KEN/b0a7"


@dataclass
class Hook:
    """A server of this machine that keeps what is posted, and answers `status`."""

    url: str = ""
    status: int = 204
    posted: list[dict[str, Any]] = field(default_factory=list)


@pytest.fixture
def hook() -> Iterator[Hook]:
    made = Hook()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            made.posted.append({"path": self.path, **body})
            self.send_response(made.status)
            self.send_header("Location", f"{made.url}/elsewhere")
            self.end_headers()

        def log_message(self, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.url = f"http://127.0.0.1:{server.server_port}/{SECRET}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield made
    server.shutdown()
    thread.join()
    server.server_close()


@dataclass(frozen=True)
class Ended:
    code: int
    out: str
    err: str


@pytest.fixture(name="monitor")
def _monitor(work: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Ended]:
    """The command in this process, beside the tables of `test_monitor`."""
    write_tables(work)

    def run(*arguments: str) -> Ended:
        code = errors.run(typer.main.get_command(app), ["-w", f"local:{work}/ws", "monitor", *arguments])
        return Ended(code, *capsys.readouterr())

    return run


DRIFT = ("--data", "moved.csv", "--baseline", "baseline.csv")


def test_a_monitor_is_kept_run_told_and_forgotten(
    monitor: Callable[..., Ended], work: Path, hook: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AMLFLOW_WEBHOOK", hook.url)
    made = monitor("create", "moves", *DRIFT, "--every", "6h", "--fail", "--threshold", "colour=0.9")
    assert made.code == 0, made.err
    assert "0 */6 * * *" in made.out
    assert f"-w local:{work}/ws monitor run moves" in made.out
    file = work / "ws" / "monitors" / "moves.json"
    assert file.stat().st_mode & 0o777 == 0o600
    listed, shown = monitor("list", "-o", "json"), monitor("show", "moves", "-o", "json")
    assert [item["name"] for item in json.loads(listed.out)] == ["moves"]
    assert json.loads(shown.out)["cron"].startswith("0 */6 * * * ")

    monkeypatch.chdir(work / "ws")
    ran = monitor("run", "moves", "-o", "json")
    assert ran.code == 6
    assert "'alcohol'" in ran.err or "alcohol" in ran.err
    found = json.loads(ran.out)
    assert found["drifted_columns"] == ["alcohol"], "the threshold of colour was kept"
    assert hook.posted == [
        {
            "path": f"/{SECRET}",
            "text": f"Monitor 'moves' (drift): a threshold was crossed by alcohol. Run {found['run_id']}.",
            "name": "moves",
            "monitor": "drift",
            "state": "crossed",
            "columns": ["alcohol"],
            "gate": hook.posted[0]["gate"],
            "error": None,
            "run_id": found["run_id"],
        }
    ]
    assert "alcohol" in hook.posted[0]["gate"]
    for status in (500, 302):
        hook.status = status
        failed = monitor("run", "moves", "-o", "json", "--no-log")
        assert failed.code == 6, "the gate's own code"
        assert f"answered {status}" in failed.err
        assert json.loads(failed.out)["drifted_columns"] == ["alcohol"]
    assert [item["path"] for item in hook.posted] == [f"/{SECRET}"] * 3, "a redirect is not followed"
    for said in (made, listed, shown, ran, failed):
        assert SECRET not in said.out + said.err
    assert monitor("delete", "moves").code == 0
    assert not file.exists()
    assert monitor("run", "moves").code == 3


def test_without_fail_what_crossed_is_told_and_ends_with_0(monitor: Callable[..., Ended], hook: Hook) -> None:
    assert monitor("create", "moves", *DRIFT, "--webhook", hook.url).code == 0
    assert monitor("run", "moves").code == 0
    assert (hook.posted[0]["columns"], hook.posted[0]["gate"]) == (["alcohol", "colour"], None)
    assert monitor("create", "moves", *DRIFT).code == 1, "there is one"
    same = ("--data", "same.csv", "--baseline", "baseline.csv", "--fail", "--fail-if", "columns_drifted > 0")
    assert monitor("create", "moves", *same, "--webhook", hook.url, "--replace").code == 0
    assert monitor("run", "moves").code == 0
    assert len(hook.posted) == 1, "nothing crossed"
    Path("same.csv").write_text("alcohol,colour\n")
    assert monitor("run", "moves").code == 3
    assert (hook.posted[1]["state"], hook.posted[1]["columns"]) == ("failed", [])
    assert "no row" in hook.posted[1]["error"]
    assert hook.posted[1]["error"] in hook.posted[1]["text"]
    Path("same.csv").unlink()
    Path("same.csv").symlink_to("/proc/self/mem")
    assert monitor("run", "moves").code == 1
    assert "OSError" in hook.posted[2]["error"], "nor does a file that the system cannot read look like a pass"


def test_a_monitor_of_performance(monitor: Callable[..., Ended], work: Path, hook: Hook) -> None:
    answers = [
        {"request": f"r{day}-{i}", "prediction": row["quality"]}
        for day in range(2)
        for i, row in enumerate(rows(300, seed=day))
    ]
    table(work / "answers.csv", answers)
    truth(work / "truth.csv", days=2, right=0.8)
    made = monitor(
        *("create", "tasted", "--performance", "--data", "answers.csv", "--truth", "truth.csv", "--join", "request"),
        *("--fail-if", "accuracy < 0.95", "--webhook", hook.url, "--cron", "0 6 * * mon-fri"),
    )
    assert made.code == 0, made.err
    assert "0 6 * * mon-fri" in made.out
    ran = monitor("run", "tasted", "-o", "json", "--html", "page.html")
    assert ran.code == 6
    assert (hook.posted[0]["monitor"], hook.posted[0]["name"]) == ("performance", "tasted")
    assert "accuracy" in hook.posted[0]["gate"]
    assert "class='dot'" in (work / "page.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["../up", *DRIFT], 2, "cannot name"),
        (["m"], 2, "--endpoint"),
        (["m", "--data", "moved.csv"], 2, "--baseline"),
        (["m", "--endpoint", "nosuch"], 3, "nosuch"),
        (["m", *DRIFT, "--endpoint", "e"], 2, "two places"),
        (["m", *DRIFT, "--every", "5h"], 2, "Cron cannot say"),
        (["m", *DRIFT, "--every", "1d", "--cron", "* * * * *"], 2, "two ways"),
        (["m", *DRIFT, "--cron", "* * * *"], 2, "5"),
        (["m", *DRIFT, "--webhook", "http://hooks.invalid/T0KEN/b0a7"], 2, "https"),
        (["m", *DRIFT, "--webhook", "ftp://127.0.0.1/T0KEN/b0a7"], 2, "https"),
        (["m", *DRIFT, "--webhook", "https://[T0KEN/b0a7"], 2, "https"),
        (["m", *DRIFT, "--metric", "jensen"], 2, "jensen"),
        (["m", *DRIFT, "--threshold", "alcohol"], 2, "not a threshold"),
        (["m", *DRIFT, "--kind", "alcohol=number"], 2, "numeric"),
        (["m", *DRIFT, "--fail-if", "drifted >"], 2, "drifted >"),
        (["m", *DRIFT, "--window", "week"], 2, "--window"),
        (["m", *DRIFT, "--truth", "t.csv"], 2, "--performance"),
        (["m", "--performance", "--data", "moved.csv"], 2, "--truth"),
        (
            ["m", "--performance", "--data", "d", "--truth", "t", "--join", "i", "--metric", "jensenShannonDistance"],
            2,
            "--metric",
        ),
    ],
)
def test_what_can_never_run_is_not_kept(
    monitor: Callable[..., Ended], work: Path, arguments: list[str], code: int, said: str
) -> None:
    found = monitor("create", *arguments)
    assert found.code == code, found.err
    assert said in found.err
    assert SECRET not in found.out + found.err
    assert not list(work.glob("ws/monitors/*"))


def test_a_kept_monitor_splits_its_time_and_an_empty_newest_window_is_no_pass(
    monitor: Callable[..., Ended], work: Path, hook: Hook
) -> None:
    day = datetime.now(timezone.utc).replace(hour=0, minute=0, second=0, microsecond=0)
    made = [
        {**row, "at": (day - timedelta(days=ago, hours=-1)).isoformat()} for ago in (2, 4) for row in rows(300, seed=1)
    ]
    table(work / "dated.csv", made, "alcohol", "colour", "at")
    data = ("--data", "dated.csv", "--baseline", "baseline.csv", "--time", "at", "--threshold", "alcohol=0.5")
    kept = monitor("create", "daily", *data, "--window", "5d", "--split", "1d", "--every", "6h")
    assert kept.code == 0, kept.err
    ran = monitor("run", "daily", "--no-log", "-o", "json")
    assert ran.code == 3
    assert "The newest window" in ran.err
    assert not hook.posted
    moved = ("--threshold", "alcohol=0", "--webhook", hook.url, "--replace")
    assert monitor("create", "daily", *data[:-2], *moved, "--window", "5d", "--split", "1d", "--every", "6h").code == 0
    assert monitor("run", "daily", "--no-log").code == 3
    (told,) = hook.posted
    assert (told["state"], told["columns"]) == ("crossed", ["alcohol"])
    assert "The newest window" in told["error"]
    assert "crossed by alcohol" in told["text"]
    assert told["error"] in told["text"]
    assert [window["rows"] for window in json.loads(ran.out)["windows"]] == [300, 0, 300, 0]
    assert monitor("create", "wrong", *data, "--split", "daily").code == 2


def test_a_damaged_monitor_is_named(monitor: Callable[..., Ended], work: Path) -> None:
    assert monitor("create", "moves", *DRIFT).code == 0
    assert monitor("create", "other", *DRIFT).code == 0
    file = work / "ws" / "monitors" / "moves.json"
    file.write_text('{"kind": "drift"}')
    found = monitor("run", "moves")
    assert found.code == 1
    assert "--replace" in found.err
    assert monitor("show", "move").code == 3
    listed = monitor("list", "-o", "json")
    assert (listed.code, [item["name"] for item in json.loads(listed.out)]) == (0, ["other"])
    assert "The monitor 'moves' cannot be read" in listed.err
    gone = monitor("delete", "moves")
    assert (gone.code, file.exists()) == (0, False), gone.err
    assert monitor("delete", "moves").code == 3
