"""Drift and performance, from files and from what an endpoint has collected."""

from __future__ import annotations

import csv
import functools
import gzip
import http.server
import json
import random
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import typer

from amlflow.cli import errors
from amlflow.cli.app import app

NOW = datetime.now(timezone.utc).replace(minute=30, second=0, microsecond=0)


def rows(count: int, shift: float = 0.0, seed: int = 0) -> list[dict[str, Any]]:
    rng = random.Random(seed)
    return [
        {
            "id": f"b{i}",
            "alcohol": round(rng.gauss(10 + shift, 1), 3),
            "colour": rng.choice(["red", "white"] if not shift else ["red", "red", "red", "rose"]),
            "quality": rng.randint(3, 8),
        }
        for i in range(count)
    ]


def table(file: Path, content: list[dict[str, Any]], *names: str) -> str:
    with file.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, names or list(content[0]), extrasaction="ignore")
        writer.writeheader()
        writer.writerows(content)
    return file.name


@dataclass(frozen=True)
class Ended:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture(name="monitor")
def _monitor(work: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Ended]:
    """The command in this process, beside the tables of `wine`: a process each would take seconds."""
    write_tables(work)

    def run(*arguments: str) -> Ended:
        code = errors.run(typer.main.get_command(app), ["-w", f"local:{work}/ws", "monitor", *arguments, "--no-log"])
        return Ended(code, *capsys.readouterr())

    return run


def write_tables(work: Path) -> None:
    """baseline.csv, and beside it same.csv and moved.csv."""
    inputs = ("alcohol", "colour")
    table(work / "baseline.csv", rows(600), *inputs)
    table(work / "same.csv", rows(400, seed=1), *inputs)
    table(work / "moved.csv", rows(400, shift=1.0, seed=2), *inputs)


@pytest.fixture(name="wine")
def _wine(amlflow: Any, work: Path) -> Any:
    """The installed command, on a workspace of its own."""
    write_tables(work)

    class Wine:
        def __call__(self, *arguments: str, **options: Any) -> Any:
            return amlflow("-w", f"local:{work}/ws", *arguments, **options)

        def ok(self, *arguments: str, **options: Any) -> Any:
            return amlflow.ok("-w", f"local:{work}/ws", *arguments, **options)

        def drift(self, *arguments: str) -> Any:
            return self("monitor", "drift", *arguments)

    return Wine()


def write_collected(root: Path, name: str, content: list[tuple[datetime, str, list[dict[str, Any]]]]) -> None:
    """Records as Azure ML's collector writes them, a file an hour."""
    for at, request, data in content:
        folder = root / name / at.strftime("%Y/%m/%d/%H")
        folder.mkdir(parents=True, exist_ok=True)
        record = {
            "specversion": "1.0",
            "id": request,
            "type": f"azureml.inference.{name}",
            "time": at.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "correlationid": request,
            "data": data,
        }
        with (folder / "records.jsonl").open("a") as stream:
            stream.write(json.dumps(record) + "\n")


def collect(root: Path, shift: float = 0.0, days: int = 4, drifting: int = 0) -> None:
    """A request a row, 300 a day; the newest `drifting` days are shifted. Answers are the id's parity."""
    for day in range(days):
        at = NOW - timedelta(days=day, minutes=40)
        moved = 1.5 if day < drifting else shift
        made = rows(300, moved, seed=day)
        asked = [
            (at, f"r{day}-{i}", [{"alcohol": row["alcohol"], "colour": row["colour"]}]) for i, row in enumerate(made)
        ]
        write_collected(root, "model_inputs", asked)
        answers = [(at, f"r{day}-{i}", [{"prediction": row["quality"]}]) for i, row in enumerate(made)]
        write_collected(root, "model_outputs", answers)


