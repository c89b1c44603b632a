from __future__ import annotations

from pathlib import Path

import pytest

from amlflow import config
from amlflow.errors import UsageError


def write(folder: Path, text: str) -> Path:
    file = folder / config.FILE_NAME
    file.write_text(text)
    return file


def test_the_nearest_file_above_is_found(tmp_path: Path) -> None:
    file = write(tmp_path, "workspace: local\n")
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    assert config.find(below) == file


def test_a_profiles_defaults_lie_over_the_general_ones(tmp_path: Path) -> None:
    file = write(
        tmp_path,
        "profiles:\n  dev:\n    workspace: local\n    defaults: {track: {experiment: dev}}\n"
        "defaults: {track: {experiment: all, autolog: true}}\n",
    )
    loaded = config.load(file)
    assert loaded.defaults_of("dev") == {"track": {"experiment": "dev", "autolog": True}}
    assert loaded.defaults_of("other") == {"track": {"experiment": "all", "autolog": True}}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("workspaces: local\n", "line 1: 'workspaces' is not a key of the file. Did you mean 'workspace'?"),
        ("workspace: local\noutputs: json\n", "line 2: 'outputs'"),
        ("profiles: {dev: {workspce: local}}\n", "Did you mean 'workspace'?"),
        ("profiles: {dev: {}}\n", "names no workspace"),
        ("output: jsn\n", "asks for the output 'jsn'"),
        ("workspace: [1]\n", "must be text"),
        ("- a\n", "must be a mapping"),
        ("a: b: c\n", "line 1 is not valid YAML"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        config.load(write(tmp_path, text))
    assert said in caught.value.paragraph()


def test_an_empty_file_says_nothing(tmp_path: Path) -> None:
    assert config.load(write(tmp_path, "")).defaults == {}
