"""What a CI service is told beside the log: errors as annotations, and which values are secret.

The commands are those of GitHub Actions («Workflow commands») and of Azure Pipelines («Logging commands»).
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any

# What GitHub takes from one step is 1 MiB; more fails the upload of all of it.
_MOST_BYTES = 1_000_000
# GitHub's runner takes `::` at the beginning of a line and `##[` anywhere for a command, the agent of Azure Pipelines `##vso[`
# anywhere; both read stdout and stderr, and for both a carriage return ends a line.
_AT_THE_BEGINNING = re.compile(r"(^[^\S\r\n]*|(?<=[\r\n])[^\S\r\n]*):(?=:)")
_ANYWHERE = re.compile(r"##(?=vso\[|\[)", re.IGNORECASE)


class Inert:
    """A stream that writes no commands, whatever the text was made of: a blank breaks what would be one. `commands` is the stream
    for those of amlflow itself."""

    def __init__(self, stream: Any) -> None:
        self.commands = stream
        self._begins = True

    def __getattr__(self, name: str) -> Any:
        return getattr(self.commands, name)

    def write(self, text: str) -> int:
        if text:
            broken = _ANYWHERE.sub("## ", text)
            if self._begins or "\n" in broken or "\r" in broken:
                line = broken if self._begins else f"\0{broken}"
                broken = _AT_THE_BEGINNING.sub(r"\1: ", line).removeprefix("\0")
            self.commands.write(broken)
            self._begins = (self._begins and text.isspace()) or text.rstrip(" \t").endswith(("\n", "\r"))
        return len(text)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)


def shield() -> None:
    """Let no name, value or message that is printed become a command where a CI service reads what is printed."""
    if _github() or _azure():
        sys.stdout = sys.stdout if isinstance(sys.stdout, Inert) else Inert(sys.stdout)
        sys.stderr = sys.stderr if isinstance(sys.stderr, Inert) else Inert(sys.stderr)


def annotate(error: str) -> None:
    """Mark the step with the error, where a CI service runs it."""
    if _github():
        escaped = error.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
        _command(f"::error title=amlflow::{escaped}\n")
    elif _azure():
        _command(f"##vso[task.logissue type=error]{' '.join(error.split())}\n")


def mask(secret: str) -> None:
    """Let the CI service show *** wherever the secret would stand in its log."""
    if _github():
        _command(f"::add-mask::{secret}\n")
    elif _azure():
        _command(f"##vso[task.setsecret]{secret}\n")


def summarize(markdown: str) -> None:
    """Show the text on the page of the run or build: GitHub's step summary, Azure Pipelines' extensions tab. Where that cannot be
    written, stderr says so: what the text is about matters more."""
    markdown = markdown.encode("utf-8", "replace").decode()
    try:
        if _github() and (file := os.environ.get("GITHUB_STEP_SUMMARY")):
            _append(Path(file), markdown)
        elif _azure():
            _command(f"##vso[task.uploadsummary]{_kept(markdown)}\n")
    except OSError as error:
        sys.stderr.write(f"The summary of this run could not be written: {error}.\n")


def _command(line: str) -> None:
    stream = sys.stderr.commands if isinstance(sys.stderr, Inert) else sys.stderr
    stream.write(line)
    stream.flush()


def _append(file: Path, markdown: str) -> None:
    with file.open("a", encoding="utf-8") as summary:
        summary.write(_cut(markdown, _MOST_BYTES - file.stat().st_size) + "\n")


def _kept(markdown: str) -> str:
    """A file that the agent finds after the line that names it; it empties its folder itself."""
    import tempfile

    folder = os.environ.get("AGENT_TEMPDIRECTORY") or tempfile.gettempdir()
    with tempfile.NamedTemporaryFile(
        "w", encoding="utf-8", dir=folder, prefix="amlflow-", suffix=".md", delete=False
    ) as kept:
        kept.write(markdown)
    return kept.name


def _cut(markdown: str, most_bytes: int) -> str:
    """The first lines that fit."""
    if len(markdown.encode()) <= most_bytes:
        return markdown
    kept = markdown.encode()[: max(0, most_bytes - 200)].rpartition(b"\n")[0].decode(errors="ignore")
    return f"{kept}\n\n_The rest is in the log: a summary holds 1 MiB._\n"


def _github() -> bool:
    return os.environ.get("GITHUB_ACTIONS") == "true"


def _azure() -> bool:
    return os.environ.get("TF_BUILD", "").lower() == "true"
