"""`amlflow compare --html`, in a browser."""

from __future__ import annotations

import math
import os
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from browsers import Browser
from compared import NOW

from amlflow.workspaces.base import Metric, Run
from amlflow.workspaces.local.workspace import LocalWorkspace

HOSTILE = "</script><img src=x onerror=\"window.hacked='yes'\"><b>bold</b>&amp;"
BAD_SVG = b"""<svg xmlns="http://www.w3.org/2000/svg" width="20" height="10" onload="window.hacked='svg'">
<script>window.hacked = 'svg script'</script><image href="http://127.0.0.1:9/x.png"/><rect width="20" height="10"/></svg>"""
SCRIPT = "program.py"
TRAIN = """
import warnings
warnings.simplefilter("ignore")
import math, subprocess, sys, time
import matplotlib
matplotlib.use("agg")
import matplotlib.pyplot as plt
import mlflow, mlflow.sklearn
from mlflow import MlflowClient
from mlflow.entities import Metric
from mlflow.models import infer_signature
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import ConfusionMatrixDisplay, confusion_matrix

x, y = load_iris(return_X_y=True, as_frame=True)
commits = sys.argv[1:]
client, now = MlflowClient(), 1_700_000_000_000
for number in range(12):
    rate = [0.001, 0.003, 0.01, 0.1][number % 4]
    solver = ["lbfgs", "saga"][number // 6]
    with mlflow.start_run(run_name=f"iris-{number}") as run:
        mlflow.log_params({"rate": rate, "solver": solver, "seed": number, "folds": 5})
        mlflow.set_tag("mlflow.source.git.commit", commits[number % 2])
        floor = abs(math.log10(rate) + 2)
        points = [Metric("loss", floor + math.exp(-step / 40), now + step * (900 + number), step) for step in range(200)]
        client.log_batch(run.info.run_id, metrics=points)
        mlflow.log_metric("accuracy", 0.9 - floor / 10 + number / 1000)
        if number < 2:
            model = LogisticRegression(C=rate, max_iter=50).fit(x if number else x.iloc[:, :3], y)
            shown = x if number else x.iloc[:, :3]
            found = confusion_matrix(y, model.predict(shown))
            ConfusionMatrixDisplay(found).plot()
            mlflow.log_figure(plt.gcf(), "plots/confusion.png")
            labels = ["setosa", "versicolor", "virginica"]
            table = {"schema_type": "confusion_matrix", "data": {"class_labels": labels, "matrix": found.tolist()}}
            mlflow.log_dict(table, "confusion_matrix.json")
            wanted = ["scikit-learn==1.5.%d" % number, "numpy==2.0.0"]
            mlflow.sklearn.log_model(model, name="model", signature=infer_signature(shown, y), pip_requirements=wanted)
            mlflow.log_text("diff --git a/x b/x\\n+one line more\\n", "source/uncommitted.diff")
"""


