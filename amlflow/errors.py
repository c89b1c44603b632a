"""The errors that amlflow raises on purpose. Each says what failed, and carries the command that mends it."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class AmlflowError(Exception):
    """Something failed for a reason that the user can act on.

    `message` says what failed, with the exact value at fault and the likely cause, in one sentence or two.
    `mend` is the command or edit that puts it right; it is shown after the message. `exit_code` follows the table
    of exit codes in the README.
    """

    exit_code = 1

    def __init__(self, message: str, mend: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.mend = mend

    def paragraph(self) -> str:
        return f"{self.message} {self.mend}".strip()


class UsageError(AmlflowError):
    """The command line, `amlflow.yaml` or an MLproject file says something that has no meaning."""

    exit_code = 2


class NotFound(AmlflowError):
    """The thing named does not exist. The nearest existing names are offered."""

    exit_code = 3

    def __init__(self, message: str, mend: str = "", *, name: str = "", known: Iterable[str] = ()) -> None:
        near = nearest(name, known)
        super().__init__(f"{message} Did you mean {near}?" if near else message, mend)


class NotAllowed(AmlflowError):
    """Not signed in, or the account may not do this."""

    exit_code = 4


class Unavailable(AmlflowError):
    """The service did not answer, after retries."""

    exit_code = 5


class GateFailed(AmlflowError):
    """A gate of the user's own did not hold."""

    exit_code = 6


class NotSupported(AmlflowError):
    """This workspace or target cannot do what was asked; `mend` says what to use instead."""


def nearest(name: str, known: Iterable[str], limit: int = 3) -> str:
    """The known names closest to `name`, quoted and joined by «or»; empty where none is close."""
    return " or ".join(repr(hit) for hit in closest(name, known, limit))


def closest(name: str, known: Iterable[str], limit: int) -> list[str]:
    """At most so many of the known names, the closest to `name` first; empty where none is close."""
    lowered = {candidate.lower(): candidate for candidate in known}
    return [lowered[hit] for hit in get_close_matches(name.lower(), list(lowered), n=limit, cutoff=0.55)]
