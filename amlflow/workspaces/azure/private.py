"""JSON files that only their owner may read, written whole or not at all."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from amlflow.locks import locked


def read(file: Path) -> dict[str, Any]:
    """The mapping in the file; empty where there is none or it is damaged, because all that it holds can be had again."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def change(file: Path, edit: Callable[[dict[str, Any]], None]) -> None:
    """Edit the mapping in the file, one process at a time. The file's mode is 0600 from its first byte."""
    with locked(file.with_suffix(".lock")):
        content = read(file)
        edit(content)
        handle, temporary = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as target:
                json.dump(content, target)
            Path(temporary).replace(file)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
