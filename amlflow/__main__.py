"""`python -m amlflow`, and the console script."""

from __future__ import annotations

import sys


def main() -> None:
    try:
        from typer.main import get_command

        from amlflow.cli.app import app
        from amlflow.cli.errors import run

        code = run(get_command(app), sys.argv[1:])
    except KeyboardInterrupt:
        # Before there was anything to interrupt, or after it was done.
        sys.stderr.write("Interrupted.\n")
        code = 130
    sys.exit(code)


if __name__ == "__main__":
    main()
