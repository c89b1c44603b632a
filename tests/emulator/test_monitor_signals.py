"""What the step of a monitor's job reads and computes, from files as the job has them."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from amlflow.emulator.monitoring import data, signals
from amlflow.emulator.monitoring.signals import Row
from amlflow.errors import AmlflowError, NotFound
from amlflow.workspaces.azure.monitor_runs import of_tag

NOW = datetime(2026, 3, 2, 12, 30, tzinfo=timezone.utc)
NOW_MS = round(NOW.timestamp() * 1000)
ASSET = "/subscriptions/s/data/asked/versions/1"


def collected(folder: Path, at: datetime, rows: Sequence[dict[str, Any]], first: int = 0) -> None:
    """Records of the data collector, one request a row."""
    file = folder / f"{at:%Y/%m/%d/%H}" / f"{at:%M}.jsonl"
    file.parent.mkdir(parents=True, exist_ok=True)
    lines = (
        json.dumps({"time": f"{at:%Y-%m-%dT%H:%M:%SZ}", "data": [row], "correlationid": f"r{first + i}"})
        for i, row in enumerate(rows)
    )
    file.write_text("\n".join(lines) + "\n")


def table(file: Path, rows: Sequence[dict[str, Any]]) -> Path:
    with file.open("w", newline="") as sink:
        writer = csv.DictWriter(sink, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return file


def source(kind: str = "Fixed", context: str = "model_inputs", **more: Any) -> dict[str, Any]:
    return {"inputDataType": kind, "jobInputType": "uri_folder", "uri": ASSET, "dataContext": context, **more}


def trailing(size: str, offset: str = "P0D", **more: Any) -> dict[str, Any]:
    return source("Trailing", windowSize=size, windowOffset=offset, **more)


def limit(of: str, metric: str, value: float | None) -> dict[str, Any]:
    return {"dataType": of, "metric": metric, "threshold": None if value is None else {"value": value}}


class Case:
    """One signal over a folder of production data and a file of reference data."""

    def __init__(self, scratch: Path) -> None:
        self.production, self.reference = scratch / "production", scratch / "reference.csv"
        self.scratch, self.said = scratch, []

    def rows(self, signal: dict[str, Any]) -> list[Row]:
        given = (("production", self.production), ("reference", self.reference))
        sides = [
            data.read(
                signal["productionData"][0] if name == "production" else signal["referenceData"],
                str(place),
                self.scratch / "read" / name,
                NOW_MS,
                self.said.append,
            )
            for name, place in given
        ]
        return signals.compute(signal, sides[0], sides[1], self.said.append)

    def values(self, signal: dict[str, Any]) -> dict[tuple[str, str], float]:
        return {(row.metric, row.group): row.value for row in self.rows(signal)}


@pytest.fixture
def case(tmp_path: Path) -> Case:
    made = Case(tmp_path)
    table(
        made.reference,
        [{"age": 20 + i / 10, "color": "ab"[i % 2], "at": f"2025-01-{1 + i % 28:02d}"} for i in range(200)],
    )
    ages = [{"age": 30 + i / 10, "color": "bc"[i % 2], "at": "2026-03-02"} for i in range(200)]
    collected(made.production, NOW - timedelta(hours=1), ages)
    collected(made.production, NOW - timedelta(hours=3), [{"age": 20.0, "color": "a", "at": "2026-03-02"}] * 7)
    collected(made.production, NOW - timedelta(days=30), [{"age": 9.0, "color": "a", "at": "2026-03-02"}] * 5)
    return made


DRIFT = [
    limit("Numerical", "normalizedWassersteinDistance", 0.5),
    limit("Numerical", "TwoSampleKolmogorovSmirnovTest", 0.01),
    limit("Categorical", "JensenShannonDistance", None),
]


def drift(production: dict[str, Any], **more: Any) -> dict[str, Any]:
    limits = {"metricThresholds": DRIFT}
    return {"signalType": "DataDrift", "productionData": [production], "referenceData": source(), **limits, **more}


def test_drift_against_the_reference(case: Case) -> None:
    rows = {(row.metric, row.group): row for row in case.rows(drift(trailing("PT2H")))}
    assert rows["TargetRowCount", ""].value == 200
    # All are ten years older: ten over the deviation of 200 values a tenth apart.
    moved = rows["NormalizedWassersteinDistance", "age"]
    assert moved.value == pytest.approx(10 / 5.788, rel=0.001)
    assert (moved.threshold, moved.crossed) == (0.5, True)
    test = rows["TwoSampleKolmogorovSmirnovTest", "age"]
    assert (test.crossed, test.value < 0.01) == (True, True), "of a test a low value is the alarm"
    # Half of the values are in common.
    assert rows["JensenShannonDistance", "color"].value == pytest.approx(0.5**0.5)
    assert rows["JensenShannonDistance", "color"].threshold == 0.1, "the service's default"
    assert {group for _, group in rows} == {"", "age", "color"}
    assert any("'at'" in line for line in case.said), "a time is left out, and that is said"


def test_a_signal_that_computes_nothing_fails(case: Case) -> None:
    at = NOW - timedelta(hours=5)
    collected(case.production, at, [{"age": None, "color": None, "at": "2026-03-02"}] * 9)
    empty = source("Static", windowStart="2026-03-02T07:00:00Z", windowEnd="2026-03-02T08:00:00Z")
    with pytest.raises(AmlflowError, match=r"None of the metrics could be computed.*'age': The data have no value"):
        case.rows(drift(empty))
    rates = [limit("Numerical", "NullValueRate", 0.1)]
    quality = case.values(drift(empty, signalType="DataQuality", metricThresholds=rates))
    assert quality["NullValueRate", "age"] == 1


@pytest.mark.parametrize(
    ("production", "rows"),
    [
        (trailing("PT4H"), 207),
        (trailing("PT2H", "PT2H"), 7),
        (trailing("P31D"), 212),
        (source("Rolling", windowSize="P1D", windowOffset="P29DT12H"), 5),
        (source("Static", windowStart="2026-03-02T11:00:00Z", windowEnd="2026-03-02T12:00:00Z"), 200),
        (source(), 212),
    ],
)
def test_windows(case: Case, production: dict[str, Any], rows: int) -> None:
    assert case.values(drift(production))["TargetRowCount", ""] == rows


@pytest.mark.parametrize("production", [trailing("PT10M"), trailing("P1D", "P10D")])
def test_a_window_without_data_is_no_pass(case: Case, production: dict[str, Any]) -> None:
    with pytest.raises(NotFound, match="contains no data"):
        case.rows(drift(production))
    with pytest.raises(NotFound, match="contains no data"):
        data.read(production, "", case.scratch, NOW_MS, case.said.append)


def test_tables_that_tell_no_time_are_taken_whole(case: Case) -> None:
    case.production = table(case.scratch / "asked.csv", [{"age": 20 + i / 10} for i in range(50)])
    assert case.values(drift(trailing("PT1H")))["TargetRowCount", ""] == 50
    assert any("tell no time" in line for line in case.said)


def test_features_and_their_types(case: Case) -> None:
    chosen = {"filterType": "FeatureSubset", "features": ["color"]}
    assert {group for _, group in case.values(drift(trailing("PT2H"), features=chosen))} == {"", "color"}
    types = {"featureDataTypeOverride": {"age": "Categorical"}}
    assert ("JensenShannonDistance", "age") in case.values(drift(trailing("PT2H"), **types))
    with pytest.raises(AmlflowError, match="'size'"):
        case.rows(drift(trailing("PT2H"), features={**chosen, "features": ["size"]}))
    case.values(drift(trailing("PT2H"), features={"filterType": "TopNFeaturesByAttribution", "top": 3}))
    assert any("without attributions" in line for line in case.said)
    table(case.reference, [{"weight": 1.5}, {"weight": 2.5}])
    with pytest.raises(AmlflowError, match="no column in common"):
        case.rows(drift(trailing("PT2H")))


def test_the_baselines_own_rate_is_allowed(case: Case) -> None:
    table(case.reference, [{"age": "" if i < 20 else 20 + i / 10, "color": "b"} for i in range(200)])
    collected(case.production, NOW, [{"age": None if i < 30 else 25.0, "color": "b"} for i in range(200)])
    limits = [
        limit(of, metric, 0.04)
        for of in ("Numerical", "Categorical")
        for metric in ("NullValueRate", "OutOfBoundsRate")
    ]
    production = source("Static", windowStart=NOW.isoformat(), windowEnd="2026-03-02T13:00:00Z")
    signal = {**drift(production), "signalType": "DataQuality", "metricThresholds": limits}
    rows = {(row.metric, row.group): row for row in case.rows(signal)}
    assert rows["NullValueRate", "age"].value == pytest.approx(0.15)
    assert rows["NullValueRate", "age"].threshold == pytest.approx(0.14)
    assert [key for key, row in rows.items() if row.crossed] == [("NullValueRate", "age")]


def test_prediction_drift_pairs_its_columns(case: Case) -> None:
    collected(case.production, NOW - timedelta(minutes=5), [{"price": 5.0 + i} for i in range(60)])
    table(case.reference, [{"sold": 5.0 + i, "age": i} for i in range(60)])
    signal = drift(trailing("PT10M", columns={"target_column": "price"}))
    signal |= {"signalType": "PredictionDrift", "referenceData": source(columns={"target_column": "sold"})}
    found = case.values(signal)
    assert found["NormalizedWassersteinDistance", "price"] == 0
    assert {group for _, group in found} == {"", "price"}


def performance(task: str, limits: dict[str, float], production: dict[str, Any]) -> dict[str, Any]:
    every = [{"modelType": task, "metric": name, "threshold": {"value": value}} for name, value in limits.items()]
    return {
        "signalType": "ModelPerformance",
        "productionData": [{**production, "columns": {"prediction": "said", "correlation_id": "correlationid"}}],
        "referenceData": source(context="ground_truth", columns={"target": "true", "correlation_id": "id"}),
        "metricThreshold": every[0],
        "properties": {"azureml.modelmonitor.model_performance_thresholds": json.dumps(every)},
    }


def test_performance_against_the_truth(case: Case) -> None:
    collected(case.production, NOW - timedelta(minutes=5), [{"said": "yes" if i % 4 else "no"} for i in range(40)])
    table(case.reference, [{"id": f"r{i}", "true": "yes"} for i in range(40)])
    rows = {
        row.metric: row
        for row in case.rows(performance("classification", {"Accuracy": 0.8, "Recall": 0.7}, trailing("PT10M")))
    }
    assert (rows["Accuracy"].value, rows["Accuracy"].crossed) == (0.75, True)
    assert (rows["Recall"].value, rows["Recall"].crossed) == (0.75, False)
    assert rows["Precision"].threshold is None

    collected(case.production, NOW - timedelta(minutes=4), [{"said": 10.0 + i} for i in range(40)], first=100)
    table(case.reference, [{"id": f"r{100 + i}", "true": 12.0 + i} for i in range(40)])
    limits = {"RootMeanSquaredError": 1.5, "MeanSquaredError": 5.0}
    rows = {row.metric: row for row in case.rows(performance("regression", limits, trailing("PT5M")))}
    assert (rows["RootMeanSquaredError"].value, rows["RootMeanSquaredError"].crossed) == (2.0, True)
    assert (rows["MeanSquaredError"].value, rows["MeanSquaredError"].crossed) == (4.0, False)
    assert rows["TargetRowCount"].value == 40


def test_the_tag_of_what_crossed_is_read_as_far_as_it_goes() -> None:
    from amlflow.emulator.monitoring.recording import _message

    rows = [Row("NullValueRate", 0.5, f"column {i}", 0.1) for i in range(40)]
    text = _message("quality", rows)
    read = list(of_tag(text))
    assert len(text) <= 1000
    assert (read[0].signal, read[0].column, read[0].value, read[0].crossed) == ("quality", "column 0", 0.5, True)
    assert 5 < len(read) < 40
    assert len(list(of_tag(text[:400]))) == 3, "what the service has cut off does not parse, and the rest does"
