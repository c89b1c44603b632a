"""What a check before a deploy finds, each thing with a real model; uv itself says what fits together."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import yaml

from amlflow.environments import spec
from amlflow.errors import UsageError
from amlflow.services.deployment import DeployRequest
from amlflow.services.readiness import azure, check, model, packages, pythons, repairs
from amlflow.services.readiness.findings import HOSTINGS, Finding
from amlflow.targets.base import DeployOptions, ModelToDeploy, OnlineOptions
from amlflow.workspaces.azure.rights import Rights

CLOUDPICKLE = f"cloudpickle=={version('cloudpickle')}"
MLFLOW = f"mlflow=={version('mlflow')}"


@pytest.fixture
def folder(deployable: Path, tmp_path: Path) -> Path:
    """A model with signature and example that asks for little."""
    copy = tmp_path / "model"
    shutil.copytree(deployable / "one", copy)
    require(copy, [CLOUDPICKLE, MLFLOW])
    return copy


def require(folder: Path, lines: list[str], python: str = "3.11.9") -> None:
    """Write the model's three files of packages, as MLflow does."""
    (folder / "requirements.txt").write_text("".join(f"{line}\n" for line in lines))
    env = {"python": python, "build_dependencies": ["pip"], "dependencies": ["-r requirements.txt"]}
    (folder / "python_env.yaml").write_text(yaml.safe_dump(env))
    conda = {"channels": ["conda-forge"], "dependencies": [f"python={python}", "pip<=24", {"pip": lines}]}
    (folder / "conda.yaml").write_text(yaml.safe_dump(conda))


def change(folder: Path, **fields: Any) -> None:
    """Set fields of the MLmodel file; None takes one out."""
    content = yaml.safe_load((folder / "MLmodel").read_text()) | fields
    (folder / "MLmodel").write_text(yaml.safe_dump({key: item for key, item in content.items() if item is not None}))


def to_deploy(folder: Path, example: bytes | None = b"{}") -> ModelToDeploy:
    return ModelToDeploy(folder, "wine:1", "", "wine:1", example)


def only(found: Iterable[Finding], what: str) -> Finding:
    named = [item for item in found if item.what == what]
    assert len(named) == 1, (what, named)
    return named[0]


def of_packages(folder: Path, target: str) -> list[Finding]:
    """What the files alone tell."""
    asked = packages.wanted(to_deploy(folder), HOSTINGS[target])
    return list(packages.findings(to_deploy(folder), HOSTINGS[target], asked))


def resolved(lines: list[str], target: str = "aci", python: str = "3.11", **options: float) -> packages.Resolved:
    asked = spec.EnvironmentSpec("wine/requirements.txt", python, tuple(lines))
    return packages.resolved(HOSTINGS[target], asked, python, lambda line: None, **options)


@pytest.mark.parametrize("target", list(HOSTINGS))
def test_a_sound_model_has_nothing_against_it_on_any_target(folder: Path, target: str) -> None:
    change(folder, mlflow_version=version("mlflow"))
    added = ["azureml-ai-monitoring==1.0.0"] if target == "managed" else []
    require(folder, [CLOUDPICKLE, MLFLOW, *added])
    hosting = HOSTINGS[target]
    found = [*model.findings(to_deploy(folder), hosting), *of_packages(folder, target)]
    found += pythons.findings("3.11", "3.11.9", hosting, date(2026, 11, 27))
    bad = {item.what for item in found if item.severity != "ok"} - {"Python on this machine"}
    # What was reported of Azure's own script is a warning for any model of MLflow 3.
    assert bad == ({"MLflow on the target"} if target == "managed" else set()), found


@pytest.mark.parametrize("target", list(HOSTINGS))
def test_what_a_model_lacks_is_told(folder: Path, target: str) -> None:
    hosting = HOSTINGS[target]
    change(folder, signature=None)
    bare = list(model.findings(to_deploy(folder, None), hosting))
    assert only(bare, "signature").severity == only(bare, "input example").severity == "warning"
    assert "infer_signature" in only(bare, "signature").mend
    change(folder, flavors={"sklearn": {"pickled_model": "model.pkl"}})
    assert only(model.findings(to_deploy(folder), hosting), "flavors").severity == "error"
    (folder / "model.pkl").unlink()
    lost = only(model.findings(to_deploy(folder), hosting), "files")
    assert (lost.severity, "model.pkl" in lost.why) == ("error", True)