def test_drift_is_told_shown_and_gated(wine: Any, work: Path) -> None:
    same = wine.drift("--data", "same.csv", "--baseline", "baseline.csv", "--no-log", "--fail-on-drift")
    assert same.code == 0, same.err
    moved = wine.drift("--data", "moved.csv", "--baseline", "baseline.csv", "--no-log", "--fail-on-drift")
    assert moved.code == 6
    assert "alcohol" in moved.err
    lines = [line.split("\t") for line in moved.out.splitlines()]
    assert lines[0][:3] == ["COLUMN", "KIND", "STATE"]
    assert {line[0]: line[1:3] for line in lines[1:]} == {
        "alcohol": ["numeric", "drifted"],
        "colour": ["categorical", "drifted"],
    }
    assert "New categories: 'rose'" in moved.err
    for gate, code in (
        ("columns_drifted > 1", 6),
        ("columns_drifted > 2", 0),
        ("absent > 2", 6),
        ("columns_drifted >", 2),
    ):
        gated = wine.drift("--data", "moved.csv", "--baseline", "baseline.csv", "--no-log", "--fail-if", gate)
        assert gated.code == code, gated.err
    markdown = wine.drift("--data", "moved.csv", "--baseline", "baseline.csv", "--no-log", "--markdown")
    assert markdown.code == 0
    assert "| COLUMN | KIND |" in markdown.out


def test_the_document_has_every_metric_with_azures_names(monitor: Callable[..., Ended]) -> None:
    found = monitor("drift", "--data", "moved.csv", "--baseline", "baseline.csv", "-o", "json").json
    assert found["drifted_columns"] == ["alcohol", "colour"]
    by_name = {column["column"]: column for column in found["windows"][0]["columns"]}
    metrics = {item["metric"]: item for item in by_name["alcohol"]["metrics"]}
    assert set(metrics) == {
        "normalizedWassersteinDistance",
        "jensenShannonDistance",
        "populationStabilityIndex",
        "twoSampleKolmogorovSmirnovTest",
        "nullValueRate",
        "dataTypeErrorRate",
        "outOfBoundsRate",
    }
    assert metrics["normalizedWassersteinDistance"]["threshold"] == 0.1
    assert metrics["normalizedWassersteinDistance"]["value"] == pytest.approx(1.0, abs=0.15)
    assert (
        metrics["twoSampleKolmogorovSmirnovTest"]["p_value_holm"]
        >= metrics["twoSampleKolmogorovSmirnovTest"]["p_value"]
    )
    assert "pearsonsChiSquaredTest" in {item["metric"] for item in by_name["colour"]["metrics"]}


def test_the_page_stands_alone_and_escapes_what_the_data_say(monitor: Callable[..., Ended], work: Path) -> None:
    evil = [{"alcohol": 10, "colour": "<script>alert(1)</script>"}] * 20 + [{"alcohol": 11, "colour": "red"}] * 20
    table(work / "evil.csv", evil)
    monitor("drift", "--data", "evil.csv", "--baseline", "baseline.csv", "--html", "page.html")
    page = (work / "page.html").read_text()
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "http" not in page.replace("http-equiv", "")
    assert page.count("<svg") >= 2


def test_names_in_data_command_no_terminal(monitor: Callable[..., Ended], work: Path) -> None:
    table(work / "sly.csv", [{"\x1b]0;owned\x07": 1, "b": i} for i in range(9)])
    noted = monitor("drift", "--data", "sly.csv", "--baseline", "sly.csv", "--no-log")
    assert "owned : The baseline is constant." in noted.err
    failed = monitor("drift", "--data", "sly.csv", "--baseline", "same.csv", "--no-log")
    assert failed.code == 1
    assert "\x1b" not in noted.err + failed.err


def test_results_are_runs_that_compare_shows_over_time(wine: Any, work: Path) -> None:
    for name in ("same", "moved"):
        wine.ok("monitor", "drift", "--data", f"{name}.csv", "--baseline", "baseline.csv", "-q")
    found = wine.ok("compare", "-e", "baseline-monitoring", "-o", "json").json
    drifted = {run["name"]: run["metrics"] for run in found["runs"]}
    assert sorted(metrics["columns_drifted"] for metrics in drifted.values()) == [0, 2]
    assert all("alcohol.normalizedWassersteinDistance" in metrics for metrics in drifted.values())
    run = found["runs"][0]["run_id"]
    wine.ok("run", "download", run, "--to", "kept")
    assert json.loads((work / "kept" / "drift.json").read_text())["windows"]
    assert "<svg" in (work / "kept" / "drift.html").read_text()


