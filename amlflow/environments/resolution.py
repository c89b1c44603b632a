"""Which versions of packages fit together on another Python and platform, by uv; nothing is installed."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from amlflow.environments import build

_PINNED = re.compile(r"(?P<name>[A-Za-z0-9][\w.-]*)(?:\[[^\]]*\])?==(?P<version>[^\s;\\]+)")


def compiled(
    lines: Sequence[str],
    python: str,
    platform: str = "",
    *,
    hashes: bool = False,
    wheels_only: bool = False,
    timeout_s: float | None = None,
) -> subprocess.CompletedProcess[str]:
    """How uv ended: stdout has a line for each package that is needed, or stderr says why nothing fits. `python` is a minor
    version; `platform` is uv's name of one, empty for this machine's. Raises `subprocess.TimeoutExpired`."""
    command = [
        build.uv_binary(),
        "pip",
        "compile",
        "--quiet",
        "--no-header",
        "--no-annotate",
        "--python-version",
        python,
    ]
    command += ["--python-platform", platform] if platform else []
    command += ["--generate-hashes"] if hashes else []
    command += ["--only-binary", ":all:"] if wheels_only else []
    with tempfile.TemporaryDirectory() as place:
        asked = Path(place) / "requirements.in"
        # The lines go in by a file, not by arguments: they may carry credentials of a private index.
        asked.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return subprocess.run(
            [*command, str(asked)],
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
            cwd=place,
            timeout=timeout_s,
        )


def pins(text: str) -> Mapping[str, str]:
    """Versions by the package's normalized name, of what `compiled` printed; packages at an address are left out."""
    found = (_PINNED.match(line) for line in text.splitlines())
    return {normalized(match["name"]): match["version"] for match in found if match}


def normalized(name: str) -> str:
    """A package's name as PyPI compares it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()
