from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from amlflow.errors import NotAllowed, NotFound, Unavailable, UsageError
from amlflow.mlproject import source

IDENTITY = {f"GIT_{who}_{what}": "a@b" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}


def git(folder: Path, *arguments: str) -> str:
    return subprocess.run(
        ["git", *arguments], cwd=folder, env={**os.environ, **IDENTITY}, check=True, capture_output=True, text=True
    ).stdout.strip()


@pytest.fixture
def repository(work: Path) -> Path:
    folder = work / "repo"
    (folder / "sub").mkdir(parents=True)
    git(folder, "init", "--quiet", "--initial-branch", "main")
    (folder / "sub" / "a.txt").write_text("one")
    git(folder, "add", "-A")
    git(folder, "commit", "--quiet", "-m", "one")
    git(folder, "tag", "v1")
    (folder / "sub" / "a.txt").write_text("two")
    git(folder, "commit", "--quiet", "-am", "two")
    git(folder, "branch", "feature")
    return folder


def test_a_url_is_fetched_at_its_head_and_at_versions(repository: Path) -> None:
    url = repository.as_uri()
    head = source.fetch(url)
    assert head.commit == git(repository, "rev-parse", "HEAD")
    assert (head.project_folder / "sub" / "a.txt").read_text() == "two"
    tagged = source.fetch(f"{url}#sub", "v1")
    assert (tagged.project_folder / "a.txt").read_text() == "one"
    assert not tagged.version_is_branch
    assert source.fetch(url, "feature").version_is_branch
    assert source.fetch(url, git(repository, "rev-parse", "v1")).commit == tagged.commit


def test_a_branch_that_moved_is_followed(repository: Path) -> None:
    url = repository.as_uri()
    source.fetch(url)
    (repository / "new.txt").write_text("x")
    git(repository, "add", "-A")
    git(repository, "commit", "--quiet", "-m", "three")
    assert (source.fetch(url).project_folder / "new.txt").exists()


def test_the_change_between_two_commits_is_told_by_git_alone(repository: Path) -> None:
    before, after = git(repository, "rev-parse", "v1"), git(repository, "rev-parse", "HEAD")
    git(repository, "config", "diff.external", "touch ran")
    git(repository, "config", "diff.x.textconv", "touch ran")
    (repository / ".gitattributes").write_text("* diff=x\n")
    text = source.commit_diff(repository / "sub", before, after)
    assert text is not None
    assert "-one" in text.splitlines()
    assert "+two" in text.splitlines()
    assert not list(repository.rglob("ran"))
    assert source.commit_diff(repository, before, before) == ""
    assert source.commit_diff(repository, before, "0" * 40) is None
    assert source.commit_diff(repository, before, "--output=ran") is None
    assert source.commit_diff(repository.parent, before, after) is None


def test_an_unknown_version_offers_the_nearest(repository: Path) -> None:
    with pytest.raises(NotFound, match="Did you mean 'feature'"):
        source.fetch(repository.as_uri(), "featur")


@pytest.mark.parametrize("version", ["--upload-pack=touch owned", "-x"])
def test_a_version_never_becomes_an_option(repository: Path, version: str, work: Path) -> None:
    with pytest.raises(UsageError, match="starts with '-'"):
        source.fetch(repository.as_uri(), version)
    assert not (work / "owned").exists()


@pytest.mark.parametrize("subdir", ["../..", "/etc", "sub/../../.."])
def test_a_subdirectory_never_leads_out(repository: Path, subdir: str) -> None:
    with pytest.raises((UsageError, NotFound)):
        source.fetch(f"{repository.as_uri()}#{subdir}")


def test_a_link_out_of_the_project_is_refused(repository: Path) -> None:
    (repository / "out").symlink_to("/etc")
    git(repository, "add", "-A")
    git(repository, "commit", "--quiet", "-m", "link")
    with pytest.raises(UsageError, match="leads out"):
        source.fetch(f"{repository.as_uri()}#out")


def test_no_repository_is_said_without_its_password(work: Path) -> None:
    with pytest.raises((NotFound, Unavailable, NotAllowed)) as caught:
        source.fetch("https://user:s3cret@127.0.0.1:9/none.git")
    assert "s3cret" not in caught.value.paragraph()
    assert "127.0.0.1:9/none.git" in caught.value.message


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://user:token@host/x.git", "https://host/x.git"),
        ("https://token@host/x.git", "https://host/x.git"),
        ("ssh://git@host/x.git", "ssh://git@host/x.git"),
        ("git@host:x.git", "git@host:x.git"),
    ],
)
def test_credentials_are_never_recorded(url: str, shown: str) -> None:
    assert source.without_credentials(url) == shown


def test_a_folder_tells_its_commit_branch_and_changes(repository: Path) -> None:
    git(repository, "remote", "add", "origin", "https://me:pw@host/x.git")
    clean = source.fetch(str(repository))
    assert (clean.commit, clean.branch, clean.dirty) == (git(repository, "rev-parse", "HEAD"), "main", False)
    assert clean.repo_url == "https://host/x.git"
    (repository / "sub" / "a.txt").write_text("three")
    (repository / "more.txt").touch()
    assert source.fetch(str(repository)).dirty
    diff = source.dirty_diff(repository)
    assert "+three" in diff
    assert "# untracked: more.txt" in diff


def test_outside_a_repository_nothing_is_told(tmp_path: Path) -> None:
    found = source.describe_folder(tmp_path)
    assert (found.commit, found.repo_url, found.dirty) == ("", "", False)
