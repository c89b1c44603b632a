"""`amlflow run-project` on real projects."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

EXAMPLES = Path(__file__).parent.parent.parent / "examples"
GIT = {f"GIT_{who}_{what}": "a@b" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
MAIN = "entry_points:\n  main:\n    parameters:\n      alpha: {type: float, default: 0.5}\n    command: python main.py {alpha}\n"


def runs(amlflow: Any) -> list[dict[str, Any]]:
    return amlflow.ok("run", "list", "-o", "json").json


def test_a_project_runs_and_is_recorded(amlflow: Any, project: Callable[..., Path]) -> None:
    project({"main.py": "import sys; print('alpha', sys.argv[1])", "MLproject": MAIN})
    result = amlflow.ok("run-project", "proj", "-P", "alpha=0.25", "-e", "wine", "--run-name", "r", "--tag", "a=b")
    assert result.out == "alpha 0.25\n"
    (run,) = runs(amlflow)
    assert (run["name"], run["experiment"], run["status"]) == ("r", "wine", "FINISHED")
    assert run["params"] == {"alpha": "0.25"}
    assert run["tags"]["mlflow.project.entryPoint"] == "main"
    assert run["tags"]["mlflow.source.type"] == "PROJECT"
    assert run["tags"]["a"] == "b"


def test_the_same_tags_and_params_as_mlflow_run(amlflow: Any, project: Callable[..., Path]) -> None:
    root = project({"main.py": "", "MLproject": MAIN})
    for command in (["init", "-q"], ["remote", "add", "origin", "https://host/x.git"], ["add", "-A"]):
        subprocess.run(["git", *command], cwd=root, check=True)
    subprocess.run(["git", "commit", "-q", "-m", "one"], cwd=root, check=True, env={**os.environ, **GIT})
    arguments = ["-P", "alpha=0.25", "-P", "more=x"]
    amlflow.ok("run-project", "proj", *arguments)
    env = {**amlflow.env, "MLFLOW_TRACKING_URI": f"sqlite:///{amlflow.cwd}/theirs/mlflow.db"}
    (amlflow.cwd / "theirs").mkdir()
    mlflow = str(Path(sys.executable).with_name("mlflow"))
    subprocess.run(
        [mlflow, "run", str(root), "--env-manager", "local", *arguments], env=env, check=True, capture_output=True
    )
    (ours,) = runs(amlflow)
    (theirs,) = amlflow.ok("-w", "local:./theirs", "run", "list", "-o", "json").json
    assert ours["params"] == theirs["params"]
    drop = {"mlflow.runName"}
    assert {k: v for k, v in ours["tags"].items() if k not in drop} == {
        k: v for k, v in theirs["tags"].items() if k not in drop
    }


def test_a_dirty_repository_keeps_what_changed(amlflow: Any, project: Callable[..., Path]) -> None:
    root = project({"main.py": "", "MLproject": MAIN})
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "one"]):
        subprocess.run(["git", *command], cwd=root, check=True, env={**os.environ, **GIT})
    (root / "main.py").write_text("# changed\n")
    amlflow.ok("run-project", "proj")
    (run,) = runs(amlflow)
    assert run["tags"]["mlflow.source.git.dirty"] == "true"
    amlflow.ok("run", "download", "last", "source")
    assert "+# changed" in (amlflow.cwd / "source/uncommitted.diff").read_text()


def test_a_git_url_with_a_subfolder_and_version(amlflow: Any, project: Callable[..., Path]) -> None:
    root = project({"sub/main.py": "print('one')", "sub/MLproject": MAIN}, folder="repo")
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "one"], ["tag", "v1"]):
        subprocess.run(["git", *command], cwd=root, check=True, env={**os.environ, **GIT})
    (root / "sub/main.py").write_text("print('two')")
    subprocess.run(["git", "commit", "-q", "-am", "two"], cwd=root, check=True, env={**os.environ, **GIT})
    url = f"{root.as_uri()}#sub"
    assert amlflow.ok("run-project", url).out == "two\n"
    assert amlflow.ok("run-project", url, "--version", "v1").out == "one\n"
    wrong = amlflow("run-project", url, "--version", "v2")
    assert wrong.code == 3
    assert "has no branch, tag or commit 'v2'. It has: " in wrong.err


def test_a_hostile_parameter_arrives_as_it_is(amlflow: Any, project: Callable[..., Path]) -> None:
    project(
        {
            "main.py": "import json, sys; print(json.dumps(sys.argv[1:]))",
            "MLproject": "entry_points:\n  main:\n    parameters: {x: string}\n    command: 'python main.py \"{x}\"'\n",
        }
    )
    hostile = "$(touch owned) `touch owned` ; touch owned '\" \\ \n *"
    assert json.loads(amlflow.ok("run-project", "proj", "-P", f"x={hostile}").out) == [hostile]
    assert not list(amlflow.cwd.rglob("owned"))
    assert runs(amlflow)[0]["params"] == {"x": hostile}


def test_an_environment_of_its_own_is_made_once(amlflow: Any, project: Callable[..., Path]) -> None:
    root = project(
        {
            "main.py": "import six, sys; print(six.__version__, sys.prefix)",
            "python_env.yaml": "dependencies: [six==1.16.0]\n",
            "MLproject": f"python_env: python_env.yaml\n{MAIN}",
        }
    )
    first = amlflow.ok("run-project", "proj")
    again = amlflow.ok("run-project", "proj")
    assert first.out == again.out
    assert first.out.startswith("1.16.0 ")
    assert "Making the environment" not in again.err
    (root / "python_env.yaml").write_text("dependencies: [six==1.17.0]\n")
    assert amlflow.ok("run-project", "proj").out.startswith("1.17.0 ")
    assert amlflow.ok("run-project", "proj", "--env-manager", "local").out.split()[1] == sys.prefix


def test_a_conda_file_of_pip_packages_needs_no_conda(amlflow: Any, project: Callable[..., Path]) -> None:
    project(
        {
            "main.py": "import six; print(six.__version__)",
            "conda.yaml": "dependencies: [pip, {pip: [six==1.16.0]}]\n",
            "MLproject": f"conda_env: conda.yaml\n{MAIN}",
        }
    )
    assert amlflow.ok("run-project", "proj").out == "1.16.0\n"


def test_a_project_whose_steps_are_runs(amlflow: Any) -> None:
    amlflow.ok("run-project", str(EXAMPLES / "multistep"), "--env-manager", "local", "-P", "alpha=0.1")
    found = runs(amlflow)
    parent = next(run for run in found if run["tags"]["mlflow.project.entryPoint"] == "main")
    children = [run for run in found if run["tags"].get("mlflow.parentRunId") == parent["run_id"]]
    assert {run["tags"]["mlflow.project.entryPoint"] for run in children} == {"prepare", "train"}
    assert parent["metrics"]["rmse"] == next(r["metrics"]["rmse"] for r in children if "rmse" in r["metrics"])
    assert {run["status"] for run in found} == {"FINISHED"}


def test_steps_that_name_no_environment_share_the_projects(amlflow: Any, project: Callable[..., Path]) -> None:
    project(
        {
            "MLproject": "entry_points:\n  main: {command: python main.py}\n  step: {command: python step.py}\n",
            "main.py": "import mlflow\nwith mlflow.start_run(): mlflow.run('.', 'step')\n",
            "step.py": "import sys\nopen('ran', 'w').write(sys.prefix)\n",
        }
    )
    amlflow.ok("run-project", "proj")
    assert (amlflow.cwd / "proj/ran").read_text() == sys.prefix


@pytest.mark.parametrize(
    ("files", "arguments", "code", "said"),
    [
        ({"x.txt": ""}, [], 3, "not an MLflow Project: it has no MLproject file"),
        ({"MLproject": "a: b: c"}, [], 2, "line 1 is not valid YAML"),
        ({"MLproject": MAIN}, ["--entry-point", "mian"], 3, "Did you mean 'main'"),
        ({"MLproject": MAIN}, ["-P", "alpha=x"], 2, "is a float and cannot be 'x'"),
        ({"MLproject": MAIN.replace(", default: 0.5", "")}, ["-P", "alhpa=1"], 2, "is 'alhpa' a misspelling"),
        ({"MLproject": MAIN.replace(", default: 0.5", "")}, [], 2, "Give -P alpha=VALUE"),
        ({"MLproject": MAIN}, ["-P", "alpha"], 2, "Write it as KEY=VALUE"),
        ({"MLproject": "docker_env: {image: x}\n" + MAIN}, [], 1, "no container engine runs here"),
        ({"MLproject": MAIN}, ["--env-manager", "pip"], 2, "It is one of uv, local, conda"),
        ({"MLproject": MAIN}, ["--version", "v1"], 2, "--version is for Git URLs"),
        ({"MLproject": MAIN}, ["--compute", "cpu"], 1, "runs no jobs on computes"),
        (
            {"MLproject": "python_env: p.yaml\n" + MAIN, "p.yaml": "dependencies: [six==1.16.0, six==1.15.0]"},
            [],
            1,
            "six==1.15.0",
        ),
    ],
)
def test_what_is_wrong_with_a_project_is_said_and_no_run_is_left(
    amlflow: Any, project: Callable[..., Path], files: dict[str, str], arguments: list[str], code: int, said: str
) -> None:
    project(files)
    # A PATH on which there is no container engine, whatever this machine has.
    tools = amlflow.cwd / "bin"
    tools.mkdir()
    for name in ("bash", "git"):
        (tools / name).symlink_to(shutil.which(name) or "")
    result = amlflow("run-project", "proj", *arguments, PATH=f"{Path(sys.executable).parent}:{tools}")
    assert result.code == code, result.err
    assert said in result.err
    assert "Traceback" not in result.err
    assert runs(amlflow) == []


@pytest.mark.parametrize(
    ("program", "code", "status"),
    [
        ("raise SystemExit(9)", 9, "FAILED"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", 137, "KILLED"),
    ],
)
def test_a_program_that_dies_gives_its_code(
    amlflow: Any, project: Callable[..., Path], program: str, code: int, status: str
) -> None:
    project({"main.py": program, "MLproject": MAIN})
    assert amlflow("run-project", "proj").code == code
    assert runs(amlflow)[0]["status"] == status


def test_interrupting_while_the_environment_is_made_leaves_nothing(
    amlflow: Any, project: Callable[..., Path], tmp_path: Path
) -> None:
    project(
        {
            "main.py": "",
            "python_env.yaml": "dependencies: [scikit-learn, pandas, matplotlib]\n",
            "MLproject": f"python_env: python_env.yaml\n{MAIN}",
        }
    )
    env = {"AMLFLOW_CACHE_DIR": str(tmp_path / "own"), "UV_CACHE_DIR": str(tmp_path / "uv")}
    process = amlflow.start("run-project", "proj", **env)
    deadline = time.monotonic() + 60
    while not list((tmp_path / "own").glob("environments/uv-*/pyvenv.cfg")) and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert not [entry for entry in (tmp_path / "own/environments").iterdir() if entry.is_dir()]
    assert not [p for p in psutil.process_iter(["cmdline"]) if str(tmp_path) in " ".join(p.info["cmdline"] or [])]
    assert runs(amlflow) == []


def test_a_detached_job_goes_on_and_is_followed_and_cancelled(amlflow: Any, project: Callable[..., Path]) -> None:
    # It closes its run by itself, and is no less a running job for that.
    program = "import time, mlflow\nmlflow.start_run()\nmlflow.end_run()\nprint('working', flush=True)\ntime.sleep(2)\n"
    program += "print('done')"
    project({"main.py": program, "MLproject": MAIN})
    job = amlflow.ok("run-project", "proj", "--detach", "-q").out.strip()
    assert amlflow.ok("job", "show", job, "-o", "json").json["status"] == "RUNNING"
    assert amlflow.ok("job", "logs", job[:8], "-f").out == "working\ndone\n"
    assert [j["status"] for j in amlflow.ok("job", "list", "-o", "json").json] == ["FINISHED"]
    (amlflow.cwd / "proj/main.py").write_text("import time; time.sleep(600)")
    second = amlflow.ok("run-project", "proj", "--detach", "-q").out.strip()
    time.sleep(0.5)
    assert amlflow.ok("job", "cancel", second, "-o", "json").json["status"] == "KILLED"
    assert amlflow("job", "cancel", second).code == 1
    assert {run["status"] for run in runs(amlflow)} == {"FINISHED", "KILLED"}
    unknown = amlflow("job", "show", "nothing")
    assert unknown.code == 3


def test_a_dry_run_prints_the_plan_and_runs_nothing(amlflow: Any, project: Callable[..., Path]) -> None:
    project({"main.py": "print('ran')", "MLproject": MAIN})
    plan = amlflow.ok("run-project", "proj", "-P", "alpha=1", "--dry-run", "-o", "json").json
    assert (plan["command"], plan["params"], plan["env_manager"]) == ("python main.py 1", {"alpha": "1"}, "local")
    assert runs(amlflow) == []


def test_options_without_effect_and_mlflows_other_e_are_said(amlflow: Any, project: Callable[..., Path]) -> None:
    project({"main.py": "", "MLproject": MAIN + "  check: {command: echo checked}\n"})
    refused = amlflow("run-project", "proj", "--instances", "2", "--cancel-on-interrupt")
    assert refused.code == 2
    assert "--instances and --cancel-on-interrupt are for a job on a compute" in refused.err
    assert "--compute" in refused.err
    assert runs(amlflow) == []
    warned = amlflow.ok("run-project", "proj", "-e", "check")
    assert "`--entry-point check`" in warned.err
    meant = amlflow.ok("run-project", "proj", "-e", "check", "--entry-point", "check")
    assert (meant.out, "Warning" in meant.err) == ("checked\n", False)


def test_a_project_in_a_container(amlflow: Any, project: Callable[..., Path]) -> None:
    """With a real engine, on an image made of two static programs; no registry is asked."""
    engine, shell, tools = (shutil.which(name) for name in ("podman", "bash-static", "busybox"))
    if not (engine and shell and tools and subprocess.run([engine, "info"], capture_output=True).returncode == 0):
        pytest.skip("needs podman, bash-static and busybox")
    root = amlflow.cwd / "rootfs" / "bin"
    root.mkdir(parents=True)
    shutil.copy(shell, root / "bash")
    shutil.copy(tools, root / "busybox")
    (root / "cat").symlink_to("busybox")
    packed = subprocess.run(["tar", "-C", root.parent, "-c", "."], capture_output=True, check=True).stdout
    image = "localhost/amlflow-e2e:latest"
    subprocess.run([engine, "import", "-", image], input=packed, capture_output=True, check=True)
    if subprocess.run([engine, "run", "--rm", image, "bash", "-c", "true"], capture_output=True).returncode != 0:
        pytest.skip("this machine's engine cannot start a container")
    project(
        {
            "MLproject": f"docker_env:\n  image: {image}\n  environment: [[GREETING, hello there]]\n"
            "entry_points:\n  main:\n    parameters: {x: string}\n"
            "    command: 'echo \"$GREETING\" {x} $MLFLOW_RUN_ID $AMLFLOW_KEEP_DATASETS > out.txt; cat out.txt'\n"
        }
    )
    result = amlflow.ok("run-project", "proj", "-P", "x=$(touch owned)", "--dataset-rows", "7")
    (run,) = runs(amlflow)
    assert result.out == f"hello there $(touch owned) {run['run_id']} 7\n"
    assert (amlflow.cwd / "proj/out.txt").read_text() == result.out
    assert run["tags"]["mlflow.project.env"] == "docker"
    assert not (amlflow.cwd / "proj/owned").exists()
