"""From what a user types after `deploy` to the options of a target."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from amlflow.errors import UsageError
from amlflow.targets.base import Collecting, DeployOptions, OnlineOptions


@dataclass(frozen=True, slots=True)
class Asked:
    """What any target takes, and what the local one takes alone: None and empty for what was not given."""

    name: str = ""
    env: Sequence[str] = ()
    port: int | None = None
    env_manager: str = ""
    timeout_s: float | None = None
    collect: Collecting | None = None


@dataclass(frozen=True, slots=True)
class AskedOnline:
    """What online endpoints of Azure ML take alone: None, empty and False for what was not given."""

    instance_type: str = ""
    instance_count: int | None = None
    canary: str = ""
    canary_wait_s: float | None = None
    golden: Path | None = None
    no_wait: bool = False

    def options(self) -> OnlineOptions:
        """Raises `UsageError` for a value that means nothing."""
        plain = OnlineOptions()
        return OnlineOptions(
            self.instance_type,
            self.instance_count or plain.instance_count,
            _shares(self.canary) if self.canary else plain.canary,
            plain.canary_wait_s if self.canary_wait_s is None else self.canary_wait_s,
            self.golden,
        )


def options(target: str, asked: Asked, online: AskedOnline = AskedOnline()) -> DeployOptions:
    """Raises `UsageError` for an option that the target does not have, or a value that means nothing."""
    local = ("local",)
    managed = ("managed",)
    owned = {
        "--port": (asked.port, local),
        "--env-manager": (asked.env_manager, local),
        "--timeout": (asked.timeout_s, local),
        "--collect": (asked.collect, local),
        "--instance-type": (online.instance_type, managed),
        "--instance-count": (online.instance_count, managed),
        "--canary": (online.canary, managed),
        "--canary-wait": (online.canary_wait_s, managed),
        "--golden": (online.golden, managed),
        "--no-wait": (online.no_wait, managed),
    }
    for name, (value, owners) in owned.items():
        if value not in (None, "", False) and target not in owners:
            raise UsageError(f"{name} means nothing to --target {target}.", "`amlflow deploy --help` says whose it is.")
    plain = DeployOptions()
    return DeployOptions(
        asked.name,
        asked.port,
        asked.env_manager or plain.env_manager,
        asked.timeout_s or plain.timeout_s,
        _variables(asked.env),
        not online.no_wait,
        asked.collect,
        online.options(),
    )


def collecting(collect: bool, rate: float | None, dropped: Sequence[str], hashed: Sequence[str]) -> Collecting | None:
    """None where nothing is collected. Raises `UsageError` for what means nothing without --collect."""
    if not collect:
        if rate is not None or dropped or hashed:
            raise UsageError("--collect-rate, --collect-drop and --collect-hash need --collect.", "Add --collect.")
        return None
    return Collecting(1.0 if rate is None else rate, tuple(dropped), tuple(hashed))


def shares(given: Sequence[str]) -> dict[str, int]:
    """Of `blue=90` and the like. Raises `UsageError`."""
    found = {}
    for text in given:
        name, equals, share = text.partition("=")
        if not (name and equals and share.isdigit() and int(share) <= 100):
            raise UsageError(f"{text!r} gives no deployment a share.", "Write DEPLOYMENT=PERCENT, such as blue=90.")
        found[name] = int(share)
    return found


def _variables(given: Sequence[str]) -> Mapping[str, str]:
    found = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals:
            if name not in os.environ:
                # It may be a secret that was meant as a value: it is not shown.
                raise UsageError(
                    "An --env names a variable that is not set here, and gives no value.", "Write --env NAME=VALUE."
                )
            value = os.environ[name]
        if not name:
            raise UsageError("An --env names no variable.", "Write --env NAME=VALUE.")
        found[name] = value
    return found


def _shares(canary: str) -> tuple[int, ...]:
    parts = [part.strip().removesuffix("%") for part in canary.split(",")]
    if not all(part.isdigit() for part in parts):
        raise UsageError(f"--canary {canary!r} is no list of percentages.", "Write --canary 10,50,100.")
    return tuple(int(part) for part in parts)
