"""The page of a comparison: what is kept of long histories, how it is packed, what importance says, what cannot break out."""

from __future__ import annotations

import base64
import gzip
import hashlib
import html
import json
import math
import random
import re
import struct
from collections.abc import Sequence
from typing import Any

import pytest

from amlflow.reports.comparison import Comparison, MetricRow, ParamRow
from amlflow.reports.comparison_page import Matrix, PageContent, RunFiles, document
from amlflow.reports.histories import Packed, points_each, thinned
from amlflow.reports.importance import grouped, importance
from amlflow.reports.page import contained
from amlflow.reports.room import Fitted, fitted
from amlflow.workspaces.base import MetricPoint, Run

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)><!--\u2028"


def curve(values: Sequence[float], start: int = 0, gap_ms: int = 10) -> list[MetricPoint]:
    return [MetricPoint(value, start + step, 1_700_000_000_000 + step * gap_ms) for step, value in enumerate(values)]


def a_run(number: int, name: str = "", **more: Any) -> Run:
    return Run(
        f"{number:032x}", name or f"run-{number}", "1", "wine", "FINISHED", 0, 1000, "active", "/nowhere", **more
    )


def unpacked(text: str) -> dict[tuple[int, int], dict[str, Any]]:
    """What the page's own script does, written again from the description of the format."""
    whole = gzip.decompress(base64.b64decode(text))
    length = struct.unpack("<I", whole[:4])[0]
    rows, data = json.loads(whole[4 : 4 + length]), whole[4 + length :]

    def column(offset: int, count: int, kind: str) -> list[float]:
        width = struct.calcsize(kind)
        raw = bytes(data[offset + plane * count + place] for place in range(count) for plane in range(width))
        return list(struct.unpack(f"<{count}{kind}", raw))

    found = {}
    for run, metric, offset, count, logged, step, time, kinds in rows:
        places = [offset]
        numbers = []
        for bit, narrow in ((1, "f"), (2, "i"), (4, "i")):
            kind = "d" if kinds & bit else narrow
            numbers.append(column(places[-1], count, kind))
            places.append(places[-1] + count * struct.calcsize(kind))
        values, steps, times = numbers
        for line, first, bit in ((steps, step, 2), (times, time, 4)):
            if not kinds & bit:
                line[0] += first
                for index in range(1, count):
                    line[index] += line[index - 1]
        found[run, metric] = {"values": values, "steps": steps, "times": times, "logged": logged}
    return found


