"""What can be shown of a run's files: images, confusion matrices, models with their signatures, environments, changed code."""

from __future__ import annotations

import base64
import contextlib
import csv
import io
import json
import math
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from amlflow.errors import AmlflowError, NotFound
from amlflow.reports.comparison_page import Matrix, RunFiles
from amlflow.services.projects import DIFF_ARTIFACT
from amlflow.workspaces.base import Artifact, LoggedModel, Workspace

_DIFF = f"{DIFF_ARTIFACT}/uncommitted.diff"
_IMAGES = (".png", ".jpg", ".jpeg", ".gif", ".webp", ".svg")
_MAGIC = {
    b"\x89PNG\r\n\x1a\n": "image/png",
    b"\xff\xd8\xff": "image/jpeg",
    b"GIF87a": "image/gif",
    b"GIF89a": "image/gif",
}
# One file of a run, and the entries of its folders that are looked at.
_LARGEST_FILE = 1_000_000
_MOST_ENTRIES = 500
_MOST_FOLDERS = 60
_DEEPEST = 4
_MOST_CLASSES = 100
_PIN = re.compile(r"^\s*([A-Za-z0-9][\w.-]*)(\[[^\]]*\])?\s*(?:===?\s*([^\s;#,]+))?")


@dataclass(slots=True)
class Allowance:
    """How many bytes the files of a page may still take; `refused` counts files that found no room, `unseen` runs with more
    files than are looked at."""

    left: int
    refused: int = 0
    unseen: int = 0

    def takes(self, size: int) -> bool:
        if size > self.left:
            self.refused += 1
            return False
        self.left -= size
        return True


