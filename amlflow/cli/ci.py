"""What a CI service is told beside the log: errors as annotations, and which values are secret.

The commands are those of GitHub Actions («Workflow commands») and of Azure Pipelines («Logging commands»).
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

# What GitHub takes from one step is 1 MiB; more fails the upload of all of it.
_MOST_BYTES = 1_000_000


def annotate(error: str) -> None:
    """Mark the step with the error, where a CI service runs it."""
    if _github():
        escaped = error.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
        sys.stderr.write(f"::error title=amlflow::{escaped}\n")
    elif _azure():
        sys.stderr.write(f"##vso[task.logissue type=error]{' '.join(error.split())}\n")


def mask(secret: str) -> None:
    """Let the CI service show *** wherever the secret would stand in its log."""
    if _github():
        sys.stderr.write(f"::add-mask::{secret}\n")
    elif _azure():
        sys.stderr.write(f"##vso[task.setsecret]{secret}\n")
    sys.stderr.flush()


def summarize(markdown: str) -> None:
    """Show the text on the page of the run or build: GitHub's step summary, Azure Pipelines' extensions tab. Where that cannot be
    written, stderr says so: what the text is about matters more."""
    try:
        if _github() and (file := os.environ.get("GITHUB_STEP_SUMMARY")):
            _append(Path(file), markdown)
        elif _azure():
            sys.stderr.write(f"##vso[task.uploadsummary]{_kept(markdown)}\n")
    except OSError as error:
        sys.stderr.write(f"The summary of this run could not be written: {error}.\n")


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
