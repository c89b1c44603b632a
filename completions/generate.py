"""Write the completion scripts of this folder; with --check, only say whether they are current (exit code 1 if not)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

SHELLS = {"bash": "amlflow.bash", "zsh": "_amlflow", "fish": "amlflow.fish", "pwsh": "amlflow.ps1"}
HERE = Path(__file__).parent


def script(shell: str) -> str:
    """What the installed command prints for the shell."""
    env = {**os.environ, "_AMLFLOW_COMPLETE": f"source_{shell}"}
    done = subprocess.run([sys.executable, "-m", "amlflow"], env=env, capture_output=True, text=True, check=True)
    return done.stdout.strip() + "\n"


def main() -> int:
    stale = [name for shell, name in SHELLS.items() if _current(HERE / name) != script(shell)]
    if "--check" in sys.argv:
        if stale:
            print(f"Not current: {', '.join(stale)}. Run `python completions/generate.py`.", file=sys.stderr)
        return 1 if stale else 0
    for shell, name in SHELLS.items():
        (HERE / name).write_text(script(shell), encoding="utf-8")
    return 0


def _current(file: Path) -> str:
    return file.read_text(encoding="utf-8") if file.exists() else ""


if __name__ == "__main__":
    sys.exit(main())