@pytest.fixture(scope="module")
def wine_page(tmp_path_factory: pytest.TempPathFactory, shared_cache: Path) -> Path:
    """The page of twelve runs that MLflow itself logged, of two commits of a repository; read by the tests, never changed."""
    root = tmp_path_factory.mktemp("page")
    commits = repository(root / "repository")
    cleared = ("AMLFLOW_", "MLFLOW_", "_MLFLOW_", "AZUREML_", "AZURE_")
    before = dict(os.environ)
    os.environ["AMLFLOW_CACHE_DIR"] = str(shared_cache)
    try:
        workspace = LocalWorkspace(root / "workspace")
        experiment = workspace.ensure_experiment("iris")
    finally:
        os.environ.clear()
        os.environ.update(before)
    plain = {key: value for key, value in os.environ.items() if not key.startswith(cleared)}
    plain |= {
        "AMLFLOW_CACHE_DIR": str(shared_cache),
        "AMLFLOW_HOME": str(root / "home"),
        "MPLCONFIGDIR": str(root / "mpl"),
    }
    env = {
        **plain,
        "MLFLOW_TRACKING_URI": workspace.tracking_uri,
        "MLFLOW_REGISTRY_URI": workspace.tracking_uri,
        "_MLFLOW_SERVER_ARTIFACT_ROOT": str(workspace.artifact_root),
        "MLFLOW_EXPERIMENT_ID": experiment.id,
    }
    made = subprocess.run([sys.executable, "-c", TRAIN, *commits], env=env, cwd=root, capture_output=True, text=True)
    assert made.returncode == 0, made.stderr[-3000:]
    page = root / "page.html"
    command = [str(Path(sys.executable).with_name("amlflow")), "-w", f"local:{root / 'workspace'}", "compare"]
    order = ["-e", "iris", "--sort", "accuracy", "--baseline", "iris-3", "--html", str(page)]
    done = subprocess.run([*command, *order], env=plain, cwd=root / "repository", capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "opens in any browser" in done.stderr
    assert "iris-2" in done.stdout
    return page


def repository(folder: Path) -> list[str]:
    """The ids of its two commits."""
    folder.mkdir()
    who = ["-c", "user.name=me", "-c", "user.email=me@example.org", "-c", "commit.gpgsign=false"]

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *who, *arguments], cwd=folder, check=True, capture_output=True, text=True).stdout

    git("init", "-q")
    found = []
    for text in ("rate = 1\n", "rate = 2  # <b>twice</b>\n"):
        (folder / SCRIPT).write_text(text)
        git("add", ".")
        git("commit", "-q", "-m", "step")
        found.append(git("rev-parse", "HEAD").strip())
    return found


@pytest.fixture
def local(work: Path) -> LocalWorkspace:
    workspace = LocalWorkspace(work / "ws")
    workspace.create()
    return workspace


def a_run(workspace: LocalWorkspace, name: str, metrics: list[Metric], params: dict[str, str], **tags: str) -> Run:
    experiment = workspace.ensure_experiment("e")
    run = workspace.create_run(experiment.id, name, tags, params)
    workspace.log_batch(run.id, metrics)
    workspace.finish_run(run.id, "FINISHED")
    return run


def names(browser: Browser) -> list[str]:
    return browser.texts("#run-table tbody th span[title]")


def lines(browser: Browser, chart: str = "history-chart") -> list[dict[str, Any]]:
    script = "return document.getElementById(arguments[0]).data.map((one) => ({name: one.name, x: one.x, y: one.y}))"
    return browser.js(script, chart)


def enter(browser: Browser, field: str, value: str) -> None:
    browser.js(
        "const field = document.getElementById(arguments[0]); field.value = arguments[1];"
        "field.dispatchEvent(new Event('input')); field.dispatchEvent(new Event('change'));",
        field,
        value,
    )


def click_heading(browser: Browser, text: str) -> None:
    browser.js(
        "const buttons = [...document.querySelectorAll('#run-table thead button')];"
        "buttons.find((one) => one.textContent.startsWith(arguments[0])).click()",
        text,
    )


def test_the_page_draws_itself_and_asks_for_nothing(wine_page: Path, browser: Browser) -> None:
    browser.open(wine_page)
    assert browser.complaints() == []
    assert [url for url in browser.loaded() if not url.startswith(("data:", "blob:"))] == [wine_page.as_uri()]
    assert browser.texts("h1") == ["Comparison of iris"]
    assert len(names(browser)) == 12
    assert browser.js("return document.getElementById('trouble').hidden")
    assert "baseline" in browser.texts("#run-table .badge")
    best = browser.js("return document.querySelector('#run-table .best').closest('tr').querySelector('th').textContent")
    assert best == "iris-10"


