"""Whether the Python that a model asks for is still kept, and whether its target has it."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator, Mapping
from datetime import date

from amlflow.environments import build
from amlflow.services.readiness.findings import Finding, Hosting

# The last day of each minor version's life, or of its month, by the Python developer's guide (devguide.python.org/versions).
ENDS: Mapping[str, date] = {
    "3.6": date(2021, 12, 23),
    "3.7": date(2023, 6, 27),
    "3.8": date(2024, 10, 7),
    "3.9": date(2025, 10, 31),
    "3.10": date(2026, 10, 31),
    "3.11": date(2027, 10, 31),
    "3.12": date(2028, 10, 31),
    "3.13": date(2029, 10, 31),
    "3.14": date(2030, 10, 31),
}
# The oldest that amlflow's scoring app runs on.
OLDEST = (3, 9)
_FIND_S = 60.0


def findings(python: str, asked: str, hosting: Hosting, today: date) -> Iterator[Finding]:
    """`python` is the minor version that will be used, `asked` what the model's files say, empty for nothing."""
    if not re.fullmatch(r"\d+\.\d+", python):
        why = f"{asked!r}, which the model asks for, is no version of Python such as 3.11."
        yield Finding("error", "Python", why, "Write one into python_env.yaml and conda.yaml.")
        return
    numbers = _order(python)
    if not asked:
        yield Finding(
            "warning",
            "Python",
            f"The model names no Python; {python}, which runs amlflow, is taken, and it may have been trained with another.",
            "Log it with MLflow, which writes python_env.yaml.",
        )
    elif numbers < (3,):
        yield Finding(
            "error", "Python", f"The model asks for Python {asked}, which no target has.", "Train it with Python 3."
        )
        return
    if hosting.own_app and numbers < OLDEST:
        yield Finding(
            "error",
            "Python",
            f"The model asks for Python {asked}, and the scoring app runs on {'.'.join(map(str, OLDEST))} or later.",
            "Train the model again with a newer Python.",
        )
        return
    if hosting.pythons and python not in hosting.pythons:
        yield Finding(
            "error",
            "Python",
            f"The model asks for Python {asked or python}, and the image can have "
            f"{', '.join(sorted(hosting.pythons, key=_order))}.",
            "Train the model again with one of these.",
        )
        return
    ends = ENDS.get(python)
    if ends is not None and ends < today:
        yield Finding(
            "warning",
            "Python",
            f"Python {python} has had no security fixes since {ends.isoformat()}.",
            "Train the model again with a newer Python: a model cannot be moved to another without that.",
        )
    elif asked:
        yield Finding("ok", "Python", f"{asked}{f', kept until {ends.isoformat()}' if ends else ''}")
    if not hosting.azure and not _is_here(python):
        yield Finding(
            "warning",
            "Python on this machine",
            f"Python {python} is not here; the deploy will fetch it.",
            f"Fetch it before with `uv python install {python}`, where the network is slow or closed.",
        )


def _order(python: str) -> tuple[int, ...]:
    return tuple(int(part) for part in python.split("."))


def _is_here(python: str) -> bool:
    command = [build.uv_binary(), "python", "find", "--no-python-downloads", "--no-project", python]
    try:
        done = subprocess.run(command, capture_output=True, check=False, stdin=subprocess.DEVNULL, timeout=_FIND_S)
    except subprocess.TimeoutExpired:
        return True
    return done.returncode == 0
