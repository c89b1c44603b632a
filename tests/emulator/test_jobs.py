"""Command jobs, as azure-ai-ml's documentation submits, streams, cancels and downloads them."""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from azure.ai.ml import Input, Output, command
from azure.ai.ml.entities import AmlCompute, Environment
from azure.ai.ml.exceptions import JobException
from azure.core.exceptions import HttpResponseError
from emulated import Running

BASE, CLUSTER = "base:1", "cpu-cluster"


@pytest.fixture
def client(ml_client: Any) -> Any:
    """A client of a workspace with an environment and a cluster that starts from nothing."""
    ml_client.environments.create_or_update(Environment(name="base", version="1", image="python:3.11"))
    if CLUSTER not in [item.name for item in ml_client.compute.list()]:
        cluster = AmlCompute(name=CLUSTER, size="Standard_DS3_v2", max_instances=2, idle_time_before_scale_down=600)
        ml_client.compute.begin_create_or_update(cluster).result()
    return ml_client


def _until(client: Any, name: str, reached: Callable[[str], bool]) -> str:
    deadline = time.monotonic() + 90
    while not reached(status := client.jobs.get(name).status):
        assert time.monotonic() < deadline, status
        time.sleep(0.2)
    return status


def _ended(client: Any, name: str) -> str:
    return _until(client, name, lambda status: status in ("Completed", "Failed", "Canceled"))


def test_a_job_gets_its_code_and_data_and_gives_back_what_it_made(
    client: Any, emulator: Running, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "numbers.txt").write_text("3\n4\n")
    (tmp_path / "src" / "main.py").write_text(
        """
import pathlib, sys, time
folder, factor, out, signal = sys.argv[1:]
numbers = [int(line) for line in (pathlib.Path(folder) / "numbers.txt").read_text().split()]
print("the sum is", sum(numbers) * float(factor), flush=True)
deadline = time.monotonic() + 90
while not pathlib.Path(signal).exists() and time.monotonic() < deadline:
    time.sleep(0.1)
pathlib.Path(out, "sum.txt").write_text(str(sum(numbers) * float(factor)))
pathlib.Path("outputs/kept.txt").write_text("kept")
print("this is the end")
"""
    )
    job = command(
        code=str(tmp_path / "src"),
        command=f"python main.py ${{{{inputs.numbers}}}} ${{{{inputs.factor}}}} ${{{{outputs.result}}}} {tmp_path}/go",
        inputs={"numbers": Input(type="uri_folder", path=str(tmp_path / "data")), "factor": 0.5},
        outputs={"result": Output(type="uri_folder")},
        environment=BASE,
        compute=CLUSTER,
        experiment_name="sums",
        display_name="a sum",
        tags={"who": "test"},
    )
    submitted = client.jobs.create_or_update(job)
    assert submitted.status == "Starting"
    # The job ends only once somebody follows it.
    asked = f"/runs/{submitted.name}/details"
    follower = threading.Thread(
        target=_touch_when, args=(tmp_path / "go", lambda: asked in emulator.record.read_text())
    )
    follower.start()
    client.jobs.stream(submitted.name)
    follower.join()
    streamed = capsys.readouterr().out
    assert "the sum is 3.5" in streamed
    assert "this is the end" in streamed

    done = client.jobs.get(submitted.name)
    assert (done.status, done.display_name, done.tags["who"]) == ("Completed", "a sum", "test")
    client.jobs.download(submitted.name, download_path=tmp_path / "down", all=True)
    assert (tmp_path / "down" / "named-outputs" / "result" / "sum.txt").read_text() == "3.5"
    assert (tmp_path / "down" / "artifacts" / "outputs" / "kept.txt").read_text() == "kept"
    log = (tmp_path / "down" / "artifacts" / "user_logs" / "std_log.txt").read_text()
    assert log.splitlines() == ["the sum is 3.5", "this is the end"]