def test_the_table_sorts_and_filters_and_the_charts_follow(wine_page: Path, browser: Browser) -> None:
    browser.open(wine_page)
    click_heading(browser, "run")
    assert names(browser)[:3] == ["iris-0", "iris-1", "iris-2"]
    click_heading(browser, "run")
    assert names(browser)[:2] == ["iris-11", "iris-10"]
    click_heading(browser, "rate")
    assert names(browser)[:3] == ["iris-8", "iris-4", "iris-0"], "equal ones stay in the order of the comparison"
    enter(browser, "filter", "rate>=0.01 solver=saga")
    assert sorted(names(browser)) == ["iris-10", "iris-11", "iris-6", "iris-7"]
    assert browser.texts("#count") == ["4 of 12 runs"]
    assert sorted(line["name"] for line in lines(browser)) == ["iris-10", "iris-11", "iris-6", "iris-7"]
    for asked, fitting in {
        "SAGA iris-11": ["11"],
        "rate >= 0.01 and solver == 'saga'": ["10", "11", "6", "7"],
        "accuracy < 0.8045 or seed = 5": ["0", "3", "4", "5"],
        "not solver = saga rate > .05": ["3"],
        '`rate` > 0.05 params.seed != "3"': ["11", "7"],
        "rate > 0.05 seed <": ["11", "3", "7"],
    }.items():
        enter(browser, "filter", asked)
        assert sorted(names(browser)) == [f"iris-{number}" for number in fitting], asked
    enter(browser, "filter", "rmsse < 3")
    assert browser.texts("#count") == ["0 of 12 runs; no column is named rmsse"]
    enter(browser, "filter", "accuracy>5")
    assert names(browser) == []
    assert "No run fits" in browser.texts("#run-table td")[0]
    assert "No run is ticked" in browser.texts("#history-chart")[0]
    enter(browser, "filter", "")
    assert "No run is ticked" not in browser.texts("#history-chart")[0]
    browser.js("document.querySelector('#run-table tbody input').focus()")
    browser.js("document.activeElement.click()")
    assert len(lines(browser)) == 11
    assert browser.js("return document.activeElement.getAttribute('aria-label')").startswith("Draw iris-")


def test_histories_go_by_step_or_time_and_smooth(wine_page: Path, browser: Browser) -> None:
    browser.open(wine_page)
    assert browser.js("return document.getElementById('history-metric').selectedOptions[0].textContent") == "loss"
    line = next(line for line in lines(browser) if line["name"] == "iris-2")
    assert line["x"] == list(range(200))
    assert line["y"] == pytest.approx([math.exp(-step / 40) for step in range(200)], rel=1e-6)
    enter(browser, "axis", "elapsed")
    line = next(line for line in lines(browser) if line["name"] == "iris-2")
    assert line["x"] == pytest.approx([step * 0.902 / 60 for step in range(200)])
    enter(browser, "axis", "wall")
    assert browser.js("return document.getElementById('history-chart').layout.xaxis.type") == "date"
    enter(browser, "axis", "step")
    enter(browser, "smoothing", "0.9")
    assert len(lines(browser)) == 24
    raw, smooth = (line["y"] for line in lines(browser)[:2])
    average, expected = 0.0, []
    for index, value in enumerate(raw):
        average = 0.9 * average + 0.1 * value
        expected.append(average / (1 - 0.9 ** (index + 1)))
    assert smooth == pytest.approx(expected)
    fades = (
        "return new Set([...document.querySelectorAll('#history-chart .trace')].map((one) => one.style.opacity)).size"
    )
    browser.js("document.querySelector('#run-table tbody tr').dispatchEvent(new MouseEvent('mouseenter'))")
    assert browser.js(fades) == 3
    browser.js("document.querySelector('#run-table tbody tr').dispatchEvent(new MouseEvent('mouseleave'))")
    assert browser.js(fades) == 2


def test_dragging_zooms_into_a_history(wine_page: Path, browser: Browser) -> None:
    from selenium.webdriver import ActionChains

    browser.open(wine_page)
    browser.js("document.getElementById('history-chart').scrollIntoView({block: 'center'})")
    area = browser.driver.find_element("css selector", "#history-chart .nsewdrag")
    ActionChains(browser.driver).move_to_element_with_offset(area, -200, -80).click_and_hold().move_by_offset(
        150, 120
    ).release().perform()
    browser.until(lambda: browser.js("return document.getElementById('history-chart').layout.xaxis.range[1] < 150"))
    low, high = browser.js("return document.getElementById('history-chart').layout.xaxis.range")
    assert 0 < low < high < 150
    enter(browser, "smoothing", "0.5")
    assert browser.js("return document.getElementById('history-chart').layout.xaxis.range") == [low, high]


