"""`python -m amlflow`, and the console script."""

from __future__ import annotations

import sys


def main() -> None:
    from typer.main import get_command

    from amlflow.cli.app import app
    from amlflow.cli.errors import run

    sys.exit(run(get_command(app), sys.argv[1:]))


if __name__ == "__main__":
    main()
