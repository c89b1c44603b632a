"""A monitor as the API takes it and as the service's own client would send it from the YAML that is written of it."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import yaml

from amlflow.monitoring.timing import Timing
from amlflow.workspaces.azure.monitors import Limit, MonitorData, MonitorSpec, Signal, body, document

WORKSPACE = "/subscriptions/s/resourceGroups/g/providers/Microsoft.MachineLearningServices/workspaces/w"
DEPLOYMENT = f"{WORKSPACE}/onlineEndpoints/e/deployments/blue"
DRIFT = [
    Limit("normalizedWassersteinDistance", "numerical", 0.2),
    Limit("jensenShannonDistance", "categorical", 0.1),
]
RATES = [
    Limit(metric, of, value)
    for of in ("numerical", "categorical")
    for metric, value in (("nullValueRate", 0.01), ("dataTypeErrorRate", 0.0), ("outOfBoundsRate", 0.02))
]


def spec(timing: Timing, emails: list[str]) -> MonitorSpec:
    asked = MonitorData("azureml:e-blue-model_inputs:1", "uri_folder", "model_inputs", "P2D")
    columns = {"target_column": "price"}
    said = MonitorData("azureml:e-blue-model_outputs:1", "uri_folder", "model_outputs", "P2D", columns)
    trained = MonitorData("azureml:train:3", "mltable", "training")
    ids = {"prediction": "price", "correlation_id": "id"}
    answered = MonitorData("azureml:e-blue-model_outputs:1", "uri_folder", "model_outputs", "P2D", ids)
    truth = MonitorData("azureml:sold:1", "mltable", "ground_truth", "P2D", {"target": "paid", "correlation_id": "id"})
    signals = [
        Signal("data_drift", asked, trained, DRIFT, True, {"grape": "categorical"}),
        Signal("data_quality", asked, trained, RATES, False),
        Signal("prediction_drift", said, trained, DRIFT),
        Signal(
            "model_performance",
            answered,
            truth,
            [Limit("accuracy", "classification", 0.9), Limit("recall", "classification", 0.8)],
        ),
    ]
    return MonitorSpec("watch", timing, signals, DEPLOYMENT, "classification", emails, bool(emails))


@pytest.mark.parametrize(
    ("timing", "emails"),
    [
        (Timing("1d"), ["a@b.example"]),
        (Timing("2w"), []),
        (Timing("5h"), []),
        (Timing("", "0 6 * * 1-5"), ["a@b.example"]),
    ],
)
def test_the_yaml_and_the_body_say_the_same(tmp_path: Path, timing: Timing, emails: list[str]) -> None:
    from azure.ai.ml.entities._load_functions import load_schedule

    logging.getLogger("azure.ai.ml").setLevel(logging.ERROR)
    wanted = spec(timing, emails)
    file = tmp_path / "monitor.yml"
    file.write_text(yaml.safe_dump(document(wanted), sort_keys=False))
    theirs = load_schedule(file)._to_rest_object().as_dict()["properties"]
    ours = body(wanted, WORKSPACE)["properties"]
    assert ours.pop("isEnabled") is True
    assert not theirs.pop("properties")
    assert ours.pop("tags", {}) == theirs.pop("tags")
    assert _plain(ours) == _plain(theirs)


def _plain(value: Any) -> Any:
    """Without what the client does later or otherwise: it finds the ids of data assets when it sends, writes other letters large
    than the API's, and an empty pattern of days where there is none."""
    if isinstance(value, dict):
        made = {key: _plain(item) for key, item in value.items()}
        return {key: item for key, item in made.items() if item != {"hours": [], "minutes": []}}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if not isinstance(value, str):
        return value
    text = value.removeprefix("azureml:").lower().replace(", ", ",")
    return text.replace(f"{WORKSPACE.lower()}/data/", "").replace("/versions/", ":")