def test_a_box_over_an_axis_keeps_the_runs_that_pass_through_it(wine_page: Path, browser: Browser) -> None:
    browser.open(wine_page)
    axis = browser.js(
        "const chart = document.getElementById('parallel-chart'); const axis = chart.layout.xaxis.ticktext.indexOf('solver');"
        "chart.emit('plotly_selected', {range: {x: [axis - 0.1, axis + 0.1], y: [0.9, 1.05]}}); return axis"
    )
    assert axis >= 0
    assert sorted(names(browser)) == sorted(f"iris-{number}" for number in range(6, 12))
    browser.js("document.getElementById('clear-brushes').click()")
    assert len(names(browser)) == 12


def test_the_mouse_draws_such_a_box(wine_page: Path, browser: Browser) -> None:
    from selenium.webdriver import ActionChains

    browser.open(wine_page)
    browser.js("document.getElementById('parallel-chart').scrollIntoView({block: 'center'})")
    area = browser.driver.find_element("css selector", "#parallel-chart .nsewdrag")
    width, height = area.size["width"], area.size["height"]
    start = ActionChains(browser.driver).move_to_element_with_offset(area, int(width / 2 - 60), int(-height / 2 + 5))
    start.click_and_hold().move_by_offset(50, int(height * 0.45)).release().perform()
    browser.until(lambda: len(names(browser)) < 12)
    assert browser.texts("#count")[0].endswith("of 12 runs")


def test_importance_names_what_the_metric_goes_with(wine_page: Path, browser: Browser) -> None:
    browser.open(wine_page)
    ticks = browser.js("return document.getElementById('importance-chart').layout.yaxis.ticktext")
    assert ticks[-1] == "rate"
    shares = browser.js("return document.getElementById('importance-chart').data[0].x")
    assert shares[-1] > 0.7 > 0.3 > max(shares[:-1])
    (note,) = browser.texts("#importance-note")
    assert "Kruskal-Wallis" in note
    assert "all 12 runs" in note
    assert "hint at most" in note


def test_artifacts_stand_side_by_side(wine_page: Path, browser: Browser) -> None:
    browser.open(wine_page)
    pictures = browser.js("return [...document.querySelectorAll('#artifacts img')].map((one) => one.naturalWidth)")
    assert len(pictures) == 2
    assert min(pictures) > 100
    titles = browser.texts("#artifacts h3")
    assert "Confusion matrix confusion_matrix.json" in titles
    assert "Model model" in titles
    assert "Environment of model" in titles
    assert any(title.startswith("Git diff") for title in titles)
    assert any(title.startswith("Not committed") for title in titles)
    head = browser.texts("#artifacts .matrix thead th")
    assert head[:4] == ["true \\ predicted", "setosa", "versicolor", "virginica"]
    counts = [int(cell) for cell in browser.texts("#artifacts .matrix td")]
    assert sum(counts) == 300
    marked = browser.texts("#artifacts .facts .differs")
    assert any(row.startswith("inputs") and "petal width" in row for row in marked)
    assert "scikit-learn1.5.01.5.1" in marked or "scikit-learn1.5.11.5.0" in marked
    assert not any(row.startswith("numpy") for row in marked)
    assert {"+rate = 2  # <b>twice</b>", "-rate = 1"} <= {
        *browser.texts(".diff .added"),
        *browser.texts(".diff .removed"),
    } or {
        "-rate = 2  # <b>twice</b>",
        "+rate = 1",
    } <= {*browser.texts(".diff .added"), *browser.texts(".diff .removed")}


@pytest.mark.parametrize("width", [360, 768, 1400])
@pytest.mark.parametrize("dark", [False, True])
def test_the_page_fits_its_window_in_both_looks(wine_page: Path, browser: Browser, width: int, dark: bool) -> None:
    browser.open(wine_page, width=width, dark=dark)
    assert browser.js("return document.documentElement.scrollWidth") <= width
    back = browser.js("return document.getElementById('history-chart').layout.paper_bgcolor")
    assert back == ("#14171b" if dark else "#ffffff")
    assert browser.complaints() == []


