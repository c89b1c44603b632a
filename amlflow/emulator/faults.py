"""Faults on purpose: which requests fail, how, and how often."""

from __future__ import annotations

import random
import re
import threading
from dataclasses import dataclass
from fnmatch import fnmatchcase

from amlflow.errors import UsageError, nearest

_SPEC = re.compile(r"(?P<method>[A-Za-z*]+)\s+(?P<path>\S+?):(?P<action>[a-z0-9.=]+?)(?::(?P<rate>[\dx.]+))?")
_NAMES = ("status", "reset", "lost", "throttle", "latency", "expire")
_ACTIONS = "a status such as 503, reset, lost, throttle=SECONDS, latency=MILLISECONDS or expire"


@dataclass(frozen=True, slots=True)
class Fault:
    """`action` is «status», «reset» (the connection breaks before the work), «lost» (after it), «throttle» (429 with a
    Retry-After of `amount` seconds), «latency» (`amount` milliseconds) or «expire» (401, as if the token were too old).
    `rate` is the share of the requests that fail; `count`, where it is set, how many more of them do."""

    spec: str
    method: str
    path: str
    action: str
    amount: float = 0.0
    rate: float = 1.0
    count: int | None = None


class Faults:
    """The rules at work. Safe to change while requests come in."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rules: list[Fault] = []
        self._left: dict[int, int] = {}

    def add(self, fault: Fault) -> None:
        with self._lock:
            self._rules.append(fault)
            if fault.count is not None:
                self._left[id(fault)] = fault.count

    def clear(self) -> None:
        with self._lock:
            self._rules.clear()
            self._left.clear()

    def specs(self) -> list[str]:
        with self._lock:
            return [rule.spec for rule in self._rules]

    def strike(self, method: str, path: str) -> list[Fault]:
        """The faults that hit this request: every latency that fits, and the first of the others."""
        hits: list[Fault] = []
        with self._lock:
            for rule in self._rules:
                if rule.action != "latency" and any(hit.action != "latency" for hit in hits):
                    continue
                if self._fits(rule, method, path):
                    hits.append(rule)
        return hits

    def _fits(self, rule: Fault, method: str, path: str) -> bool:
        if rule.method not in ("*", method) or not fnmatchcase(path.lower(), rule.path.lower()):
            return False
        if rule.count is not None:
            if self._left[id(rule)] <= 0:
                return False
            self._left[id(rule)] -= 1
            return True
        return random.random() < rule.rate  # noqa: S311


def parse(spec: str) -> Fault:
    """A fault as it is written: `'PUT */jobs/*:503:0.2'`, `'* *:latency=150'`, `'GET */computes*:throttle=2:x3'` (the next
    three). Raises `UsageError`."""
    match = _SPEC.fullmatch(spec.strip())
    if match is None:
        raise UsageError(
            f"{spec!r} is not a fault.",
            f"Write 'METHOD PATH:ACTION:RATE'; the action is {_ACTIONS}; the rate a share such as 0.2 or a count such as x3.",
        )
    name, _, amount = match["action"].partition("=")
    try:
        if name.isdigit():
            name, amount = "status", name
        number = float(amount or {"throttle": 1, "reset": 0, "lost": 0, "expire": 0}[name])
        if name not in _NAMES:
            raise KeyError(name)
        if name == "status" and not 400 <= number <= 599:
            raise ValueError(name)
        rate = match["rate"] or "1"
        count = int(rate[1:]) if rate.startswith("x") else None
        share = 1.0 if count is not None else float(rate)
    except (KeyError, ValueError) as error:
        near = "" if name in _NAMES else nearest(name, _NAMES[1:])
        hint = f" Did you mean {near}?" if near else ""
        raise UsageError(
            f"{match['action']!r} in {spec!r} is not a fault's action.{hint}", f"It is {_ACTIONS}."
        ) from error
    return Fault(spec.strip(), match["method"].upper(), match["path"], name, number, share, count)
