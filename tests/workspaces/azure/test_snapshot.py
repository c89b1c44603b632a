"""Which files go with a job."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from amlflow.errors import AmlflowError, UsageError
from amlflow.workspaces.azure import snapshot

MOST = 1_000_000


def write(root: Path, **files: str) -> Path:
    for name, text in files.items():
        target = root / name.replace("__", "/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
    return root


def names(folder: Path) -> list[str]:
    return [name for name, _ in snapshot.take(folder, {}, MOST).files]


def test_the_service_knows_the_same_files_by_the_same_hash(tmp_path: Path) -> None:
    write(tmp_path, train="print(1)", Data__b="b", data__a="a")
    (tmp_path / ".amlignore").write_text("data/\n")
    script = (
        "import sys; from azure.ai.ml._utils._asset_utils import get_content_hash, get_ignore_file;"
        "print(get_content_hash(sys.argv[1], get_ignore_file(sys.argv[1])))"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=True)
    assert snapshot.take(tmp_path, {}, MOST).digest == done.stdout.split()[-1]


def test_ignore_files_are_honoured_as_git_does(tmp_path: Path) -> None:
    write(tmp_path, keep="k", big="b", sub__big="b", sub__other="o", **{"__pycache__x": "x"})
    (tmp_path / ".gitignore").write_text("big\nsub/*\n!sub/other\n")
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "config").write_text("secret")
    assert names(tmp_path) == [".gitignore", "keep", "sub/other"]
    (tmp_path / ".amlignore").write_text("keep\n")
    assert "big" in names(tmp_path)
    assert "keep" not in names(tmp_path)


def test_links_stay_within_the_project(tmp_path: Path) -> None:
    project, outside = write(tmp_path / "p", a="a", real__f="f"), write(tmp_path / "out", secret="s")
    (project / "leak").symlink_to(outside / "secret")
    (project / "loop").symlink_to(project)
    (project / "gone").symlink_to(tmp_path / "nothing")
    (project / "copy").symlink_to(project / "real")
    taken = snapshot.take(project, {}, MOST)
    assert [name for name, _ in taken.files] == ["a", "copy/f", "real/f"]
    assert [text.split(" (")[0] for text in taken.left_out] == ["gone", "leak", "loop"]


def test_too_much_names_the_largest(tmp_path: Path) -> None:
    write(tmp_path, small="s", huge="x" * (2 * MOST))
    with pytest.raises(AmlflowError, match=r"huge \(2 MB\)") as refused:
        snapshot.take(tmp_path, {}, MOST)
    assert ".amlignore" in refused.value.mend


def test_files_beside_the_code_change_its_hash(tmp_path: Path) -> None:
    project, beside = write(tmp_path / "p", a="a"), write(tmp_path / "b", m="m")
    with_it = snapshot.take(project, {".amlflow": beside}, MOST)
    assert [name for name, _ in with_it.files] == ["a", ".amlflow/m"]
    assert with_it.digest != snapshot.take(project, {}, MOST).digest


def test_a_name_that_is_no_utf_8_is_refused_and_can_be_left_out(tmp_path: Path) -> None:
    write(tmp_path, keep="k", sub__a="a")
    for name in (b"sub/bad\xff.txt", b"worse\xfe"):
        (tmp_path / os.fsdecode(name)).write_text("x")
    with pytest.raises(UsageError, match=r"sub/bad\\xff\.txt") as refused:
        snapshot.take(tmp_path, {}, MOST)
    refused.value.paragraph().encode()
    (tmp_path / ".amlignore").write_text("bad*.txt\nworse*\n")
    taken = snapshot.take(tmp_path, {}, MOST)
    assert [name for name, _ in taken.files] == [".amlignore", "keep", "sub/a"]
    assert taken.left_out == (r"sub/bad\xff.txt", r"worse\xfe")