@pytest.fixture
def served(work: Path) -> Iterator[str]:
    """The address at which the files of the folder are served."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(work))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_the_baseline_is_the_dataset_or_the_table_that_a_run_has_logged(
    wine: Any, amlflow: Any, work: Path, served: str
) -> None:
    (work / "train.py").write_text(
        "import sys, mlflow, pandas\n"
        "data = pandas.read_csv('baseline.csv')\n"
        "with mlflow.start_run():\n"
        "    if sys.argv[1] == 'artifact':\n"
        "        mlflow.log_artifact('baseline.csv', 'data')\n"
        "    else:\n"
        "        source = sys.argv[2] or None\n"
        "        mlflow.log_input(mlflow.data.from_pandas(data, source=source, name=sys.argv[1]), context='training')\n"
    )
    sources = {"artifact": "", "dataset": str(work / "baseline.csv"), "served": f"{served}/baseline.csv", "memory": ""}
    for name, source in sources.items():
        rows_kept = ("--dataset-rows", "250") if name == "memory" else ()
        wine.ok("track", "-e", "wine", "--run-name", name, *rows_kept, "--", sys.executable, "train.py", name, source)
        found = wine.ok("monitor", "drift", "--data", "moved.csv", "--baseline", name, "--no-log", "-o", "json").json
        assert found["baseline_rows"] == (250 if name == "memory" else 600)
        assert name in found["baseline"]
        assert found["drifted"]
    run = wine.ok("run", "show", "artifact", "-q").out.strip()
    path = f"runs:/{run}/data/baseline.csv"
    assert (
        wine.ok("monitor", "drift", "--data", "same.csv", "--baseline", path, "--no-log", "-o", "json").json[
            "baseline_rows"
        ]
        == 600
    )
    wine.ok("track", "-e", "wine", "--run-name", "bare", "--", "true")
    bare = wine.drift("--data", "same.csv", "--baseline", "bare", "--no-log")
    assert bare.code == 3
    assert "neither a dataset nor a table" in bare.err
    secret = f"{served.replace('//', '//me:pass-word@')}/gone.csv?sig=signature"
    wine.ok("track", "-e", "wine", "--run-name", "away", "--", sys.executable, "train.py", "away", secret)
    away = wine.drift("--data", "same.csv", "--baseline", "away", "--no-log")
    assert (away.code, "404" in away.err, "gone.csv" in away.err) == (1, True, True)
    assert not [text for text in ("pass-word", "signature") if text in away.err]


def test_what_an_endpoint_has_collected_is_compared_by_the_day(wine: Any, work: Path) -> None:
    collect(work / "ws" / "collected" / "tasting", drifting=1)
    table(work / "trained.csv", rows(600), "alcohol", "colour", "quality")
    command = ("monitor", "drift", "tasting", "--baseline", "trained.csv", "--no-log", "--every", "1d", "-o", "json")
    found = wine.ok(*command).json
    assert sum(window["rows"] for window in found["windows"]) == 1200
    drifted = [any(c["drifted"] for c in window["columns"] if c["column"] == "alcohol") for window in found["windows"]]
    assert drifted[-1]
    assert not drifted[0]
    answers = [c for c in found["windows"][0]["columns"] if c["signal"] == "prediction_drift"]
    assert [(c["column"], c["baseline_column"]) for c in answers] == [("prediction", "quality")]
    assert any("held against" in note for note in found["notes"])
    short = wine.ok(*command[:5], "--no-log", "--window", "30h", "-o", "json").json
    assert short["windows"][0]["rows"] == 600


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--data", "nowhere.csv", "--baseline", "baseline.csv"], 3, "nowhere.csv"),
        (["--data", "empty.csv", "--baseline", "baseline.csv"], 3, "no row"),
        (["--data", "same.csv", "--baseline", "empty.csv"], 3, "has no rows"),
        (["--data", "renamed.csv", "--baseline", "baseline.csv"], 1, "lacks 'alcohol', and has 'Alcohol'"),
        (["--data", "other.csv", "--baseline", "baseline.csv"], 1, "no column in common"),
        (["--data", "kinds.csv", "--baseline", "baseline.csv"], 1, "'alcohol'"),
        (["--data", "same.csv"], 2, "--baseline"),
        (["--baseline", "baseline.csv"], 2, "--data"),
        (["--data", "same.csv", "--baseline", "nosuch"], 3, "nosuch"),
        (["--data", "same.csv", "--baseline", "baseline.csv", "--window", "7d"], 2, "--time"),
        (["--data", "same.csv", "--baseline", "baseline.csv", "--metric", "psy"], 2, "psy"),
        (["--data", "same.csv", "--baseline", "baseline.csv", "--threshold", "alcool=1"], 2, "'alcohol'"),
        (["--data", "same.csv", "--baseline", "baseline.csv", "--kind", "alcohol=number"], 2, "number"),
        (["--data", "same.csv", "--baseline", "baseline.csv", "--ignore", "colr"], 2, "'colour'"),
        (["--data", "same.csv", "--baseline", "baseline.csv", "--prediction", "nosuch"], 2, "nosuch"),
        (["--data", "same.csv", "--baseline", "baseline.csv", "--time", "nosuch", "--every", "1d"], 3, "nosuch"),
        # Before any of the data is looked for.
        (
            ["--data", "nosuch.csv", "--baseline", "baseline.csv", "--html", "no/such/page.html"],
            2,
            "no folder 'no/such'",
        ),
        (["--data", "nosuch.csv", "--baseline", "baseline.csv", "--html", "."], 2, "it is a folder"),
        (["nosuchendpoint"], 3, "nosuchendpoint"),
        (["../../etc"], 3, "etc"),
    ],
)
def test_what_is_wrong_is_said_with_names(
    monitor: Callable[..., Ended], work: Path, arguments: list[str], code: int, said: str
) -> None:
    (work / "empty.csv").write_text("alcohol,colour\n")
    table(work / "renamed.csv", [{"Alcohol": row["alcohol"], "colour": row["colour"]} for row in rows(50)])
    table(work / "other.csv", [{"x": 1}, {"x": 2}])
    table(work / "kinds.csv", [{"alcohol": "strong", "colour": "red"}, {"alcohol": "weak", "colour": "red"}])
    found = monitor("drift", *arguments)
    assert found.code == code, found.err
    assert said in found.err
    assert found.out == ""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a device that is always full")
def test_a_page_that_cannot_be_written_hides_nothing(monitor: Callable[..., Ended]) -> None:
    for data, code in (("moved.csv", 6), ("same.csv", 1)):
        asked = ("--data", data, "--baseline", "baseline.csv", "--fail-on-drift", "--html", "/dev/full")
        found = monitor("drift", *asked)
        assert found.code == code, found.err
        assert "alcohol" in found.out
        assert "No space left on device" in found.err


def test_a_window_without_data_is_not_a_pass(monitor: Callable[..., Ended], work: Path) -> None:
    collect(work / "ws" / "collected" / "tasting", days=1)
    past = monitor(
        "drift", "tasting", "--baseline", "baseline.csv", "--until", "2020-01-01", "--window", "7d", "--fail-on-drift"
    )
    assert past.code == 3
    assert "2019-12-25" in past.err
    table(work / "dated.csv", [{**row, "at": "2026-01-05"} for row in rows(30)], "alcohol", "colour", "at")
    files = monitor(
        "drift", "--data", "dated.csv", "--baseline", "baseline.csv", "--time", "at", "--until", "2026-01-01"
    )
    assert files.code == 3
    whole = monitor("drift", "--data", "dated.csv", "--baseline", "baseline.csv", "--time", "at")
    assert whole.code == 0
    assert "fewer than 200 rows" in whole.err
    assert "'at'" not in whole.err


def test_of_many_windows_the_empty_ones_are_told_and_an_empty_newest_is_no_pass(
    monitor: Callable[..., Ended], work: Path
) -> None:
    made = [{**row, "at": f"2024-01-0{day}"} for day in (1, 2, 4) for row in rows(300, seed=day)]
    table(work / "dated.csv", made, "alcohol", "colour", "at")
    daily = ("--data", "dated.csv", "--time", "at", "--baseline", "baseline.csv", "--every", "1d")
    daily = (*daily, "--threshold", "alcohol=0.5", "--threshold", "colour=0.5")
    gated = ("--fail-on-drift", "--fail-if", "columns_drifted > 1", "--until")
    middle = monitor("drift", *daily, *gated, "2024-01-05", "-o", "json", "--html", "page.html")
    assert middle.code == 0, middle.err
    assert [window["rows"] for window in middle.json["windows"]] == [300, 300, 0, 300]
    assert middle.json["windows_without_data"] == 1
    said = "No data in 1 of 4 windows, of which nothing can be said: 2024-01-03 to 2024-01-04."
    assert said in middle.json["notes"]
    assert said in (work / "page.html").read_text()
    markdown = monitor("drift", *daily, "--until", "2024-01-05", "--markdown").out
    assert "### ⚠️" in markdown
    assert "no data" in markdown
    few = monitor("drift", *daily, "--fail-if", "rows < 100", "--until", "2024-01-05")
    assert few.code == 6
    assert "2024-01-03" in few.err
    newest = monitor("drift", *daily, *gated, "2024-01-06")
    assert newest.code == 3
    assert "The newest window, 2024-01-05 to 2024-01-06, has no data" in newest.err
    assert "drifted" in monitor("drift", *daily, "--until", "2024-01-06", "--threshold", "alcohol=0").out

    table(work / "answers.csv", [{**row, "id": f"{row['at']}{row['id']}"} for row in made], "id", "quality", "at")
    table(work / "truth.csv", [{**row, "id": f"{row['at']}{row['id']}"} for row in made[:600]], "id", "quality")
    known = ("performance", "--data", "answers.csv", "--truth", "truth.csv", "--join", "id", "--time", "at")
    late = monitor(*known, "--every", "1d", "--fail-if", "accuracy < 0.5")
    assert late.code == 3
    assert "The newest window, 2024-01-04 to 2024-01-05, has no prediction with a truth" in late.err
    assert monitor(*known, "--every", "1d", "--fail-if", "accuracy < 0.5", "--until", "2024-01-03").code == 0


def test_a_window_that_is_not_over_may_be_without_data_yet(monitor: Callable[..., Ended], work: Path) -> None:
    day = datetime.now(timezone.utc).replace(hour=0, minute=0, second=0, microsecond=0)
    made = [{**row, "at": (day - timedelta(hours=1)).isoformat()} for row in rows(300)]
    table(work / "dated.csv", made, "alcohol", "colour", "at")
    daily = ("--data", "dated.csv", "--time", "at", "--baseline", "baseline.csv", "--every", "1d")
    found = monitor("drift", *daily, "--window", "30h", "-o", "json")
    assert found.code == 0, found.err
    assert [window["rows"] for window in found.json["windows"]] == [300]
    assert any("is not over, and has no data yet" in note for note in found.json["notes"])


def test_columns_can_be_left_out_added_and_named_as_answers(monitor: Callable[..., Ended], work: Path) -> None:
    more = [{**row, "extra": 1, "guess": row["quality"]} for row in rows(200)]
    table(work / "more.csv", more, "alcohol", "colour", "extra")
    note = monitor("drift", "--data", "more.csv", "--baseline", "baseline.csv")
    assert "New columns, which the baseline has not: 'extra'" in note.err
    one = monitor("drift", "--data", "more.csv", "--baseline", "baseline.csv", "--column", "colour", "-o", "json").json
    assert [column["column"] for column in one["windows"][0]["columns"]] == ["colour"]
    assert not any("New columns" in note for note in one["notes"])
    (work / "parts").mkdir()
    for i in (1, 2):
        (work / "parts" / f"day-{i}.csv.gz").write_bytes(gzip.compress((work / "same.csv").read_bytes()))
    for data, count in (("parts", 800), ("parts/day-*.csv.gz", 800), ("parts/day-[2-9].csv.gz", 400)):
        found = monitor("drift", "--data", data, "--baseline", "baseline.csv", "-o", "json").json
        assert found["windows"][0]["rows"] == count
    assert monitor("drift", "--data", "parts/night-*.csv", "--baseline", "baseline.csv").code == 3
    table(work / "trained.csv", rows(600), "alcohol", "colour", "quality")
    less = monitor("drift", "--data", "same.csv", "--baseline", "trained.csv")
    assert "the data lack: 'quality'" in less.err
    table(work / "answered.csv", more, "alcohol", "colour", "guess")
    answered = monitor(
        *("drift", "--data", "answered.csv", "--baseline", "trained.csv", "--prediction", "guess=quality"),
        *("--ignore", "colour", "-o", "json"),
    ).json
    assert [(c["column"], c["signal"]) for c in answered["windows"][0]["columns"]] == [
        ("alcohol", "data_drift"),
        ("guess", "prediction_drift"),
    ]


def truth(file: Path, days: int = 4, right: float = 0.9) -> str:
    """The true quality of each request: what was answered, in so many of ten."""
    rng = random.Random(9)
    made = []
    for day in range(days):
        for i, row in enumerate(rows(300, 0.0, seed=day)):
            value = row["quality"] if rng.random() < right else (row["quality"] + 1 - 3) % 6 + 3
            made.append({"request": f"r{day}-{i}", "quality": value})
    return table(file, made)


def test_performance_by_the_day_against_the_training_run(wine: Any, work: Path) -> None:
    collect(work / "ws" / "collected" / "tasting")
    truth(work / "truth.csv")
    wine.ok("track", "-e", "wine", "--run-name", "trained", "--", "true")
    run = wine.ok("run", "show", "trained", "-q").out.strip()
    wine.ok("log", "metric", "val_accuracy=0.99", "--run", run)
    base = (
        "monitor",
        "performance",
        "tasting",
        "--truth",
        "truth.csv",
        "--join",
        "correlationid=request",
        "--baseline",
        run,
    )
    found = wine.ok(*base, "--every", "1d", "-o", "json").json
    assert found["task"] == "classification"
    assert sum(window["rows"] for window in found["windows"]) == 1200
    whole = wine.ok(*base, "--no-log", "-o", "json").json["windows"][0]
    accuracy = next(item for item in whole["metrics"] if item["metric"] == "accuracy")
    assert accuracy["value"] == pytest.approx(0.9, abs=0.06)
    assert accuracy["low"] < accuracy["value"] < accuracy["high"]
    assert (accuracy["training_metric"], accuracy["worse"]) == ("val_accuracy", True)
    page = work / "performance.html"
    wine.ok(*base, "--every", "1d", "--no-log", "--html", "performance.html")
    drawn = page.read_text()
    assert drawn.count("class='dot'") == sum(len(window["metrics"]) for window in found["windows"])
    assert drawn.count("class='limit'") == 1, "the training run has logged one metric"
    assert "In training: 0.99 (val_accuracy)" in drawn
    assert "http" not in drawn
    gated = wine(*base, "--no-log", "--fail-if", "accuracy < baseline - 0.02")
    assert gated.code == 6
    assert "window" in gated.err
    wine.ok(*base, "--no-log", "--fail-if", "accuracy < 0.5 or rows < 1000")
    failed = wine(*base, "--no-log", "--fail-on-worse")
    assert failed.code == 6
    assert "accuracy" in failed.err
    assert "worse" in failed.out
    logged = wine.ok("compare", "-e", "tasting-monitoring", "-o", "json").json["runs"][0]["metrics"]
    assert {"accuracy", "accuracy.low", "accuracy.high", "rows"} <= logged.keys()


def test_performance_of_numbers_joined_by_a_column_of_the_questions(wine: Any, work: Path) -> None:
    """The id is asked with the question, and the answers know it only by their request."""
    root = work / "ws" / "collected" / "pricing"
    rng = random.Random(4)
    at = NOW - timedelta(hours=2)
    made = [(f"r{i}", i, rng.gauss(100, 20)) for i in range(200)]
    write_collected(root, "model_inputs", [(at, request, [{"bottle": i, "age": 3}]) for request, i, _ in made])
    write_collected(root, "model_outputs", [(at, request, [{"prediction": price}]) for request, _, price in made])
    table(work / "sold.csv", [{"bottle": i, "price": price + rng.gauss(0, 5)} for _, i, price in made])
    found = wine.ok(
        "monitor", "performance", "pricing", "--truth", "sold.csv", "--join", "bottle", "--no-log", "-o", "json",
        "--baseline", _run_with(wine, "rmse=4.9"),
    ).json  # fmt: skip
    by_name = {item["metric"]: item for item in found["windows"][0]["metrics"]}
    assert found["task"] == "regression"
    assert by_name["rmse"]["value"] == pytest.approx(5, abs=0.8)
    assert by_name["r2"]["value"] > 0.9
    assert not by_name["rmse"]["worse"]


def _run_with(wine: Any, metric: str) -> str:
    wine.ok("track", "-e", "wine", "--run-name", "priced", "--", "true")
    run = wine.ok("run", "show", "priced", "-q").out.strip()
    wine.ok("log", "metric", metric, "--run", run)
    return run


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--truth", "apart.csv", "--join", "id"], 1, "'b0', 'b1', 'b2'…"),
        (["--truth", "twice.csv", "--join", "id"], 1, "several truths"),
        (["--truth", "truth.csv", "--join", "nosuch"], 3, "nosuch"),
        (["--truth", "nowhere.csv", "--join", "id"], 3, "nowhere.csv"),
        (["--truth", "truth.csv"], 2, "--join"),
        (["--join", "id"], 2, "--truth"),
        (["--truth", "truth.csv", "--join", "id", "--task", "ranking"], 2, "ranking"),
        (["--truth", "truth.csv", "--join", "id", "--positive", "9"], 2, "no class '9'"),
        (["--truth", "truth.csv", "--join", "id", "--against", "accuracy=acc"], 2, "--baseline"),
        (["--truth", "wide.csv", "--join", "id"], 2, "--target"),
    ],
)
def test_what_is_wrong_with_the_truth_is_said(
    monitor: Callable[..., Ended], work: Path, arguments: list[str], code: int, said: str
) -> None:
    made = rows(40)
    table(work / "answers.csv", made, "id", "quality")
    table(work / "truth.csv", made, "id", "quality")
    table(work / "apart.csv", [{"id": f"x{i}", "quality": 5} for i in range(5)])
    table(work / "twice.csv", [*made, made[0]], "id", "quality")
    table(work / "wide.csv", made)
    found = monitor("performance", "--data", "answers.csv", *arguments)
    assert found.code == code, found.err
    assert said in found.err


def test_two_classes_have_an_area_under_the_curve(monitor: Callable[..., Ended], work: Path) -> None:
    rng = random.Random(6)
    made = []
    for i in range(300):
        true = rng.random() < 0.4
        score = min(1, max(0, rng.gauss(0.65 if true else 0.35, 0.2)))
        made.append({"id": i, "score": score, "prediction": score > 0.5, "true": true})
    table(work / "answers.csv", made, "id", "score", "prediction")
    table(work / "truth.csv", made, "id", "true")
    command = (
        "performance",
        "--data",
        "answers.csv",
        "--truth",
        "truth.csv",
        "--join",
        "id",
        "--score",
        "score",
    )
    found = monitor(*command, "-o", "json").json
    assert found["positive"] == "true"
    by_name = {item["metric"]: item for item in found["windows"][0]["metrics"]}
    assert set(by_name) == {"accuracy", "precision", "recall", "f1", "auc"}
    assert by_name["auc"]["interval"] == "hanley-mcneil"
    assert "no training run" in " ".join(found["notes"])


def test_three_classes_have_an_area_by_the_scores_of_each(monitor: Callable[..., Ended], work: Path) -> None:
    rng = random.Random(7)
    made = []
    for i in range(600):
        true = rng.choice("abc")
        scores = {f"p_{c}": rng.random() + 0.5 * (c == true) for c in "abc"}
        guess = max("abc", key=lambda c: scores[f"p_{c}"])
        made.append({"id": i, "prediction": guess, "true": true, **scores, "at": f"2024-01-0{1 + i // 300}"})
    table(work / "answers.csv", made, "id", "prediction", "p_a", "p_b", "p_c", "at")
    table(work / "truth.csv", made, "id", "true")
    base = ("performance", "--data", "answers.csv", "--truth", "truth.csv", "--join", "id", "--time", "at")
    each = ("--score", "a=p_a", "--score", "b=p_b", "--score", "c=p_c")
    found = monitor(*base, *each, "--every", "1d", "-o", "json").json
    assert (found["positive"], found["average"]) == (None, "macro")
    for window in found["windows"]:
        auc = next(item for item in window["metrics"] if item["metric"] == "auc")
        assert auc["interval"] == "delong"
        assert 0.6 < auc["low"] < auc["value"] < auc["high"] < 1
    weighted = monitor(*base, *each, "--average", "weighted", "-o", "json").json["windows"][0]["metrics"]
    by_name = {item["metric"]: item["value"] for item in weighted}
    assert by_name["recall"] == pytest.approx(by_name["accuracy"])
    of_one = monitor(*base, *each, "--positive", "b", "-o", "json").json["windows"][0]["metrics"]
    assert next(item for item in of_one if item["metric"] == "auc")["interval"] == "hanley-mcneil"
    assert "or give --score CLASS=COLUMN" in monitor(*base, "--score", "p_a", "--prediction", "prediction").err
    for wrong, code, said in (
        (each[:4], 2, "'c' has no score"),
        (("--score", "p_a", "--score", "p_b"), 2, "names no class"),
        ((*each[:4], "--score", "a=p_c"), 2, "a class twice"),
        (("--score", "a=p_x"), 3, "p_x"),
        ((*each, "--average", "mean"), 2, "mean"),
    ):
        refused = monitor(*base, *wrong)
        assert (refused.code, said in refused.err) == (code, True), refused.err


TRAIN = """
import mlflow, mlflow.sklearn, pandas
from mlflow.models import infer_signature
from sklearn.linear_model import LinearRegression
data = pandas.DataFrame({"age": [float(i % 50) for i in range(300)], "sugar": [float(i % 7) for i in range(300)]})
data["price"] = 3 * data.age + data.sugar
x = data[["age", "sugar"]]
with mlflow.start_run(run_name="priced"):
    model = LinearRegression().fit(x, data.price)
    data.to_parquet("training.parquet")
    mlflow.log_artifact("training.parquet")
    mlflow.sklearn.log_model(model, name="model", serialization_format="cloudpickle",
        signature=infer_signature(x, data.price), pip_requirements=["scikit-learn", "pandas", "cloudpickle"])