def test_a_link_out_of_the_model_cannot_go_into_an_image(folder: Path) -> None:
    (folder / "secret").symlink_to("/etc/hostname")
    assert only(model.findings(to_deploy(folder), HOSTINGS["aci"]), "files").severity == "error"
    assert only(model.findings(to_deploy(folder), HOSTINGS["local"]), "files").severity == "ok"


def test_a_large_model_is_told_of_where_it_travels(folder: Path) -> None:
    with (folder / "weights.bin").open("wb") as sink:
        sink.truncate(model.LARGE_BYTES)
    there = only(model.findings(to_deploy(folder), HOSTINGS["aci"]), "size")
    assert (there.severity, "1.1 GB" in there.why) == ("warning", True)
    assert only(model.findings(to_deploy(folder), HOSTINGS["local"]), "size").severity == "ok"


def test_requirements_that_mean_many_versions_are_named(folder: Path) -> None:
    require(folder, ["numpy", "pandas>=2", "scipy==1.*", CLOUDPICKLE, "six @ https://example.invalid/six.whl"])
    found = only(of_packages(folder, "local"), "pins")
    assert found.severity == "warning"
    assert found.why.startswith("numpy, pandas>=2 may be")


def test_the_files_of_packages_must_be_there_and_say_the_same(folder: Path) -> None:
    with (folder / "requirements.txt").open("a") as sink:
        sink.write("six==1.17.0\n")
    differing = only(of_packages(folder, "batch"), "conda file")
    assert (differing.severity, "six==1.17.0" in differing.why) == ("warning", True)
    assert not [item for item in of_packages(folder, "local") if item.what == "conda file"]
    (folder / "conda.yaml").unlink()
    assert only(of_packages(folder, "managed"), "conda file").severity == "error"
    for name in ("requirements.txt", "python_env.yaml"):
        (folder / name).unlink()
    nothing = list(check.of_model(to_deploy(folder), HOSTINGS["managed"], lambda line: None))
    assert only(nothing, "packages").severity == "error"
    assert "says nothing of the packages" in only(nothing, "packages").why


def test_a_conda_file_outside_of_the_model_is_not_read(folder: Path) -> None:
    (folder.parent / "conda.yaml").write_text("dependencies: [python=3.11, {pip: [evil==1]}]\n")
    flavors = yaml.safe_load((folder / "MLmodel").read_text())["flavors"]
    flavors["python_function"]["env"] = {"conda": "../conda.yaml"}
    change(folder, flavors=flavors)
    assert packages.wanted(to_deploy(folder), HOSTINGS["managed"]).requirements == (CLOUDPICKLE, MLFLOW)


def test_azures_scoring_script_needs_its_monitoring(folder: Path) -> None:
    assert only(of_packages(folder, "managed"), "monitoring").severity == "error"
    assert not [item for item in of_packages(folder, "aci") if item.what == "monitoring"]
    require(folder, ["azureml_ai_monitoring==1.0.0"])
    assert only(of_packages(folder, "managed"), "monitoring").severity == "ok"


def test_mlflow_of_the_model_and_of_the_target(folder: Path) -> None:
    change(folder, mlflow_version="2.9.2")
    require(folder, [CLOUDPICKLE, "mlflow==2.15.0"])
    other = only(of_packages(folder, "local"), "MLflow")
    assert (other.severity, "saved by MLflow 2.9.2" in other.why) == ("warning", True)
    require(folder, [CLOUDPICKLE])
    assert "mlflow==2.9.2" in only(of_packages(folder, "local"), "MLflow").mend
    require(folder, [CLOUDPICKLE, "mlflow>=2,<3"])
    assert only(of_packages(folder, "managed"), "MLflow").severity == "ok"
    assert not [item for item in of_packages(folder, "managed") if item.what == "MLflow on the target"]


def test_what_an_image_cannot_hold_is_an_error_for_it_alone(folder: Path) -> None:
    require(folder, [CLOUDPICKLE, "thing @ https://someone:hush@example.invalid/thing-1.0-py3-none-any.whl"])
    found = only(of_packages(folder, "aci"), "image")
    assert (found.severity, "hush" in found.why) == ("error", False)
    assert not [item for item in of_packages(folder, "local") if item.what == "image"]
    conda = {"dependencies": ["python=3.11", "r-base=4.3"]}
    (folder / "python_env.yaml").unlink()
    (folder / "conda.yaml").write_text(yaml.safe_dump(conda))
    assert "only conda has" in only(of_packages(folder, "aci"), "image").why
    assert "--env-manager conda" in only(of_packages(folder, "local"), "conda packages").mend


