"""When to try again: one policy for requests, uploads and the drainer. It waits for nothing itself but in `persist`."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TypeVar

# The service is there, and says that it has too much to do.
BUSY_STATUS = frozenset({429, 503})
RETRYABLE_STATUS = frozenset({408, 429, 500, 502, 503, 504})

_Answer = TypeVar("_Answer")


class Transient(Exception):
    """One attempt failed in a way that another may not.

    `maybe_applied`: the service may have done it all the same. `retry_after_s`: what the service asked to wait.
    `final`: another attempt makes no sense, although nothing was refused.
    """

    def __init__(
        self,
        reason: str,
        *,
        maybe_applied: bool = False,
        retry_after_s: float | None = None,
        status: int = 0,
        final: bool = False,
    ) -> None:
        super().__init__(reason)
        self.reason, self.maybe_applied, self.retry_after_s = reason, maybe_applied, retry_after_s
        self.status, self.final = status, final


@dataclass(frozen=True)
class RetryPolicy:
    """Full jitter: before the n-th retry any time up to `base_s` * 2^(n-1), at most `cap_s`.

    `most` is the number of retries, `most_busy` that after an answer of `BUSY_STATUS`, if it is more;
    `deadline_s` the time from the first attempt after which none begins. A service's Retry-After is honoured up to `after_cap_s`.
    """

    most: int = 5
    base_s: float = 0.2
    cap_s: float = 10.0
    deadline_s: float = 60.0
    after_cap_s: float = 60.0
    most_busy: int = 0

    def wait_s(
        self,
        failed: int,
        elapsed_s: float,
        retry_after_s: float | None = None,
        chance: float | None = None,
        status: int = 0,
    ) -> float | None:
        """Seconds to wait after `failed` attempts in `elapsed_s`, the last answered with `status`; None to give up. `chance` in
        [0, 1) stands for the random number."""
        if failed > (max(self.most, self.most_busy) if status in BUSY_STATUS else self.most):
            return None
        # Bounded so that a drainer which tries for days does not overflow a float.
        ceiling = min(self.cap_s, self.base_s * 2.0 ** min(failed - 1, 30))
        wait = ceiling * (random.random() if chance is None else chance)  # noqa: S311  jitter, not a secret
        if retry_after_s is not None:
            wait = max(wait, min(retry_after_s, self.after_cap_s))
        return wait if elapsed_s + wait < self.deadline_s else None


def parsed_retry_after(header: str | None, now_s: float | None = None) -> float | None:
    """Seconds from a Retry-After header, which holds seconds or an HTTP date; None for none or nonsense. `now_s` is the
    time as an epoch."""
    if not header:
        return None
    text = header.strip()
    try:
        seconds = float(text)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(text).timestamp() - (time.time() if now_s is None else now_s)
        except (TypeError, ValueError, IndexError, OverflowError):
            return None
    return max(0.0, seconds) if seconds == seconds else None


def persist(
    policy: RetryPolicy,
    attempt: Callable[[float], _Answer],
    repeatable: bool = True,
    sleep: Callable[[float], object] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> _Answer:
    """Call `attempt(remaining seconds)` until it returns. Raises its last `Transient`: when the policy gives up, or
    at once after one that may have been applied and is not `repeatable`."""
    start, failed = clock(), 0
    while True:
        try:
            return attempt(max(0.0, policy.deadline_s - (clock() - start)))
        except Transient as failure:
            failed += 1
            if failure.final or (failure.maybe_applied and not repeatable):
                raise
            wait = policy.wait_s(failed, clock() - start, failure.retry_after_s, status=failure.status)
            if wait is None:
                raise
        sleep(wait)
