"""From what a user types after `deploy` to the options of a target."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from amlflow.errors import UsageError
from amlflow.targets.base import ContainerOptions, DeployOptions

# Azure may take minutes to pull an image.
_ACI_S = 900.0


@dataclass(frozen=True, slots=True)
class Asked:
    """What any target takes, and what the local one takes: None and empty for what was not given."""

    name: str = ""
    env: Sequence[str] = ()
    port: int | None = None
    env_manager: str = ""
    timeout_s: float | None = None


@dataclass(frozen=True, slots=True)
class AskedContainer:
    """What the aci target takes alone: None and empty for what was not given. `tags` are NAME=VALUE."""

    cpu: float | None = None
    memory_gb: float | None = None
    location: str = ""
    dns_label: str = ""
    tags: Sequence[str] = ()
    subnet: str = ""
    https_image: str = ""
    insecure: bool = False


def options(
    target: str,
    asked: Asked,
    instance_type: str = "",
    instance_count: int | None = None,
    canary: str = "",
    canary_wait_s: float | None = None,
    golden: Path | None = None,
    wait: bool = True,
    container: AskedContainer = AskedContainer(),
) -> DeployOptions:
    """Raises `UsageError` for an option that the target does not have, or a value that means nothing."""
    local, managed, aci = ("local",), ("managed",), ("aci",)
    owners: Sequence[tuple[str, object, Sequence[str]]] = (
        ("--port", asked.port, local),
        ("--env-manager", asked.env_manager, local),
        ("--timeout", asked.timeout_s, local + aci),
        ("--instance-type", instance_type, managed),
        ("--instance-count", instance_count, managed),
        ("--canary", canary, managed),
        ("--canary-wait", canary_wait_s, managed),
        ("--golden", golden, managed),
        ("--no-wait", not wait, managed + aci),
        ("--cpu", container.cpu, aci),
        ("--memory", container.memory_gb, aci),
        ("--location", container.location, aci),
        ("--dns-label", container.dns_label, aci),
        ("--tag", tuple(container.tags), aci),
        ("--subnet", container.subnet, aci),
        ("--https-image", container.https_image, aci),
        ("--insecure", container.insecure, aci),
    )
    others = (name for name, value, whose in owners if value not in (None, "", False, ()) and target not in whose)
    given = next(others, "")
    if given:
        raise UsageError(f"{given} means nothing to --target {target}.", "`amlflow deploy --help` says whose it is.")
    plain = DeployOptions()
    return DeployOptions(
        asked.name,
        asked.port,
        asked.env_manager or plain.env_manager,
        asked.timeout_s or (_ACI_S if target == "aci" else plain.timeout_s),
        _variables(asked.env),
        instance_type,
        instance_count or 1,
        _shares(canary) if canary else plain.canary,
        plain.canary_wait_s if canary_wait_s is None else canary_wait_s,
        golden,
        wait,
        _container(container, plain.container),
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


def _container(asked: AskedContainer, plain: ContainerOptions) -> ContainerOptions:
    tags = {}
    for text in asked.tags:
        name, equals, value = text.partition("=")
        if not (name and equals):
            raise UsageError(f"--tag {text!r} is no tag.", "Write --tag NAME=VALUE.")
        tags[name] = value
    return ContainerOptions(
        plain.cpu if asked.cpu is None else asked.cpu,
        plain.memory_gb if asked.memory_gb is None else asked.memory_gb,
        asked.location.lower().replace(" ", ""),
        asked.dns_label,
        tags,
        asked.subnet,
        asked.https_image,
        asked.insecure,
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