@pytest.mark.parametrize(
    ("target", "python", "asked", "severity", "words"),
    [
        ("managed", "3.11", "3.11.9", "ok", "kept until 2027"),
        ("managed", "3.10", "3.10.4", "warning", "no security fixes since 2026-10-31"),
        ("managed", "3.8", "3.8.15", "warning", "2024-10-07"),
        ("aci", "3.8", "3.8.15", "error", "runs on 3.9 or later"),
        ("aci", "3.15", "3.15.0", "error", "the image can have 3.9, 3.10"),
        ("managed", "2.7", "2.7.18", "error", "which no target has"),
        ("managed", "three", "three", "error", "no version of Python"),
        ("managed", "3.11", "", "warning", "names no Python"),
    ],
)
def test_pythons(target: str, python: str, asked: str, severity: str, words: str) -> None:
    found = only(pythons.findings(python, asked, HOSTINGS[target], date(2026, 11, 27)), "Python")
    assert (found.severity, words in found.why) == (severity, True), found


def test_a_python_that_is_not_on_this_machine() -> None:
    found = list(pythons.findings("3.99", "3.99.1", HOSTINGS["local"], date(2026, 11, 27)))
    assert only(found, "Python on this machine").severity == "warning"


@pytest.mark.parametrize(
    ("lines", "target", "python", "named"),
    [
        ([CLOUDPICKLE, "six==99.0"], "managed", "3.11", "six==99.0"),
        # Of Windows alone: nothing of it is for Linux.
        ([CLOUDPICKLE, "pywin32==306"], "aci", "3.11", "pywin32==306"),
        # It wants a newer Python than the model's.
        pytest.param([CLOUDPICKLE, "numpy==2.3.0"], "batch", "3.9", "numpy==2.3.0", marks=pytest.mark.slow),
        (["six==1.16.0", "six==1.17.0"], "aks", "3.11", "six==1.16.0, six==1.17.0"),
    ],
)
def test_lines_that_cannot_be_met_are_named(lines: list[str], target: str, python: str, named: str) -> None:
    found = only(resolved(lines, target, python).findings, "packages")
    assert found.severity == "error"
    assert f"The lines at fault: {named}." in found.why
    assert f"Python {python} on Linux" in found.why
    assert named in found.mend


def test_what_fits_together_is_pinned_for_the_target_and_not_for_this_machine() -> None:
    found = resolved(["typing_extensions>=4", "pywin32==306; sys_platform == 'win32'"], "aci")
    assert only(found.findings, "packages").severity == "ok"
    assert {"typing-extensions", "uvicorn"} <= set(found.pins)
    assert "pywin32" not in found.pins


def test_a_package_without_a_wheel_is_told_of() -> None:
    found = only(resolved(["docopt==0.6.2"], "aci").findings, "packages")
    assert found.severity == "warning"
    assert found.why.startswith("docopt==0.6.2 has no wheel")
    assert "no compiler" in found.why


def test_uv_is_not_waited_for_forever() -> None:
    found = only(resolved([MLFLOW], "aci", timeout_s=0.001).findings, "packages")
    assert (found.severity, "had not found" in found.why) == ("warning", True)


def test_an_index_that_does_not_answer_is_no_verdict(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("UV_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv"))
    found = only(resolved([CLOUDPICKLE]).findings, "packages")
    assert (found.severity, "could not be fetched" in found.why) == ("warning", True), found


def test_the_inference_server_that_fails_on_its_start(folder: Path) -> None:
    found = resolved([CLOUDPICKLE, "azureml-inference-server-http==1.3.4"], "managed")
    assert only(found.findings, "inference server").severity == "error"
    # Where it only is among the packages, it hurts nobody.
    assert [item.severity for item in resolved(["azureml-inference-server-http==1.3.4"], "batch").findings] == ["ok"]


def test_an_unknown_target_names_the_nearest() -> None:
    with pytest.raises(UsageError, match="Did you mean 'managed'"):
        check.hosting_of(DeployRequest("wine", "manged", DeployOptions()))


def test_rights_by_patterns() -> None:
    contributor = Rights([(["*"], ["Microsoft.Authorization/*/Write"]), (["Microsoft.Own/thing/Action"], [])])
    assert contributor.allow("Microsoft.ContainerInstance/containerGroups/write")
    assert contributor.allow("microsoft.own/thing/action")
    assert not contributor.allow("Microsoft.Authorization/roleAssignments/write")
    assert not Rights([(["*/read"], [])]).allow("Microsoft.MachineLearningServices/workspaces/onlineEndpoints/write")


