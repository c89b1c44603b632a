"""Where a project comes from: a folder, or a revision of a Git repository."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from amlflow import paths
from amlflow.errors import AmlflowError, NotAllowed, NotFound, Unavailable, UsageError, nearest
from amlflow.locks import locked

_GIT_URL = re.compile(r"(?:(?:https?|ssh|git|file)://.+|[\w.-]+@[\w.-]+:.+)", re.DOTALL)
_COMMIT = re.compile(r"[0-9a-f]{40}")
_DIFF_LIMIT = 10_000_000


@dataclass(frozen=True, slots=True)
class ProjectSource:
    """A project on this machine. `uri` is what was asked for and `name` what MLflow records, both without credentials;
    the Git fields are empty outside a repository."""

    project_folder: Path
    uri: str
    name: str
    version: str = ""
    version_is_branch: bool = False
    commit: str = ""
    repo_url: str = ""
    branch: str = ""
    dirty: bool = False


def fetch(uri: str, version: str = "") -> ProjectSource:
    """The project that `uri` names: a folder, `FOLDER#subdir`, a Git URL or `URL#subdir` at a branch, tag or commit.

    Raises `NotFound` for no such folder, repository or version, `NotAllowed` where Git was refused, `UsageError` for a
    subdirectory that leads out."""
    address, _, subdir = uri.partition("#")
    if _GIT_URL.fullmatch(address) and not Path(address).is_dir():
        return _fetch_git(address, subdir, version)
    if version:
        raise UsageError(
            f"--version is for Git URLs, and {uri!r} is a folder.", "Leave it out, or check that revision out."
        )
    folder = Path(address).expanduser()
    if not folder.is_dir():
        raise NotFound(
            f"There is no project folder {address!r}.", "Give a folder, a Git URL (https://…, git@…), or URL#subdir."
        )
    place = _subfolder(folder.absolute(), subdir)
    found = describe_folder(place)
    name = _recorded_name(place)
    return ProjectSource(
        place, uri, name, commit=found.commit, repo_url=found.repo_url, branch=found.branch, dirty=found.dirty
    )


def describe_folder(folder: Path) -> ProjectSource:
    """What Git says of a folder, in at most two calls; nothing is asked outside a repository."""
    plain = ProjectSource(folder, str(folder), str(folder))
    if _repository(folder) is None or shutil.which("git") is None:
        return plain
    status = _git(["status", "--porcelain=v2", "--branch", "--untracked-files=normal"], folder)
    if status.returncode != 0:
        return plain
    head = dict(line[2:].split(" ", 1) for line in status.stdout.splitlines() if line.startswith("# branch."))
    commit = head.get("branch.oid", "")
    url = _git(["config", "--get", "remote.origin.url"], folder).stdout.strip()
    return ProjectSource(
        folder,
        str(folder),
        str(folder),
        commit=commit if _COMMIT.fullmatch(commit) else "",
        repo_url=without_credentials(url),
        branch=head.get("branch.head", "").replace("(detached)", ""),
        dirty=any(not line.startswith("#") for line in status.stdout.splitlines()),
    )


def dirty_diff(folder: Path) -> str:
    """What the folder has and its commit has not: the diff of tracked files, and the names of untracked ones. Cut at 10 MB."""
    diff = _git(["diff", "HEAD", "--no-color", "--no-ext-diff", "--", "."], folder).stdout
    untracked = _git(["ls-files", "--others", "--exclude-standard", "--", "."], folder).stdout
    names = "".join(f"# untracked: {name}\n" for name in untracked.splitlines())
    return (names + diff)[:_DIFF_LIMIT]


def commit_diff(folder: Path, before: str, after: str) -> str | None:
    """What changed between two commits of the repository that the folder is in; None where it has not both of them. Cut at
    10 MB. No program that the repository names is run."""
    if shutil.which("git") is None or not all(_COMMIT.fullmatch(commit) for commit in (before, after)):
        return None
    if any(_git(["cat-file", "-e", f"{commit}^{{commit}}"], folder).returncode for commit in (before, after)):
        return None
    options = ["--no-color", "--no-ext-diff", "--no-textconv"]
    done = _git(["diff", *options, before, after, "--"], folder)
    return done.stdout[:_DIFF_LIMIT] if done.returncode == 0 else None


def without_credentials(url: str) -> str:
    """A URL without the user and password that may stand in it."""
    if "://" not in url:
        return url
    parts = urlsplit(url)
    if parts.password is None and (parts.username is None or parts.scheme == "ssh"):
        return url
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _fetch_git(address: str, subdir: str, version: str) -> ProjectSource:
    if shutil.which("git") is None:
        raise NotFound(
            f"{without_credentials(address)} is a Git URL, and there is no git on this machine.", "Install git."
        )
    if version.startswith("-") or address.startswith("-"):
        raise UsageError(f"{version or address!r} cannot be a version or URL: it starts with '-'.")
    shown = without_credentials(address)
    root = paths.sources() / hashlib.sha256(shown.encode()).hexdigest()[:24]
    mirror = root / "mirror.git"
    with locked(root / "lock"):
        if not _COMMIT.fullmatch(version) or not _has_commit(mirror, version):
            _update(mirror, address, shown)
        commit, is_branch = _commit(mirror, version, shown)
        tree = root / commit
        if not (tree / ".git").exists():
            shutil.rmtree(tree, ignore_errors=True)
            done = _git(["worktree", "add", "--force", "--detach", str(tree), commit], mirror)
            if done.returncode != 0:
                shutil.rmtree(tree, ignore_errors=True)
                raise AmlflowError(f"{shown} at {commit} cannot be checked out: {_reason(done.stderr, address)}.")
    place = _subfolder(tree, subdir)
    uri = f"{shown}#{subdir}" if subdir else shown
    return ProjectSource(place, uri, uri, version, is_branch, commit, shown)


def _update(mirror: Path, address: str, shown: str) -> None:
    if not mirror.exists():
        mirror.parent.mkdir(parents=True, exist_ok=True)
        made = _git(["init", "--bare", "--quiet", str(mirror)], mirror.parent)
        if made.returncode != 0:
            raise AmlflowError(f"{mirror} cannot be made: {made.stderr.strip()}.")
    # The address is given each time and never stored, because it may carry a token.
    refs = ["+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*", "+HEAD:refs/amlflow/HEAD"]
    done = _git(["fetch", "--prune", "--quiet", "--update-head-ok", "--", address, *refs], mirror, timeout=600)
    if done.returncode != 0:
        reason = _reason(done.stderr, address)
        low = reason.lower()
        if any(
            word in low for word in ("authentication", "permission denied", "could not read username", "403", "401")
        ):
            raise NotAllowed(
                f"Git was refused access to {shown}: {reason}.", "Check your credentials, and that it exists."
            )
        if any(word in low for word in ("could not resolve", "timed out", "connection", "unable to access")):
            raise Unavailable(f"{shown} cannot be reached: {reason}.", "Check the address and the network.")
        raise NotFound(f"There is no Git repository at {shown}: {reason}.", "Check the address.")


def _commit(mirror: Path, version: str, shown: str) -> tuple[str, bool]:
    for ref, is_branch in (
        [("refs/amlflow/HEAD", False)]
        if not version
        else [(f"refs/heads/{version}", True), (f"refs/tags/{version}", False), (version, False)]
    ):
        done = _git(["rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}"], mirror)
        if done.returncode == 0:
            return done.stdout.strip(), is_branch
    names = _git(["for-each-ref", "--format=%(refname:lstrip=2)", "refs/heads", "refs/tags"], mirror).stdout.split()
    near = nearest(version, names)
    raise NotFound(
        f"{shown} has no branch, tag or commit {version!r}.{f' Did you mean {near}?' if near else ''}",
        f"It has: {', '.join(names[:15]) or 'no branches'}{', …' if len(names) > 15 else ''}.",
    )


def _has_commit(mirror: Path, commit: str) -> bool:
    return mirror.exists() and _git(["cat-file", "-e", f"{commit}^{{commit}}"], mirror).returncode == 0


def _subfolder(folder: Path, subdir: str) -> Path:
    place = folder / subdir if subdir else folder
    if not place.resolve().is_relative_to(folder.resolve()):
        raise UsageError(f"The subdirectory {subdir!r} leads out of the project.", "Give one below it.")
    if not place.is_dir():
        known = [item.name for item in folder.iterdir() if item.is_dir() and not item.name.startswith(".")]
        raise NotFound(f"The project has no subdirectory {subdir!r}.", name=subdir, known=known)
    return place


def _repository(folder: Path) -> Path | None:
    return next((place for place in (folder, *folder.parents) if (place / ".git").exists()), None)


def _recorded_name(place: Path) -> str:
    """MLflow records a folder of a repository as file://ROOT#path-within-it, and any other as its path."""
    root = _repository(place)
    if root is None:
        return str(place)
    within = place.relative_to(root).as_posix()
    return f"file://{root}" if within == "." else f"file://{root}#{within}"


def _git(arguments: Sequence[str], folder: Path, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    # Never a prompt: a password asked for on a terminal hangs a CI step.
    env = {**os.environ, "GIT_TERMINAL_PROMPT": "0", "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"}
    try:
        return subprocess.run(
            ["git", *arguments],
            cwd=folder,
            env=env,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired as error:
        raise Unavailable(f"git {arguments[0]} did not end within {timeout:.0f} s.") from error


def _reason(stderr: str, address: str) -> str:
    lines = [line for line in stderr.strip().splitlines() if line.strip()]
    text = next(
        (line for line in lines if line.startswith(("fatal:", "error:", "ERROR:", "remote:"))),
        lines[-1] if lines else "no reason given",
    )
    return text.replace(address, without_credentials(address)).removeprefix("fatal: ").rstrip(".")