"""


def test_an_endpoints_baseline_is_what_its_model_was_trained_on(wine: Any, work: Path) -> None:
    (work / "train.py").write_text(TRAIN)
    wine.ok("track", "-e", "wine", "--", sys.executable, "train.py")
    wine.ok("register", "priced", "--name", "price")
    wine.ok("deploy", "price:1", "--name", "pricing", "--env-manager", "local")
    try:
        bare = wine.drift("pricing")
        assert bare.code == 3
        assert "--collect" in bare.err
        root, at = work / "ws" / "collected" / "pricing", NOW - timedelta(hours=3)
        write_collected(root, "model_inputs", [(at, f"r{i}", [{"age": i % 50, "sugar": i % 7}]) for i in range(150)])
        write_collected(root, "model_outputs", [(at, f"r{i}", [{"0": 3.0 * (i % 50) + i % 7}]) for i in range(150)])
        found = wine.ok("monitor", "drift", "pricing", "-o", "json").json
        assert found["baseline_rows"] == 300
        assert not found["drifted"]
        assert [(c["column"], c["baseline_column"]) for c in found["windows"][0]["columns"]][-1] == ("0", "price")
        logged = wine.ok("run", "show", found["run_id"], "-o", "json").json
        assert logged["experiment"] == "pricing-monitoring"
        wine.ok("monitor", "create", "watch", "--endpoint", "pricing", "--every", "1d", "--fail")
        watched = wine.ok("monitor", "run", "watch", "-o", "json").json
        assert watched["windows"][0]["rows"] == 150
        assert wine.ok("run", "show", watched["run_id"], "-o", "json").json["experiment"] == "watch-monitoring"
        other = root / "model_inputs"
        for file in other.rglob("*.jsonl"):
            file.write_text(file.read_text().replace('"age"', '"years"'))
        renamed = wine.drift("pricing", "--no-log")
        assert renamed.code == 1
        assert "'age'" in renamed.err
    finally:
        wine("endpoint", "delete", "pricing")
