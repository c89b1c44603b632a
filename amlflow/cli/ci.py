"""What a CI service is told beside the log: errors as annotations, and which values are secret.

The commands are those of GitHub Actions («Workflow commands») and of Azure Pipelines («Logging commands»).
"""

from __future__ import annotations

import os
import sys


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


def _github() -> bool:
    return os.environ.get("GITHUB_ACTIONS") == "true"


def _azure() -> bool:
    return os.environ.get("TF_BUILD", "").lower() == "true"