def test_nothing_that_was_logged_becomes_part_of_the_page(
    amlflow: Any, local: LocalWorkspace, browser: Browser
) -> None:
    picture = local.root / "bad.svg"
    picture.write_bytes(BAD_SVG)
    labels = local.root / "confusion.csv"
    labels.write_text(f'x,"{HOSTILE.replace(chr(34), chr(34) * 2)}",b\na,1,2\nb,3,4\n')
    for number in range(6):
        points = [Metric("loss", step / (number + 1), step, step) for step in range(3)]
        params = {"p": f"{HOSTILE}{number % 2}", "same": HOSTILE}
        run = a_run(local, f"{HOSTILE}{number}", points, params, odd=HOSTILE)
        local.log_artifact(run.id, picture)
        local.log_artifact(run.id, labels, "<img src=x onerror=alert(1)>")
    with sqlite3.connect(local.root / "mlflow.db") as db:
        # No program of MLflow's can log such names; a server of somebody's own may well hold them.
        for table, before, after in (
            ("params", "p", "<i>p"),
            ("metrics", "loss", "<b>x"),
            ("latest_metrics", "loss", "<b>x"),
        ):
            db.execute(f"UPDATE {table} SET key = ? WHERE key = ?", (after, before))
    page = amlflow.cwd / "page.html"
    amlflow.ok("-w", f"local:{local.root}", "compare", "-e", "e", "--html", str(page))
    browser.open(page)
    browser.js("document.querySelectorAll('#columns input').forEach((one) => one.checked || one.click())")
    assert browser.js("return window.hacked ?? null") is None
    assert (
        browser.js("return document.querySelectorAll('#run-table b, #param-table b, h3 b, nav b, main i').length") == 0
    )
    assert browser.js("return document.querySelectorAll('img:not([src^=\"data:image/svg\"])').length") == 0
    assert browser.js("return document.querySelectorAll('svg a, svg b, svg img').length") == 0
    assert f"{HOSTILE}0"[:39] in names(browser)[0] or HOSTILE[:30] in names(browser)[0]
    shown = browser.js("return document.querySelector('#history-chart .legendtext').textContent")
    assert shown.startswith("</script><img src=x")
    assert [url for url in browser.loaded() if not url.startswith(("data:", "blob:"))] == [page.as_uri()]
    assert browser.complaints() == []