def test_the_way_out_of_a_workspace() -> None:
    def found(target: str, **properties: Any) -> dict[str, str]:
        return {item.what: item.severity for item in azure.network(properties, HOSTINGS[target])}

    assert found("managed") == {"egress": "ok"}
    assert found("managed", publicNetworkAccess="Disabled") == {"network": "warning", "egress": "warning"}
    closed = {"isolationMode": "AllowOnlyApprovedOutbound"}
    assert found("managed", managedNetwork=closed) == {"egress": "error"}
    assert found("aci", managedNetwork=closed) == {"egress": "ok"}
    hosts = ("pypi.org", "*.pythonhosted.org", "conda.anaconda.org")
    rules = {f"rule{index}": {"type": "FQDN", "destination": host} for index, host in enumerate(hosts)}
    assert found("managed", managedNetwork={**closed, "outboundRules": rules}) == {"egress": "ok"}
    rules.pop("rule0")
    assert found("managed", managedNetwork={**closed, "outboundRules": rules}) == {"egress": "error"}
    assert found("batch", managedNetwork={**closed, "outboundRules": rules}) == {"egress": "warning"}


def test_repairs_change_each_file_alike_and_no_more(folder: Path) -> None:
    change(folder, mlflow_version="2.15.0")
    lines = [
        "six>=1.16  # old",
        "# kept",
        "azureml-inference-server-http==1.3.4",
        CLOUDPICKLE,
        "colorama; sys_platform == 'win32'",
    ]
    require(folder, lines)
    (folder / "conda.yaml").write_text(
        yaml.safe_dump({"channels": ["own"], "dependencies": ["python=3.11.9", {"pip": ["six>=1.16", *lines[2:]]}]})
    )
    said: list[str] = []
    changes = repairs.packages(to_deploy(folder), HOSTINGS["managed"], said.append)
    written = (folder / "requirements.txt").read_text().splitlines()
    written.remove("# kept")
    by_name = {packages.parsed(line).name: line for line in written}
    assert by_name["six"].startswith("six==1.")
    # MLflow 2.15 and those from 1.4 on ask for different gunicorns.
    assert by_name["azureml-inference-server-http"].startswith("azureml-inference-server-http==1.2.")
    assert by_name["azureml-ai-monitoring"].startswith("azureml-ai-monitoring==")
    assert by_name["mlflow"] == "mlflow==2.15.0"
    assert by_name["cloudpickle"] == CLOUDPICKLE
    assert by_name["colorama"] == "colorama; sys_platform == 'win32'"
    conda = yaml.safe_load((folder / "conda.yaml").read_text())
    assert conda["channels"] == ["own"]
    assert conda["dependencies"][0] == "python=3.11.9"
    assert sorted(conda["dependencies"][-1]["pip"]) == sorted(written)
    assert yaml.safe_load((folder / "python_env.yaml").read_text())["dependencies"] == ["-r requirements.txt"]
    assert any("added azureml-ai-monitoring" in change for change in changes)
    assert repairs.packages(to_deploy(folder), HOSTINGS["managed"], said.append) == []


def test_files_of_packages_that_are_missing_are_written(folder: Path) -> None:
    for name in ("conda.yaml", "python_env.yaml"):
        (folder / name).unlink()
    flavors = yaml.safe_load((folder / "MLmodel").read_text())["flavors"]
    flavors["python_function"].pop("env")
    change(folder, flavors=flavors)
    assert repairs.packages(to_deploy(folder), HOSTINGS["aks"], lambda line: None) == [
        "wrote conda.yaml",
        "wrote python_env.yaml",
    ]
    assert spec.from_conda(folder / "conda.yaml").requirements == spec.of_model(folder).requirements
    env = yaml.safe_load((folder / "MLmodel").read_text())["flavors"]["python_function"]["env"]
    assert env == {"conda": "conda.yaml", "virtualenv": "python_env.yaml"}


def test_the_memory_of_the_machines(folder: Path) -> None:
    from amlflow.workspaces.azure.quota import MachineSize

    sizes = [MachineSize("small", "f", 2, 7.0, 0, 0, 100), MachineSize("large", "f", 8, 64.0, 0, 0, 100)]
    finding: Callable[[float], list[Finding]] = lambda gb: azure.fits(  # noqa: E731
        sizes, DeployOptions(online=OnlineOptions(instance_type="small")), int(gb * 1e9), False
    )
    assert [item.severity for item in finding(1)] == ["ok"]
    assert [(item.what, item.severity) for item in finding(5)] == [("quota", "ok"), ("memory", "warning")]
    assert finding(9)[1].severity == "error"
    assert "--instance-type large" in finding(9)[1].mend
