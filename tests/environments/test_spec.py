from __future__ import annotations

from pathlib import Path

import pytest

from amlflow.environments import spec
from amlflow.errors import NotFound, UsageError


def write(folder: Path, name: str, text: str) -> Path:
    file = folder / name
    file.write_text(text)
    return file


def test_a_python_env_with_included_requirements(tmp_path: Path) -> None:
    write(tmp_path, "base.txt", "numpy>=1  # why\n\n# only this\n-r more.txt\n")
    write(tmp_path, "more.txt", "six==1.16.0\n./local\n")
    file = write(
        tmp_path,
        "python_env.yaml",
        "python: '3.11'\nbuild_dependencies: [pip]\ndependencies: [-r base.txt, requests]\n",
    )
    found = spec.from_python_env(file)
    assert found.python == "3.11"
    assert found.requirements == ("numpy>=1", "six==1.16.0", str(tmp_path / "local"), "requests")
    assert found.build_requirements == ("pip",)


def test_a_conda_file_of_python_and_pip_packages_needs_no_conda(tmp_path: Path) -> None:
    file = write(
        tmp_path,
        "conda.yaml",
        "name: x\nchannels: [conda-forge]\ndependencies:\n  - python=3.11\n  - pip\n  - numpy=1.26\n  - pandas>=2,<3\n"
        "  - conda-forge::scikit-learn==1.5.0\n  - pytorch\n  - pip:\n      - six==1.16.0\n      - mlflow[extras]>=2\n",
    )
    found = spec.from_conda(file)
    assert found.conda_file is None
    assert found.python == "3.11"
    assert found.requirements == (
        "numpy==1.26.*",
        "pandas>=2,<3",
        "scikit-learn==1.5.0",
        "torch",
        "six==1.16.0",
        "mlflow[extras]>=2",
    )


@pytest.mark.parametrize("package", ["cudatoolkit=11.8", "r-base", "gcc", "libfoo", "numpy=1.26=py311h_0"])
def test_what_only_conda_has_needs_conda(tmp_path: Path, package: str) -> None:
    file = write(tmp_path, "conda.yaml", f"dependencies: [python=3.11, {package}]\n")
    assert spec.from_conda(file).conda_file == file


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("dependancies: []\n", "Did you mean 'dependencies'"),
        ("dependencies: numpy\n", "must be a list"),
        ("python: [3]\n", "must be a version"),
        ("a: b: c\n", "is not valid YAML"),
        ("- numpy\n", "must be a mapping"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        spec.from_python_env(write(tmp_path, "python_env.yaml", text))
    assert said in caught.value.paragraph()


def test_a_missing_included_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"none\.txt"):
        spec.from_python_env(write(tmp_path, "python_env.yaml", "dependencies: [-r none.txt]\n"))


def test_a_file_that_includes_itself_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "a.txt", "-r b.txt\n")
    write(tmp_path, "b.txt", "-r a.txt\n")
    with pytest.raises(UsageError, match="includes itself"):
        spec.from_requirements(tmp_path / "a.txt")


def test_the_digest_changes_with_the_content_alone(tmp_path: Path) -> None:
    one = spec.from_requirements(write(tmp_path, "r.txt", "six==1.16.0\n"))
    same = spec.from_requirements(write(tmp_path, "r2.txt", "# a comment\nsix==1.16.0\n"))
    other = spec.from_requirements(write(tmp_path, "r3.txt", "six==1.17.0\n"))
    assert one.digest() == same.digest() != other.digest()


def test_a_models_own_files_are_read(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        spec.of_model(tmp_path)
    write(tmp_path, "requirements.txt", "six\n")
    assert spec.of_model(tmp_path).requirements == ("six",)
    write(tmp_path, "python_env.yaml", "python: 3.11.7\ndependencies: [-r requirements.txt]\n")
    assert spec.of_model(tmp_path).python == "3.11.7"
