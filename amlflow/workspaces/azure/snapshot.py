"""Which files of a project go with a job, and the hash by which the service knows them again."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from amlflow.errors import AmlflowError, NotFound, UsageError
from amlflow.workspaces.abilities import Snapshot

# The service's name of the way in which `_digest` works.
HASH_VERSION = "202208"
_IGNORE_FILE = ".amlignore"
_GIT_IGNORE = ".gitignore"
# What no job needs and no ignore file should have to name.
_NEVER = (
    ".git/",
    "__pycache__/",
    "*.pyc",
    ".venv/",
    ".mypy_cache/",
    ".pytest_cache/",
    ".ruff_cache/",
    ".ipynb_checkpoints/",
)
_CHUNK_BYTES = 1 << 20


def take(folder: Path, beside: Mapping[str, Path], most_bytes: int) -> Snapshot:
    """The files of the folder that its `.amlignore` (else its `.gitignore` files) lets through, and those of `beside` under their
    own names. A link is followed within the folder; one that leads out is left out, because what it leads to is not part of
    the project. Raises `AmlflowError` for more than `most_bytes`, and `UsageError` for a name that is no UTF-8."""
    root = folder.resolve()
    left_out: list[str] = []
    files = list(_walk(root, root, "", [_rules([*_NEVER])], left_out, {root}))
    taken = {name for name, _ in files}
    _check_names(taken)
    for name, place in beside.items():
        files += [(inner, path) for inner, path in _below(name, place) if inner not in taken]
    if not files:
        raise NotFound(
            f"Nothing in {str(folder)!r} is left to send: its ignore file names all of it.", f"Correct {_IGNORE_FILE}."
        )
    sizes = {name: path.stat().st_size for name, path in files}
    size = sum(sizes.values())
    if size > most_bytes:
        largest = sorted(sizes, key=lambda name: -sizes[name])[:5]
        shown = ", ".join(f"{name} ({sizes[name] / 1e6:.0f} MB)" for name in largest)
        raise AmlflowError(
            f"The project {str(folder)!r} has {size / 1e6:.0f} MB in {len(files)} files, more than the {most_bytes / 1e6:.0f} MB "
            f"that are sent as code. The largest: {shown}.",
            f"Name data in {_IGNORE_FILE} and give it as --input, or raise --code-limit.",
        )
    return Snapshot(tuple(files), size, _digest(files), tuple(map(_shown, left_out)))


def of_files(files: Sequence[tuple[str, Path]]) -> Snapshot:
    """Just these files, each under the name given."""
    return Snapshot(tuple(files), sum(path.stat().st_size for _, path in files), _digest(files))


def _walk(
    root: Path, folder: Path, prefix: str, rules: Sequence[Any], left_out: list[str], above: set[Path]
) -> Iterator[tuple[str, Path]]:
    own = _own_rules(root, folder, prefix)
    active = [*rules, *own]
    for entry in sorted(os.scandir(folder), key=lambda item: item.name):
        name, path = f"{prefix}{entry.name}", Path(entry.path)
        try:
            real = path.resolve(strict=True)
        except (OSError, RuntimeError):
            left_out.append(f"{name} (a link to nothing)")
            continue
        is_dir = real.is_dir()
        if _ignored(active, name, is_dir):
            if not _ignored(rules[:1], name, is_dir):
                left_out.append(f"{name}/" if is_dir else name)
            continue
        if entry.is_symlink() and not real.is_relative_to(root):
            left_out.append(f"{name} (a link that leads out of the project)")
        elif is_dir:
            if real in above:
                left_out.append(f"{name} (a link that leads back)")
                continue
            yield from _walk(root, path, f"{name}/", active, left_out, above | {real})
        elif real.is_file():
            yield name, real


class _Rules:
    """The patterns of one ignore file, for names relative to the folder that it lies in."""

    def __init__(self, lines: Sequence[str], prefix: str) -> None:
        from pathspec import GitIgnoreSpec

        self._spec, self._prefix = GitIgnoreSpec.from_lines(lines), prefix

    def decides(self, name: str, is_dir: bool) -> bool | None:
        """Whether the name is left out; None where no pattern speaks of it."""
        relative = name.removeprefix(self._prefix) + ("/" if is_dir else "")
        decided: bool | None = None
        for pattern in self._spec.patterns:
            if pattern.include is not None and pattern.match_file(relative) is not None:
                decided = pattern.include
        return decided


def _rules(lines: Sequence[str], prefix: str = "") -> _Rules:
    return _Rules(lines, prefix)


def _own_rules(root: Path, folder: Path, prefix: str) -> list[_Rules]:
    """`.amlignore` at the top replaces every `.gitignore`; without one each folder's own counts."""
    top = root / _IGNORE_FILE
    file = top if top.is_file() else folder / _GIT_IGNORE
    if (top.is_file() and folder != root) or not file.is_file():
        return []
    return [_rules(file.read_text(encoding="utf-8", errors="replace").splitlines(), prefix)]


def _ignored(rules: Sequence[_Rules], name: str, is_dir: bool) -> bool:
    """The last file that speaks of the name decides, as in Git."""
    ignored = False
    for rule in rules:
        decided = rule.decides(name, is_dir)
        ignored = ignored if decided is None else decided
    return ignored


def _check_names(names: Iterable[str]) -> None:
    """What cannot be sent is not left out by itself: the program may need it."""
    wrong = next((name for name in sorted(names) if name != name.encode("utf-8", "replace").decode()), None)
    if wrong is not None:
        raise UsageError(
            f"The project's file {_shown(wrong)} has a name that is no UTF-8, under which no service keeps a file.",
            f"Rename it, or name it in {_IGNORE_FILE} (without one, in {_GIT_IGNORE}), with a * for what is no UTF-8.",
        )


def _shown(name: str) -> str:
    """The name as it can be printed: a byte that is no UTF-8 as its number."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _below(name: str, place: Path) -> Iterator[tuple[str, Path]]:
    if place.is_file():
        yield name, place
        return
    for path in sorted(place.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            yield f"{name}/{path.relative_to(place).as_posix()}", path


def _digest(files: Sequence[tuple[str, Path]]) -> str:
    """The service's content hash: the number of files, then each name with its size, then each content, in the order of the
    names in lower case."""
    ordered = sorted(files, key=lambda item: item[0].lower())
    digest = hashlib.sha256(str(len(ordered)).encode())
    for name, path in ordered:
        digest.update(f"#{name}#{path.stat().st_size}".encode())
    for _, path in ordered:
        with path.open("rb") as source:
            while chunk := source.read(_CHUNK_BYTES):
                digest.update(chunk)
    return digest.hexdigest()
