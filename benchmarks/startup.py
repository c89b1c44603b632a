"""What it costs to ask for help and for a completion, beside a Typer program that says hello."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from timing import AMLFLOW, MLFLOW, Row, medians, show, wall

HELLO = """
import typer
app = typer.Typer()
@app.command()
def hello(name: str = "world"):
    "Say hello."
    print(name)
@app.command()
def bye(name: str = "world"):
    "Say bye."
    print(name)
app()
"""


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        hello = Path(folder) / "hello.py"
        hello.write_text(HELLO)
        complete = ["env", "_AMLFLOW_COMPLETE=complete_bash", "COMP_WORDS=amlflow r", "COMP_CWORD=1", AMLFLOW]
        usage = ["sh", "-c", f"{AMLFLOW} --no-such-option || true"]
        peer, ours, completion, wrong = medians(
            [[sys.executable, str(hello), "--help"], [AMLFLOW, "--help"], complete, usage], 15
        )
        show(
            "Start-up (peer: a Typer+Rich program of two commands, --help)",
            [
                Row("amlflow --help", ours, peer, 1.2),
                Row("completing a command's name", completion, peer, 0.6),
                Row("a usage error", wrong, peer, 1.2),
            ],
        )
        print(f"mlflow --help, once warm: {min(wall([MLFLOW, '--help']) for _ in range(2)):.2f} s")


if __name__ == "__main__":
    main()
