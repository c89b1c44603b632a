from __future__ import annotations

from pathlib import Path

import pytest

from amlflow.errors import NotFound, UsageError
from amlflow.mlproject import file


def write(folder: Path, text: str, name: str = "MLproject") -> Path:
    (folder / name).write_text(text)
    return folder


def test_every_way_to_declare_a_parameter(tmp_path: Path) -> None:
    project = file.load(
        write(
            tmp_path,
            "name: p\nentry_points:\n  main:\n    parameters:\n      a: float\n      b: {type: path, default: x}\n"
            "      c: {default: 3}\n      d: {type: uri}\n    command: run\n",
        )
    )
    parameters = project.entry_point("main").parameters
    assert [(p.type, p.default) for p in parameters.values()] == [
        ("float", None),
        ("path", "x"),
        ("string", "3"),
        ("uri", None),
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("nme: x\n", "line 1: 'nme' is not a key of the project. Did you mean 'name'?"),
        ("entry_points:\n  main: {comand: x}\n", "Did you mean 'command'?"),
        ("entry_points:\n  main: {parameters: {a: flot}, command: x}\n", "has the type 'flot'. Did you mean 'float'?"),
        ("entry_points:\n  main: {parameters: {a: {typ: float}}, command: x}\n", "Did you mean 'type'?"),
        ("entry_points:\n  main: {}\n", "has no command"),
        ("entry_points: [main]\n", "must be a mapping"),
        ("a: b: c\n", "line 1 is not valid YAML"),
        ("name: [\n", "is not valid YAML"),
        ("python_env: none.yaml\n", "there is no such file"),
        ("docker_env: {}\n", "names no 'image'"),
        ("docker_env: {image: x}\npython_env: p.yaml\n", "a project has one environment"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        file.load(write(tmp_path, text))
    assert said in caught.value.paragraph()


def test_an_unknown_entry_point_offers_the_nearest(tmp_path: Path) -> None:
    project = file.load(write(tmp_path, "entry_points:\n  main: {command: x}\n  train: {command: y}\n"))
    with pytest.raises(NotFound, match="Did you mean 'train'"):
        project.entry_point("trian")


def test_scripts_are_entry_points_and_stay_inside(tmp_path: Path) -> None:
    folder = tmp_path / "p"
    folder.mkdir()
    (folder / "my train.py").touch()
    (tmp_path / "outside.py").touch()
    project = file.load(folder)
    assert project.entry_point("my train.py").command == "python 'my train.py'"
    with pytest.raises(NotFound):
        project.entry_point("../outside.py")


def test_a_folder_without_the_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="not an MLflow Project"):
        file.load(tmp_path).entry_point("main")


def test_environment_files_are_found_without_being_named(tmp_path: Path) -> None:
    (tmp_path / "conda.yaml").touch()
    assert file.load(tmp_path).conda_env == tmp_path / "conda.yaml"