@dataclass(slots=True)
class _Reader:
    """Reads single files of a run into a folder that is thrown away."""

    workspace: Workspace
    run_id: str
    folder: Path
    allowance: Allowance
    images: dict[str, str] = field(default_factory=dict)
    matrices: dict[str, Matrix] = field(default_factory=dict)

    def read(self, item: Artifact) -> bytes | None:
        """None for a file that is too large to show."""
        if item.size_bytes is not None and not self._fits(item.size_bytes):
            return None
        file = self.workspace.download_artifacts(self.run_id, item.path, self.folder)
        size = file.stat().st_size
        if item.size_bytes is None and not self._fits(size):
            return None
        return file.read_bytes()

    def _fits(self, size: int) -> bool:
        if size > _LARGEST_FILE:
            self.allowance.refused += 1
            return False
        # What stands in the page as base64 is a third larger.
        return self.allowance.takes(size * 4 // 3)


def collect(workspace: Workspace, run_id: str, allowance: Allowance) -> RunFiles:
    """Raises `AmlflowError` where the workspace does not give its files."""
    with tempfile.TemporaryDirectory(prefix="amlflow-page-") as folder:
        reader = _Reader(workspace, run_id, Path(folder), allowance)
        uncommitted = ""
        for item in _walk(workspace, run_id, allowance):
            if item.path == _DIFF:
                uncommitted = (reader.read(item) or b"").decode("utf-8", "replace")
            elif item.path.lower().endswith(_IMAGES):
                if (content := reader.read(item)) and (kind := media_type(content)):
                    reader.images[item.path] = f"data:{kind};base64,{base64.b64encode(content).decode()}"
            elif _may_be_matrix(item) and (content := reader.read(item)) and (found := matrix(item.path, content)):
                reader.matrices[item.path] = found
        models, packages = _models(workspace, run_id, Path(folder), allowance)
        return RunFiles(reader.images, reader.matrices, models, packages, uncommitted)


def media_type(content: bytes) -> str:
    """Of an image, by its first bytes: a name says nothing. Empty for anything else."""
    for magic, kind in _MAGIC.items():
        if content.startswith(magic):
            return kind
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "image/webp"
    return "image/svg+xml" if re.match(rb"\s*(<\?xml|<!--|<!DOCTYPE svg|<svg)", content) and b"<svg" in content else ""


def matrix(path: str, content: bytes) -> Matrix | None:
    """The confusion matrix in a file: JSON of Azure ML's schema `confusion_matrix` (`data.class_labels`, `data.matrix`), JSON
    with `labels` and `matrix`, or a bare square; CSV with or without a first row and column of labels. None where it is none."""
    text = content.decode("utf-8-sig", "replace")
    try:
        return _of_csv(text) if path.lower().endswith(".csv") else _of_json(json.loads(text))
    except (ValueError, RecursionError, csv.Error):
        return None


def _walk(workspace: Workspace, run_id: str, allowance: Allowance) -> Iterator[Artifact]:
    """The files of a run, nearest folders first, but not those inside of models."""
    folders, seen, listed = [""], 0, 0
    for _ in range(_DEEPEST):
        following: list[str] = []
        for folder in folders:
            listed += 1
            if listed > _MOST_FOLDERS:
                allowance.unseen += 1
                return
            items = workspace.list_artifacts(run_id, folder)
            if any(item.path.rpartition("/")[2] == "MLmodel" for item in items):
                continue
            for item in items:
                seen += 1
                if seen > _MOST_ENTRIES:
                    allowance.unseen += 1
                    return
                if item.is_dir:
                    following.append(item.path)
                else:
                    yield item
        folders = following
    allowance.unseen += bool(folders)


def _may_be_matrix(item: Artifact) -> bool:
    name = item.path.rpartition("/")[2].lower()
    small = item.size_bytes is None or item.size_bytes <= _LARGEST_FILE
    return name.endswith((".json", ".csv")) and "confusion" in name and small


def _of_json(content: Any) -> Matrix | None:
    if isinstance(content, dict) and isinstance(content.get("data"), dict):
        content = content["data"]
    if isinstance(content, list):
        return _square(content, None)
    if not isinstance(content, dict):
        return None
    labels = content.get("class_labels") or content.get("labels") or content.get("classes")
    return _square(content.get("matrix"), labels)


def _of_csv(text: str) -> Matrix | None:
    rows = [row for row in csv.reader(io.StringIO(text)) if row]
    if rows and len(rows) == len(rows[0]) and _number(rows[0][-1]) is not None:
        return _square(rows, None)
    return _square([row[1:] for row in rows[1:]], rows[0][1:] if rows else None)


def _square(rows: Any, labels: Any) -> Matrix | None:
    if not isinstance(rows, list) or not 2 <= len(rows) <= _MOST_CLASSES:
        return None
    counts = []
    for row in rows:
        numbers = [_number(value) for value in row] if isinstance(row, list) else []
        if len(numbers) != len(rows) or any(number is None for number in numbers):
            return None
        counts.append([number for number in numbers if number is not None])
    named = isinstance(labels, list) and len(labels) == len(rows)
    return Matrix([str(label) for label in labels] if named else [str(i) for i in range(len(rows))], counts)


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def _models(
    workspace: Workspace, run_id: str, folder: Path, allowance: Allowance
) -> tuple[dict[str, dict[str, str]], dict[str, dict[str, str]]]:
    from amlflow.services import registry

    facts, packages = {}, {}
    for number, model in enumerate(workspace.logged_models(run_id)):
        try:
            place = _described(workspace, model, folder / f"model-{number}")
            found = model_facts(registry.read_mlmodel(place))
        except AmlflowError as error:
            facts[model.name] = {"not readable": error.message}
            continue
        wanted = environment(place)
        if not allowance.takes(sum(len(name) + len(text) for name, text in (*found.items(), *wanted.items()))):
            continue
        facts[model.name] = found
        if wanted:
            packages[model.name] = wanted
    return facts, packages


def _described(workspace: Workspace, model: LoggedModel, folder: Path) -> Path:
    """The folder with the files that describe the model; its weights, which can be large, are not fetched."""
    place = workspace.fetch_file(model.location, "MLmodel", folder).parent
    for name in ("requirements.txt", "python_env.yaml"):
        with contextlib.suppress(NotFound):
            workspace.fetch_file(model.location, name, folder)
    return place


def model_facts(mlmodel: Mapping[str, Any]) -> dict[str, str]:
    """By name, in the order to show: the signature one line a field, the flavors and what made it."""
    signature = mlmodel.get("signature")
    signature = signature if isinstance(signature, dict) else {}
    facts = {part: fields(signature.get(part)) for part in ("inputs", "outputs", "params")}
    size = mlmodel.get("model_size_bytes")
    return {
        **{part: text for part, text in facts.items() if text},
        **({} if signature else {"signature": "none"}),
        "flavors": ", ".join(sorted(map(str, mlmodel.get("flavors") or {}))),
        "size": f"{size} bytes" if isinstance(size, int) else "unknown",
        "MLflow": str(mlmodel.get("mlflow_version") or "unknown"),
    }


def fields(part: Any) -> str:
    """The fields of one part of a signature, which an MLmodel file holds as JSON; as it stands where it is something else."""
    try:
        listed = json.loads(part) if isinstance(part, str) else part
    except ValueError:
        return str(part)
    if not isinstance(listed, list):
        return "" if listed is None else str(part)
    return "\n".join(_field(one) if isinstance(one, dict) else str(one) for one in listed)


def _field(one: Mapping[str, Any]) -> str:
    spec = one.get("tensor-spec")
    kind = f"{spec.get('dtype')} {spec.get('shape')}" if isinstance(spec, dict) else str(one.get("type"))
    name = one.get("name")
    default = f" = {one['default']}" if one.get("default") is not None else ""
    optional = " (optional)" if one.get("required") is False else ""
    return f"{f'{name}: ' if name is not None else ''}{kind}{default}{optional}"


def environment(folder: Path) -> dict[str, str]:
    """The Python and the packages that a model's folder asks for, by lowered name; a package that is not pinned has its whole
    line."""
    found: dict[str, str] = {}
    try:
        if python := _python(folder / "python_env.yaml"):
            found["python"] = python
        lines = (folder / "requirements.txt").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return found
    found.update(_packages(lines))
    return found


def _python(file: Path) -> str:
    match = re.search(r"^python:\s*['\"]?([\w.]+)", file.read_text(encoding="utf-8", errors="replace"), re.MULTILINE)
    return match[1] if match else ""


def _packages(lines: Sequence[str]) -> dict[str, str]:
    found = {}
    for line in lines:
        text = line.split(" #")[0].strip().rstrip("\\").strip()
        if not text or text.startswith(("#", "-")):
            continue
        match = _PIN.match(text)
        name = re.sub(r"[-_.]+", "-", match[1]).lower() if match else text
        found[name] = match[3] if match and match[3] else text
    return found
