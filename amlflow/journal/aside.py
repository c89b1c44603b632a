"""What a service cannot hold is kept in the run's artifacts instead: values that are too long, what it refused, and what it has
no route for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Tuple

from .folder import RunFolder, read_json, write_json, write_text

REFUSED = "amlflow/refused.jsonl"


class Aside:
    """Files below `aside/` of a run's journal, which are uploaded when they have changed. `tell` is given one sentence when
    the first of a kind is put aside."""

    def __init__(self, folder: RunFolder, tell: Callable[[str], None]) -> None:
        self._folder, self._tell = folder, tell
        self._root = folder.path / "aside"
        self._noted = self._root / "uploaded.json"

    def add_line(self, path: str, line: Mapping[str, Any], sentence: str) -> None:
        """Append to a file of lines. The same line again, after a crash, is not kept twice."""
        file = self._file(path, sentence)
        text = json.dumps(line)
        present = file.read_text(encoding="utf-8") if file.exists() else ""
        if text not in present.split("\n"):
            write_text(file, f"{present}{text}\n")

    def merge(self, path: str, groups: Mapping[str, Mapping[str, str]], sentence: str) -> None:
        """Add values to a file of {group: {key: value}}."""
        file = self._file(path, sentence)
        kept: Dict[str, Any] = read_json(file) or {}
        for group, values in groups.items():
            kept.setdefault(group, {}).update(values)
        write_json(file, kept)

    def put(self, path: str, content: Mapping[str, Any]) -> None:
        """One document, whole."""
        write_json(self._file(path, ""), dict(content))

    def refuse(self, record: List[Any], reason: str, code: str = "") -> None:
        """Keep what the workspace refused for good, here and with the run; `code` is that of the refusal."""
        if any(known.get("record") == record for known in self._folder.refused()):
            return
        self._folder.refuse({"record": record, "reason": reason})
        sentence = f"The workspace refused a part of run {self._folder.id}: {reason}"
        self.add_line(REFUSED, {"record": record, "reason": reason, **({"code": code} if code else {})}, sentence)

    def refusals(self) -> Tuple[str, str]:
        """The artifact path of what was refused, and its text so far."""
        name = self._named(REFUSED)
        file = self._root / name
        return name, file.read_text(encoding="utf-8") if file.exists() else ""

    def waiting(self) -> Dict[str, Path]:
        """Artifact path -> file, of what has changed since it was uploaded."""
        if not self._root.is_dir():
            return {}
        noted = read_json(self._noted) or {}
        files = {
            path.relative_to(self._root).as_posix(): path for path in sorted(self._root.rglob("*")) if path.is_file()
        }
        return {
            name: file
            for name, file in files.items()
            if name.startswith("amlflow/") and "/.new-" not in name and noted.get(name) != _version(file)
        }

    def upload(self, put: Callable[[str, Path], None]) -> None:
        """Hand each changed file to `put(artifact path, file)`."""
        for name, file in self.waiting().items():
            version = _version(file)
            put(name, file)
            write_json(self._noted, {**(read_json(self._noted) or {}), name: version})

    def _named(self, path: str) -> str:
        """A journal that was begun again for the same run must not overwrite what the earlier one left in the artifacts."""
        base = self._folder.base() or {}
        if base.get("fresh") or path.startswith("amlflow/models/"):
            return path
        stem, dot, suffix = path.rpartition(".")
        return f"{stem}-{base.get('begun_ms', 0)}{dot}{suffix}"

    def _file(self, path: str, sentence: str) -> Path:
        file = self._root / self._named(path)
        if sentence and not file.exists():
            self._tell(sentence)
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        return file


def _version(file: Path) -> List[int]:
    found = file.stat()
    return [found.st_size, found.st_mtime_ns, found.st_ino]
