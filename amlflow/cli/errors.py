"""Every error becomes a message and an exit code here, and nowhere else."""

from __future__ import annotations

import os
import sys
from typing import Any

import typer

from amlflow.cli import ci
from amlflow.cli.state import running_verbose
from amlflow.errors import AmlflowError

INTERRUPTED = 130
_BROKEN_PIPE = 141
_ClickUsageError: Any = typer.BadParameter.__base__
_ClickError: Any = _ClickUsageError.__base__


def run(command: Any, argv: list[str]) -> int:
    """Call the root command and return the exit code of the process."""
    ci.shield()
    try:
        result = command.main(args=argv, prog_name="amlflow", standalone_mode=False)
    except AmlflowError as error:
        return _report(error.paragraph(), error.exit_code, argv)
    except _ClickError as error:
        return _usage(error)
    except typer.Abort as interrupted:
        sys.stderr.write(" ".join(["Interrupted.", *map(str, interrupted.args)]) + "\n")
        return INTERRUPTED
    except BrokenPipeError:
        # The reader (head, less) has what it wanted; Python must not complain when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _BROKEN_PIPE
    except OSError as error:
        return _report(_os_error(error), 1, argv)
    except Exception as error:
        about = f"{type(error).__name__}: {error}".rstrip(": ")
        return _report(
            f"amlflow failed in a way it did not expect: {about}. Run it again with -v for details.", 1, argv
        )
    return result if isinstance(result, int) else 0


def _report(paragraph: str, code: int, argv: list[str]) -> int:
    if running_verbose(argv) and sys.exc_info()[0] is not None:
        import traceback

        traceback.print_exc()
    sys.stderr.write(f"{_label()} {paragraph}\n")
    ci.annotate(paragraph)
    return code


def _usage(error: Any) -> int:
    context = getattr(error, "ctx", None)
    if type(error).__name__ == "NoArgsIsHelpError":
        sys.stderr.write(error.format_message() + "\n")
        return 2
    sys.stderr.write(f"{_label()} {error.format_message()}\n")
    if context is not None:
        sys.stderr.write(f"Try '{context.command_path} --help'.\n")
    return int(error.exit_code)


def _os_error(error: OSError) -> str:
    import errno

    where = f" ({error.filename})" if error.filename else ""
    if error.errno == errno.ENOSPC:
        return f"The disk is full{where}. Free some space, or set AMLFLOW_HOME and AMLFLOW_CACHE_DIR to another disk."
    if error.errno in (errno.EACCES, errno.EROFS, errno.EPERM):
        return f"The system refused access{where}: {error.strerror}. Check who owns it, or choose another folder."
    return f"The system refused{where}: {error.strerror or error}."


def _label() -> str:
    colour = sys.stderr.isatty() and not os.environ.get("NO_COLOR")
    return "\x1b[1;31mError:\x1b[0m" if colour else "Error:"
