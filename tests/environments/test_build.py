from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from amlflow.environments import build
from amlflow.environments.spec import EnvironmentSpec
from amlflow.errors import AmlflowError, NotFound

SIX = EnvironmentSpec("python_env.yaml", requirements=("six==1.16.0",))


@pytest.fixture
def own_cache(clean_env: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AMLFLOW_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_an_environment_is_made_once_and_has_what_was_asked(own_cache: Path) -> None:
    lines: list[str] = []
    made = build.ensure(SIX, report=lines.append)
    assert made.created
    assert len(lines) == 1
    shown = subprocess.run(
        [made.python, "-c", "import six; print(six.__version__)"], capture_output=True, text=True, check=True
    )
    assert shown.stdout.strip() == "1.16.0"
    assert made.prefix is not None
    assert "six==1.16.0" in (made.prefix / build.LOCK_FILE).read_text()
    again = build.ensure(SIX, report=lines.append)
    assert (again.python, again.created, len(lines)) == (made.python, False, 1)


def test_a_changed_requirement_makes_a_new_one(own_cache: Path) -> None:
    assert build.ensure(SIX).python != build.ensure(SIX.adding("toml==0.10.2")).python


def test_many_at_once_build_it_once(own_cache: Path) -> None:
    with ThreadPoolExecutor(6) as pool:
        made = list(pool.map(lambda _: build.ensure(SIX), range(6)))
    assert sum(one.created for one in made) == 1


def test_a_build_that_was_cut_is_made_anew(own_cache: Path) -> None:
    made = build.ensure(SIX)
    assert made.prefix is not None
    (made.prefix / "amlflow-complete").unlink()
    (made.prefix / "bin" / "python").unlink()
    assert build.ensure(SIX).created
    assert made.python.exists()


def test_a_requirement_that_cannot_be_met_is_named_and_leaves_nothing(own_cache: Path) -> None:
    wrong = EnvironmentSpec("python_env.yaml", requirements=("six==1.16.0", "six==1.15.0"))
    with pytest.raises(AmlflowError) as caught:
        build.ensure(wrong)
    assert "six==1.15.0" in caught.value.message
    assert "python_env.yaml" in caught.value.message
    assert not [entry for entry in (own_cache / "environments").iterdir() if entry.is_dir()]


def test_another_patch_of_the_same_python_is_used_and_said(own_cache: Path) -> None:
    minor = f"{sys.version_info[0]}.{sys.version_info[1]}"
    lines: list[str] = []
    made = build.ensure(EnvironmentSpec("x", python=f"{minor}.99"), report=lines.append)
    shown = subprocess.run([made.python, "--version"], capture_output=True, text=True, check=True)
    assert shown.stdout.startswith(f"Python {minor}.")
    assert any(f"{minor}.99 is not on this machine" in line for line in lines)


def test_a_python_that_is_not_there_lists_those_that_are(own_cache: Path) -> None:
    with pytest.raises(NotFound, match=r"asks for Python 2\.1, which is not on this machine"):
        build.ensure(EnvironmentSpec("x", python="2.1"))


def test_without_conda_the_error_says_what_to_do(
    own_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.delenv("CONDA_EXE", raising=False)
    file = tmp_path / "conda.yaml"
    file.write_text("dependencies: [gcc]\n")
    with pytest.raises(NotFound, match="no conda, mamba or micromamba"):
        build.ensure(EnvironmentSpec(str(file), conda_file=file), "conda")