def test_the_highest_and_the_lowest_value_of_every_stretch_stay() -> None:
    chance = random.Random(5)
    points = curve([chance.gauss(0, 1) for _ in range(10_000)])
    points[7_123] = MetricPoint(1e6, 7_123, 5)
    points[7_124] = MetricPoint(-1e6, 7_124, 6)
    kept = thinned(points, 100)
    assert len(kept) <= 100
    assert (kept[0], kept[-1]) == (points[0], points[-1])
    assert [point.step for point in kept] == sorted({point.step for point in kept})
    assert {points[7_123], points[7_124]} <= set(kept)
    for stretch in range(49):
        part = points[1 + 9_998 * stretch // 49 : 1 + 9_998 * (stretch + 1) // 49]
        held = [point.value for point in kept if point in set(part)]
        assert (min(held), max(held)) == (min(p.value for p in part), max(p.value for p in part))


def test_short_histories_stay_as_they_are() -> None:
    points = curve([1.0, math.nan, 3.0])
    assert thinned(points, 64) is points


def test_what_is_not_finite_stays_beside_the_extremes() -> None:
    values = [math.sin(step / 50) for step in range(5_000)]
    values[1_000], values[2_000], values[3_000] = math.nan, math.inf, -math.inf
    values[4_000] = 9.0
    kept = thinned(curve(values), 200)
    assert len(kept) <= 200
    shown = {point.step: point.value for point in kept}
    assert math.isnan(shown[1_000])
    assert (shown[2_000], shown[3_000], shown[4_000]) == (math.inf, -math.inf, 9.0)
    only = thinned(curve([math.nan] * 1_000), 64)
    assert 2 <= len(only) <= 64


@pytest.mark.parametrize(
    ("values", "start"),
    [
        ([0.1, 0.2, -0.3], 0),
        ([1.0, math.nan, math.inf, -math.inf], -5),
        ([1e300, -1e300], 0),
        ([1e9, 1e9 + 1, 1e9 + 2], 0),
        ([1e-310, 2e-310], 0),
        ([7.0], 2**53 - 2),
    ],
)
def test_a_series_is_unpacked_as_it_was_packed(values: list[float], start: int) -> None:
    packed = Packed(64)
    packed.add(0, 0, curve([5.0]))
    packed.add(3, 2, curve(values, start))
    series = unpacked(packed.text())[3, 2]
    assert series["steps"] == [start + step for step in range(len(values))]
    assert series["times"] == [1_700_000_000_000 + step * 10 for step in range(len(values))]
    for given, found in zip(values, series["values"], strict=True):
        assert (math.isnan(given) and math.isnan(found)) or found == pytest.approx(given, rel=1e-7)
    assert len(set(series["values"])) == len(set(values)) or any(map(math.isnan, values))


def test_steps_and_times_may_leap() -> None:
    packed = Packed(64)
    points = [MetricPoint(1.0, 0, 0), MetricPoint(2.0, 2**40, 2**41), MetricPoint(3.0, 5, 7)]
    packed.add(0, 0, points)
    series = unpacked(packed.text())[0, 0]
    assert (series["steps"], series["times"]) == ([0, 2**40, 5], [0, 2**41, 7])


def test_two_hundred_runs_with_long_histories_fit_in_their_share_of_the_page() -> None:
    chance = random.Random(1)
    each = points_each(200 * 100)
    packed = Packed(each)
    shapes = [curve([chance.random() for _ in range(1_000)], gap_ms=17) for _ in range(20)]
    for run in range(200):
        for metric in range(10):
            packed.add(run, metric, shapes[(run + metric) % 20])
    assert all(row[3] <= each for row in packed.rows)
    # These are a tenth of the series that the page is made for, and noise, which does not compress.
    assert len(packed.text()) < 1_700_000


def test_importance_is_the_effect_size_of_the_kruskal_wallis_test() -> None:
    stats = pytest.importorskip("scipy.stats")
    chance = random.Random(3)
    kinds = [chance.choice("abc") for _ in range(60)]
    metric = [round(ord(kind) + chance.gauss(0, 1.5), 1) for kind in kinds]
    found = importance(grouped(kinds), metric)
    expected = stats.kruskal(*([v for v, k in zip(metric, kinds, strict=True) if k == kind] for kind in "abc"))
    assert found is not None
    assert found.share == pytest.approx((expected.statistic - 3 + 1) / (60 - 3))
    assert (found.trend, found.runs, found.groups) == (None, 60, 3)


def test_the_trend_of_a_number_is_spearmans_correlation() -> None:
    stats = pytest.importorskip("scipy.stats")
    chance = random.Random(4)
    numbers = [chance.choice([0.1, 0.01, 0.5, 1e-3, 3.0]) for _ in range(40)]
    metric = [-math.log(number) + chance.gauss(0, 2) for number in numbers]
    found = importance(grouped([str(number) for number in numbers]), metric)
    assert found is not None
    assert found.trend == pytest.approx(stats.spearmanr(numbers, metric).statistic)
    assert found.groups == 5


def test_what_matters_ranks_above_what_does_not_even_where_the_effect_turns() -> None:
    chance = random.Random(6)
    rate = [chance.random() for _ in range(80)]
    noise = [chance.random() for _ in range(80)]
    metric = [(value - 0.5) ** 2 + chance.gauss(0, 0.005) for value in rate]
    matters = importance(grouped([str(value) for value in rate]), metric)
    other = importance(grouped([str(value) for value in noise]), metric)
    assert matters is not None
    assert other is not None
    assert matters.share > 0.5 > 0.2 > other.share
    assert abs(matters.trend or 0) < 0.4


@pytest.mark.parametrize(
    ("values", "metric"),
    [
        (["1", "2", "1", "2"], [1.0, 2.0, 1.0, 2.0]),
        (["a"] * 10, list(range(10))),
        ([f"name-{index}" for index in range(10)], list(range(10))),
        (["1", "2"] * 5, [3.0] * 10),
        (["1", "2"] * 5, [math.nan] * 10),
        ([None] * 10, list(range(10))),
        ([], []),
    ],
)
def test_nothing_is_said_where_nothing_can_be(values: list[str | None], metric: list[float]) -> None:
    assert importance(grouped(values), metric) is None


def test_numbers_that_are_equal_are_never_put_apart() -> None:
    values = [0.5] * 30 + [0.1 * index for index in range(10)]
    groups = grouped([str(value) for value in values]).groups
    assert len(set(groups[:30])) == 1
    few = grouped(["0.1", "0.2", "0.3", "0.4"] * 3).groups
    assert len(set(few)) == 4, "a best value in the middle is not put together with a bad one"
    many = grouped([str(index) for index in range(40)]).groups
    assert [many.count(group) for group in range(5)] == [8] * 5
    mixed = grouped(["1", "2", "adam"] * 4)
    assert mixed.numbers is None
    assert len(set(mixed.groups)) == 3


def test_data_cannot_end_the_element_that_it_stands_in() -> None:
    text = contained({HOSTILE: [HOSTILE, math.nan, math.inf, -math.inf, "\ud800"]})
    assert not set("<>&\u2028") & set(text)
    assert json.loads(text) == {HOSTILE: [HOSTILE, "NaN", "Infinity", "-Infinity", "?"]}


@pytest.fixture
def hostile_page() -> str:
    run = a_run(1, HOSTILE, metrics={HOSTILE: 1.0}, params={HOSTILE: HOSTILE}, tags={HOSTILE: HOSTILE})
    metrics = [MetricRow(HOSTILE, "unknown", [1.0], frozenset(), [None])]
    comparison = Comparison([run], metrics, [ParamRow(HOSTILE, [HOSTILE], False)])
    packed = Packed(64)
    packed.add(0, 0, curve([1.0]))
    files = RunFiles(
        {HOSTILE: HOSTILE}, {HOSTILE: Matrix([HOSTILE], [[1.0]])}, {HOSTILE: {HOSTILE: HOSTILE}}, {}, HOSTILE
    )
    content = PageContent(comparison, HOSTILE, [HOSTILE], 0, packed, {0: files}, (), [HOSTILE])
    return "".join(document(content)[0])


def test_hostile_names_stand_in_the_file_as_data_only(hostile_page: str) -> None:
    assert "alert(1)</script>" not in hostile_page
    assert "<img" not in hostile_page
    assert "<title>&lt;/script&gt;" in hostile_page
    assert hostile_page.count("<script") == 4


def test_only_the_scripts_of_the_page_may_run_and_nothing_may_load(hostile_page: str) -> None:
    found = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', hostile_page)
    assert found is not None
    policy = dict(part.strip().split(" ", 1) for part in html.unescape(found[1]).split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["img-src"] == "data: blob:"
    own = hostile_page[hostile_page.rindex("<script>") + 8 : hostile_page.rindex("</script>")]
    plots = re.search(r'id="plotly">([^<]*)<', hostile_page)
    assert plots is not None
    allowed = [own.encode(), gzip.decompress(base64.b64decode(plots[1]))]
    digests = [base64.b64encode(hashlib.sha256(text).digest()).decode() for text in allowed]
    assert policy["script-src"] == " ".join(f"'sha256-{digest}'" for digest in digests)
    assert not re.search(r"""(src|href)=["']?(https?:)?//""", hostile_page)


def test_long_params_and_many_columns_leave_the_page_below_its_limit() -> None:
    runs = [
        Run(f"{at:032x}", f"run-{at}", "1", "e", "FINISHED", 0, 1, "active", "/none", tags={"note": "<" * 5000})
        for at in range(100)
    ]
    metrics = [MetricRow(f"m{at}", "lower", [at + 0.1] * 100, frozenset(), [None] * 100) for at in range(20)]
    params = [ParamRow(f"p{at}", [f"{run}{'<' * 5999}" for run in range(100)], True) for at in range(200)]
    content = PageContent(
        Comparison(runs, metrics, params), "big", ["w"] * 100, 0, Packed(64), {}, notes=["Said before."]
    )
    pieces, left_out = document(content)
    written = "".join(pieces)
    assert 15_000_000 < len(written.encode()) < 20_000_000
    assert left_out[:2] == ["Said before.", "Cut after 200 characters: long params and tags, which would not fit."]
    assert "of 200 params" in left_out[2]
    found = re.search(r'<script type="application/json" id="data">([^<]*)</script>', written)
    assert found is not None
    data = json.loads(found[1])
    assert (len(data["metrics"]), data["notes"]) == (20, left_out)
    assert all(row[0] < len(data["params"]) for rows in data["importance"]["byMetric"] for row in rows)


def test_what_fits_is_left_as_it_is() -> None:
    columns = [{"key": "p", "values": ["x" * 6000, None]}], [{"key": "t", "same": "y" * 6000}]
    assert fitted([], *columns, 13_000) == Fitted([], *columns, [])
    cut = fitted([], *columns, 1_000)
    assert cut.params[0]["values"] == ["x" * 199 + "…", None]
    assert cut.tags[0]["same"] == "y" * 199 + "…"
    assert fitted([{"key": "m"}], *columns, 5).params == []
