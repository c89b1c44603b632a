"""What online endpoints decide without the service: scripts, environments, rules, logs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from amlflow.errors import UsageError
from amlflow.services.deploy_options import Asked, AskedMachines, AskedOnline, collecting, options
from amlflow.targets import following, scoring
from amlflow.targets.base import Collecting, ModelToDeploy, newer
from amlflow.workspaces.azure import online_deployments
from amlflow.workspaces.azure.online_deployments import Autoscale, OnlineDeployment
from amlflow.workspaces.azure.snapshot import of_files

CONDA = """
channels: [conda-forge]
dependencies:
- python=3.11.9
- libgomp
- pip:
  - scikit-learn==1.5.0
"""


def model(folder: Path, version: str = "2.22.0", **files: str) -> ModelToDeploy:
    for name, text in files.items():
        (folder / name.replace("_", ".")).write_text(text)
    return ModelToDeploy(folder, "wine:1", mlmodel={"mlflow_version": version})


@pytest.mark.parametrize(
    ("version", "requirements", "why"),
    [
        ("2.22.0", "scikit-learn\nazureml_ai_monitoring==1.0\n", ""),
        ("2.22.0", "scikit-learn\n", "requirements.txt lacks azureml-ai-monitoring"),
        ("3.1.4", "azureml-ai-monitoring\n", "MLflow 3.1.4"),
        ("", "azureml-ai-monitoring\n", ""),
    ],
)
def test_when_azure_s_own_scorer_will_not_do(tmp_path: Path, version: str, requirements: str, why: str) -> None:
    found = scoring.why_own(model(tmp_path, version, requirements_txt=requirements))
    assert (why in found) if why else not found


def test_the_environment_of_a_script(tmp_path: Path) -> None:
    text = scoring._conda(model(tmp_path, conda_yaml=CONDA.replace("- libgomp\n", "")), collect=True)
    made = yaml.safe_load(text)
    assert made["dependencies"][0] == "python=3.11.9"
    added = ["azureml-inference-server-http>=1.0,!=1.3.4", "pyyaml>=6", "azureml-ai-monitoring"]
    assert made["dependencies"][-1]["pip"] == ["scikit-learn==1.5.0", *added]
    assert text == scoring._conda(model(tmp_path), collect=True)
    with_conda = yaml.safe_load(scoring._conda(model(tmp_path, conda_yaml=CONDA), collect=False))
    assert with_conda["dependencies"][:3] == ["python=3.11.9", "libgomp", "pip"]
    assert with_conda["dependencies"][-1] == {"pip": ["scikit-learn==1.5.0", *added[:2]]}
    for line in ("--index-url https://u:secret@host/simple", "pkg @ https://u:secret@host/p.whl", "/here/p.whl"):
        (tmp_path / "conda.yaml").unlink(missing_ok=True)
        with pytest.raises(UsageError) as refused:
            scoring._conda(model(tmp_path, requirements_txt=f"{line}\n"), collect=False)
        assert "secret" not in refused.value.paragraph()


def test_the_same_files_have_the_same_name(tmp_path: Path) -> None:
    file = tmp_path / "score.py"
    file.write_text("1")
    one = of_files([("score.py", file)])
    assert one.digest == of_files([("score.py", file)]).digest
    file.write_text("2")
    assert one.digest != of_files([("score.py", file)]).digest


def test_ranges_of_instances() -> None:
    assert (Autoscale.parse("1:3"), str(Autoscale.parse("2:5:60"))) == (Autoscale(1, 3, 70), "2:5:60%")
    for text in ("", "3:1", "0:2", "1:2:99%", "1-2", "1:2:3:4"):
        with pytest.raises(UsageError, match="no range of instances"):
            Autoscale.parse(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [("500m", 0.5), ("2", 2.0), ("1.5Gi", 1.5 * 2**30), ("1G", 1e9), ("512Mi", 2.0**29), ("lots", 0.0)],
)
def test_quantities_of_kubernetes(text: str, value: float) -> None:
    assert online_deployments._quantity(text) == pytest.approx(value)


def test_what_is_written_is_read_again() -> None:
    class Service:
        path = "/subscriptions/s/resourceGroups/g/providers/Microsoft.MachineLearningServices/workspaces/w"

        @staticmethod
        def description() -> Any:
            return type("Description", (), {"location": "here"})

    plain = OnlineDeployment("blue", "Succeeded", "wine:3", "Standard_DS3_v2", 2, {"A": "1"})
    full = OnlineDeployment(
        *("blue", "Succeeded", "wine:3", "", 1, {}, "Kubernetes", "/code", "/environment", 60, True, 0.5),
        Autoscale(1, 4, 50),
        0.5,
        1.5,
    )
    for wanted in (plain, full):
        body = online_deployments.written(Service(), wanted, {"model_inputs": "/i", "model_outputs": "/o"})  # type: ignore[arg-type]
        body["properties"]["provisioningState"] = "Succeeded"
        assert online_deployments.read({"name": "blue", **body}) == wanted
    assert not plain.same_as(full)


def test_requests_are_told_from_the_log() -> None:
    lines = [
        '2026-01-01 "POST /score HTTP/1.1" 200 4.0 ms',
        "2026-01-01 00:00:00,000 I [7] azmlinfsrv - POST /score 200 6.000ms 5",
        "2026-01-01 00:00:00,000 I [7] azmlinfsrv - POST /score 500 9.000ms 5",
        "2026-01-01 00:00:00,000 I [7] azmlinfsrv - GET / 200 0.500ms 7",
        "The model is loaded",
    ]
    found = following.requests_in(lines)
    assert (found.count, found.failed, found.median_ms) == (3, 1, 6.0)
    assert following.requests_in([]).failing == 0.0
    assert list(newer(["a", "b"], ["a", "b", "c"])) == ["c"]
    assert list(newer(["a", "b"], ["x", "y"])) == ["x", "y"]
    assert list(newer([], ["x"])) == ["x"]


def test_options_that_exclude_each_other() -> None:
    with pytest.raises(UsageError, match="exclude each other"):
        options("managed", Asked(), AskedOnline(machines=AskedMachines(autoscale="1:2", instance_count=2)))
    with pytest.raises(UsageError, match="nothing is"):
        collecting(False, 10.0)
    assert options("aks", Asked(collect=collecting(True, 10.0))).collect == Collecting(0.1)
    with pytest.raises(UsageError, match="--collect-drop means nothing to --target managed"):
        options("managed", Asked(collect=collecting(True, None, ["age"])))
    with pytest.raises(UsageError, match="--cpu means nothing to --target managed"):
        options("managed", Asked(), AskedOnline(machines=AskedMachines(cpu=1.0)))
