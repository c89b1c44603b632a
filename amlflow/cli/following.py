"""A job that is followed for what it leaves, not for what it prints."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from amlflow.cli.state import State


def to_the_end(state: State, job: str, chunks: Iterable[bytes]) -> None:
    """Pass on what the job prints until it has ended; it goes to stderr, because stdout is for the result."""
    try:
        for chunk in chunks:
            if not state.quiet:
                sys.stderr.buffer.write(chunk)
                sys.stderr.buffer.flush()
    except KeyboardInterrupt:
        state.note(
            f"Job {job} goes on. Follow it with `amlflow job logs -f {job}`, end it with `amlflow job cancel {job}`."
        )
        raise