def test_runs_without_what_a_page_is_made_of_still_make_one(
    amlflow: Any, local: LocalWorkspace, browser: Browser
) -> None:
    page = amlflow.cwd / "page.html"
    here = ("-w", f"local:{local.root}", "compare", "-e", "e", "--html", str(page))
    bare = a_run(local, "bare", [], {})
    (local.root / "big.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(1_000_000))
    local.log_artifact(bare.id, local.root / "big.png")
    local.log_artifact(bare.id, local.root / "big.png", "a/b/c/d/e")
    amlflow.ok(*here)
    browser.open(page)
    assert names(browser) == ["bare"]
    assert browser.texts("#notes li") == [
        "Artifacts left out, being too large for the page: 1.",
        "Runs with more folders or files of artifacts than were looked at: 1.",
    ]
    assert "no parameters" in browser.texts("#param-note")[0]
    values = [0.5, math.nan, math.inf, 0.25]
    a_run(local, "odd", [Metric("loss", value, 0, step) for step, value in enumerate(values)], {"a": "1"})
    a_run(local, "long", [Metric("loss", step % 7, step, step) for step in range(5_000)], {"a": "2"})
    amlflow.ok(*here)
    browser.open(page)
    by_name = {line["name"]: line["y"] for line in lines(browser)}
    assert by_name["odd"] == [0.5, None, None, 0.25]
    assert (min(by_name["long"]), max(by_name["long"]), len(by_name["long"])) == (0, 6, 2_000)
    (note,) = browser.texts("#history-note")
    assert "2 values are NaN or infinite" in note
    assert "longer than the page holds" in note
    assert "importance needs 5" in browser.texts("#importance-chart")[0]
    assert browser.complaints() == []


def test_a_page_that_cannot_be_written_says_why(amlflow: Any, local: LocalWorkspace) -> None:
    a_run(local, "one", [Metric("loss", 1.0, 0, 0)], {})
    here = ("-w", f"local:{local.root}", "compare", "-e", "e", "--html")
    folder = amlflow(*here, str(amlflow.cwd))
    assert folder.code == 2
    assert "it is a folder" in folder.err
    missing = amlflow(*here, "none/page.html")
    assert missing.code == 2
    assert "there is no folder 'none'" in missing.err
    full = amlflow(*here, "/dev/full")
    assert full.code == 1
    assert "cannot be written" in full.err
    assert list(amlflow.cwd.glob(".*part")) == []


def test_runs_of_one_name_stay_apart_and_one_that_diverged_hides_no_other(
    amlflow: Any, local: LocalWorkspace, browser: Browser
) -> None:
    parent = a_run(local, "sweep", [], {})
    for number in range(6):
        scale = 1e6 if number == 5 else 1.0
        points = [Metric("loss", scale * (1 + step % 7), step, NOW + step * 60_000) for step in range(300)]
        params = {"config": f"{number} {'long ' * 30}", "depth": str(number % 2)}
        tags = {"mlflow.parentRunId": parent.id}
        a_run(local, "twin", points, params, **tags)
    page = amlflow.cwd / "page.html"
    amlflow.ok("-w", f"local:{local.root}", "compare", "-e", "e", "--html", str(page))
    browser.open(page)
    assert len({line["name"] for line in lines(browser)}) == 6
    assert all(name.startswith("twin (") for name in names(browser) if name != "sweep")
    assert browser.texts("#run-table tbody tr:first-child td")[2] == "sweep"
    enter(browser, "axis", "elapsed")
    assert browser.js("return document.getElementById('history-chart').layout.xaxis.title.text").startswith("hours")
    assert max(lines(browser)[0]["x"]) == pytest.approx(299 / 60)
    browser.js("document.getElementById('quiet-range').click()")
    assert browser.js("return document.getElementById('history-chart').layout.yaxis.range[1]") < 10
    # No two runs share a value of it, so that it neither has an axis nor matters.
    assert "config" not in browser.js("return document.getElementById('parallel-chart').layout.xaxis.ticktext")
    browser.js("document.querySelector('#param-table summary').click()")
    assert "long long" in browser.texts("#param-table details[open]")[0]


def test_a_page_follows_the_runs_that_go_on(amlflow: Any, local: LocalWorkspace, browser: Browser) -> None:
    run = local.create_run(local.ensure_experiment("e").id, "slow", {}, {"lr": "0.1"})
    local.log_batch(run.id, [Metric("loss", 1.0, 0, NOW)])
    a_run(local, "quick", [Metric("loss", 0.5, 0, NOW)], {"lr": "0.2"})
    page = amlflow.cwd / "page.html"
    here = ("-w", f"local:{local.root}", "compare", "slow", "quick", "--html", str(page))
    process = amlflow.start(*here, "--watch", "-q")
    try:
        browser.until(page.exists)
        browser.open(page)
        assert "this page follows them" in browser.texts("#about")[0]
        enter(browser, "filter", "lr < 0.15")
        enter(browser, "smoothing", "0.5")
        local.log_batch(run.id, [Metric("loss", 0.25, 1, NOW + 1000)])
        local.finish_run(run.id, "FINISHED")
        assert process.wait(timeout=60) == 0, process.stderr.read()
        browser.until(lambda: "FINISHED" in str(browser.texts("#run-table td")))
        browser.until(lambda: browser.js("return document.documentElement.dataset.drawn === 'yes'"))
    finally:
        process.kill()
        process.communicate()
    assert "follows" not in browser.texts("#about")[0]
    assert names(browser) == ["slow"]
    assert browser.js("return document.getElementById('smoothing').value") == "0.5"
    assert lines(browser)[0]["y"] == [1.0, 0.25]
    assert browser.complaints() == []
