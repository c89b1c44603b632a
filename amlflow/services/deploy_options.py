"""From what a user types after `deploy` to the options of a target."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from amlflow.errors import UsageError
from amlflow.targets.base import BatchOptions, DeployOptions


@dataclass(frozen=True, slots=True)
class Asked:
    """What any target takes, and what the local one takes alone: None and empty for what was not given."""

    name: str = ""
    env: Sequence[str] = ()
    port: int | None = None
    env_manager: str = ""
    timeout_s: float | None = None


@dataclass(frozen=True, slots=True)
class BatchAsked:
    """What the batch target takes alone."""

    compute: str = ""
    mini_batch_size: int | None = None
    output_action: str = ""
    max_concurrency: int | None = None
    retries: int | None = None
    smoke: bool = True


def options(
    target: str,
    asked: Asked,
    instance_type: str = "",
    instance_count: int | None = None,
    canary: str = "",
    canary_wait_s: float | None = None,
    golden: Path | None = None,
    wait: bool = True,
    batch: BatchAsked | None = None,
) -> DeployOptions:
    """Raises `UsageError` for an option that the target does not have, or a value that means nothing."""
    local: dict[str, object] = {"--port": asked.port, "--env-manager": asked.env_manager, "--timeout": asked.timeout_s}
    managed: dict[str, object] = {
        "--instance-type": instance_type,
        "--instance-count": instance_count,
        "--canary": canary,
        "--canary-wait": canary_wait_s,
        "--golden": golden,
        "--no-wait": not wait,
    }
    scored = batch or BatchAsked()
    scores: dict[str, object] = {
        "--compute": scored.compute,
        "--mini-batch-size": scored.mini_batch_size,
        "--output-action": scored.output_action,
        "--max-concurrency": scored.max_concurrency,
        "--retries": scored.retries,
        "--no-smoke": not scored.smoke,
        **{name: managed[name] for name in ("--instance-count", "--no-wait")},
        "--timeout": asked.timeout_s,
    }
    owned = {"local": local, "managed": managed, "batch": scores}
    others = {name: value for own in owned.values() for name, value in own.items() if name not in owned.get(target, {})}
    # None and "" are what was not given; a number of 0 was.
    given = next((name for name, value in others.items() if value not in (None, "") and value is not False), "")
    if given:
        raise UsageError(f"{given} means nothing to --target {target}.", "`amlflow deploy --help` says whose it is.")
    plain = DeployOptions()
    return DeployOptions(
        asked.name,
        asked.port,
        asked.env_manager or plain.env_manager,
        asked.timeout_s or plain.timeout_s,
        _variables(asked.env),
        instance_type,
        instance_count or 1,
        _shares(canary) if canary else plain.canary,
        plain.canary_wait_s if canary_wait_s is None else canary_wait_s,
        golden,
        wait,
        _batch(scored, asked.timeout_s),
    )


def shares(given: Sequence[str]) -> dict[str, int]:
    """Of `blue=90` and the like. Raises `UsageError`."""
    found = {}
    for text in given:
        name, equals, share = text.partition("=")
        if not (name and equals and share.isdigit() and int(share) <= 100):
            raise UsageError(f"{text!r} gives no deployment a share.", "Write DEPLOYMENT=PERCENT, such as blue=90.")
        found[name] = int(share)
    return found


def _batch(asked: BatchAsked, timeout_s: float | None) -> BatchOptions:
    plain = BatchOptions()
    return BatchOptions(
        asked.compute,
        asked.mini_batch_size or plain.mini_batch_size,
        asked.output_action or plain.output_action,
        asked.max_concurrency or plain.max_concurrency,
        plain.retries if asked.retries is None else asked.retries,
        round(timeout_s or plain.timeout_s),
        asked.smoke,
    )


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