def _touch_when(file: Path, ready: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 90
    while not ready() and time.monotonic() < deadline:
        time.sleep(0.2)
    file.touch()


def test_unchanged_code_is_not_sent_again(client: Any, emulator: Running, tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text(f"print({uuid.uuid4().hex!r})")

    def submit() -> str:
        made = client.jobs.create_or_update(command(code=str(tmp_path), command="python main.py", environment=BASE))
        return emulator.request("GET", made.id).json()["properties"]["codeId"]

    before = len(_uploads(emulator))
    assert submit() == submit()
    assert len(_uploads(emulator)) == before + 1


def _uploads(emulator: Running) -> list[str]:
    lines = (json.loads(line) for line in emulator.record.read_text().splitlines())
    return [line["target"] for line in lines if "startPendingUpload" in line["target"]]


def test_a_program_of_the_job_logs_into_the_job_s_run(client: Any, emulator: Running, tmp_path: Path) -> None:
    import mlflow

    (tmp_path / "main.py").write_text(
        "import mlflow\nmlflow.log_metric('acc', 0.9)\nmlflow.log_param('depth', 3)\nmlflow.log_text('hello', 'note.txt')\n"
    )
    job = command(
        code=str(tmp_path), command="python main.py", environment=BASE, compute=CLUSTER, experiment_name="logged"
    )
    name = client.jobs.create_or_update(job).name
    assert _ended(client, name) == "Completed"
    mlflow.set_tracking_uri(client.workspaces.get(emulator.scope[2]).mlflow_tracking_uri)
    run = mlflow.get_run(name)
    assert (run.info.status, run.data.metrics, run.data.params) == ("FINISHED", {"acc": 0.9}, {"depth": "3"})
    assert mlflow.get_experiment(run.info.experiment_id).name == "logged"
    paths = [item.path for item in mlflow.MlflowClient().list_artifacts(name)]
    assert {"note.txt", "user_logs"} <= set(paths)


def test_the_environment_is_made_from_its_conda_file(client: Any, tmp_path: Path) -> None:
    good = {"name": "x", "channels": ["conda-forge"], "dependencies": ["pip", {"pip": ["six==1.16.0"]}]}
    bad = {**good, "dependencies": ["pip", {"pip": ["six==999"]}]}
    for name, content in (("good.yaml", good), ("bad.yaml", bad)):
        (tmp_path / name).write_text(yaml.safe_dump(content))

    def submit(file: str) -> str:
        environment = Environment(image="mcr.microsoft.com/base", conda_file=str(tmp_path / file))
        job = command(
            command="python -c 'import six; print(six.__version__)'", environment=environment, compute=CLUSTER
        )
        return client.jobs.create_or_update(job).name

    name = submit("good.yaml")
    assert _ended(client, name) == "Completed"
    assert _log(client, name, tmp_path) == "1.16.0\n"
    failing = submit("bad.yaml")
    with pytest.raises(JobException, match=r"Image build failed.*six==999"):
        client.jobs.stream(failing)
    assert client.jobs.get(failing).status == "Failed"
    assert "six==999" in _log(client, failing, tmp_path, "azureml-logs/20_image_build_log.txt")


def _log(client: Any, name: str, folder: Path, file: str = "user_logs/std_log.txt") -> str:
    client.jobs.download(name, download_path=folder / name)
    return (folder / name / "artifacts" / file).read_text()


def test_a_job_that_fails_says_so(client: Any) -> None:
    name = client.jobs.create_or_update(command(command="echo no; exit 3", environment=BASE, compute=CLUSTER)).name
    with pytest.raises(JobException, match="exited with status code 3"):
        client.jobs.stream(name)
    assert client.jobs.get(name).status == "Failed"


def test_jobs_wait_for_nodes_and_are_cancelled(client: Any, emulator: Running) -> None:
    def submit(text: str) -> str:
        job = command(command=text, environment=BASE, compute=CLUSTER, instance_count=2)
        return client.jobs.create_or_update(job).name

    first, second = submit("sleep 300 & sleep 300"), submit("sleep 300")
    _until(client, first, lambda status: status == "Running")
    _until(client, second, lambda status: status == "Queued")
    states = [node.nodeState for node in client.compute.list_nodes(CLUSTER)]
    assert states == ["running", "running"]
    client.jobs.begin_cancel(second).result()
    assert _ended(client, second) == "Canceled"
    client.jobs.begin_cancel(first).result()
    assert _ended(client, first) == "Canceled"
    again = emulator.request("POST", f"{emulator.workspace_path}/jobs/{first}/cancel")
    assert again.status_code == 400
    assert again.json()["error"]["message"].endswith("is in terminal status, it can't be canceled.")


def test_each_process_of_a_distributed_job_knows_its_place(client: Any, tmp_path: Path) -> None:
    job = command(
        command="echo $RANK/$WORLD_SIZE $LOCAL_RANK $NODE_RANK $MASTER_ADDR",
        environment=BASE,
        compute=CLUSTER,
        instance_count=2,
        distribution={"type": "pytorch", "process_count_per_instance": 2},
    )
    name = client.jobs.create_or_update(job).name
    assert _ended(client, name) == "Completed"
    client.jobs.download(name, download_path=tmp_path)
    logs = sorted((tmp_path / "artifacts" / "user_logs").iterdir())
    places = [log.read_text().strip() for log in logs]
    assert places == [f"{rank}/4 {rank % 2} {rank // 2} 127.0.0.1" for rank in range(4)]


def test_a_job_whose_nodes_are_taken_away_runs_again(client: Any, emulator: Running, tmp_path: Path) -> None:
    text = f"test -e {tmp_path}/again && ls outputs && exit 0; echo half > outputs/progress; touch {tmp_path}/again; sleep 300"
    name = client.jobs.create_or_update(command(command=text, environment=BASE, compute=CLUSTER)).name
    _until(client, name, lambda status: status == "Running")
    deadline = time.monotonic() + 60
    while not (tmp_path / "again").exists():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    emulator.run("preempt", name)
    assert _ended(client, name) == "Completed"
    # The new node has an empty folder; what the first one left is among the job's artifacts.
    assert _log(client, name, tmp_path) == ""
    assert (tmp_path / name / "artifacts" / "outputs" / "progress").read_text() == "half\n"


def test_a_job_that_runs_too_long_is_cancelled(client: Any) -> None:
    job = command(command="sleep 300", environment=BASE, compute=CLUSTER)
    job.set_limits(timeout=1)
    assert _ended(client, client.jobs.create_or_update(job).name) == "Canceled"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"compute": "no-such"}, "Unknown compute target 'no-such'"),
        ({"compute": CLUSTER, "instance_count": 9}, "wants 9 nodes"),
        ({"environment": "none:1"}, "none"),
    ],
)
def test_a_job_that_cannot_run_is_refused(client: Any, change: dict[str, Any], message: str) -> None:
    with pytest.raises(HttpResponseError, match=message):
        client.jobs.create_or_update(command(**{"command": "true", "environment": BASE, **change}))


def test_sending_a_job_twice_makes_one(client: Any, emulator: Running) -> None:
    name = f"once-{uuid.uuid4().hex[:8]}"
    environment = f"{emulator.workspace_path}/environments/base/versions/1"
    job = {"jobType": "Command", "command": "echo once", "environmentId": environment, "experimentName": "once"}
    place = f"{emulator.workspace_path}/jobs/{name}"
    codes = [emulator.request("PUT", place, {"properties": job}).status_code for _ in range(3)]
    assert codes == [201, 200, 200]
    changed = emulator.request("PUT", place, {"properties": {**job, "command": "echo twice"}})
    assert changed.status_code == 400
    assert _ended(client, name) == "Completed"
    client.jobs.archive(name)
    assert name not in [item.name for item in client.jobs.list(max_results=50)]
    client.jobs.restore(name)
    assert name in [item.name for item in client.jobs.list(max_results=50)]
