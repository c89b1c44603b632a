"""From what a user types after `deploy` to the options of a target."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from amlflow.errors import UsageError
from amlflow.targets.base import BatchOptions, Collecting, ContainerOptions, DeployOptions, OnlineOptions

# Of an option that one may well expect of the target: why it has none, and what to use.
_WHY = {
    ("--collect", "batch"): (
        ": what a batch endpoint is asked is in the files of its jobs' inputs, and what it answers in those of their outputs",
        "Name those files: `amlflow monitor drift --data FILE`.",
    ),
}
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
    collect: Collecting | None = None


@dataclass(frozen=True, slots=True)
class AskedRollout:
    """How a new deployment of an online endpoint gets its traffic."""

    canary: str = ""
    canary_wait_s: float | None = None
    golden: Path | None = None
    no_wait: bool = False
    mirror: int | None = None


@dataclass(frozen=True, slots=True)
class AskedMachines:
    """What a deployment of an online endpoint runs on."""

    instance_type: str = ""
    instance_count: int | None = None
    autoscale: str = ""
    compute: str = ""
    cpu: float | None = None
    memory_gb: float | None = None


@dataclass(frozen=True, slots=True)
class AskedOnline:
    """What online endpoints of Azure ML take alone: None, empty and False for what was not given."""

    rollout: AskedRollout = AskedRollout()
    machines: AskedMachines = AskedMachines()
    scoring: str = ""
    auth_mode: str = ""
    request_timeout_s: int | None = None
    private: bool = False
    no_egress: bool = False

    def options(self) -> OnlineOptions:
        """Raises `UsageError` for a value that means nothing."""
        rollout, machines, plain = self.rollout, self.machines, OnlineOptions()
        if machines.autoscale and machines.instance_count is not None:
            raise UsageError("--autoscale and --instance-count exclude each other.", "Leave out --instance-count.")
        return OnlineOptions(
            machines.instance_type,
            machines.instance_count or plain.instance_count,
            _shares(rollout.canary) if rollout.canary else plain.canary,
            plain.canary_wait_s if rollout.canary_wait_s is None else rollout.canary_wait_s,
            rollout.golden,
            rollout.mirror or 0,
            self.scoring or plain.scoring,
            self.auth_mode,
            self.request_timeout_s or 0,
            machines.autoscale,
            self.private,
            not self.no_egress,
            machines.compute,
            machines.cpu or 0.0,
            machines.memory_gb or 0.0,
        )


@dataclass(frozen=True, slots=True)
class AskedBatch:
    """What the batch target takes alone."""

    mini_batch_size: int | None = None
    output_action: str = ""
    max_concurrency: int | None = None
    retries: int | None = None
    smoke: bool = True


@dataclass(frozen=True, slots=True)
class AskedContainer:
    """What the aci target takes alone: None and empty for what was not given. `tags` are NAME=VALUE."""

    location: str = ""
    dns_label: str = ""
    tags: Sequence[str] = ()
    subnet: str = ""
    https_image: str = ""
    insecure: bool = False


def options(
    target: str,
    asked: Asked,
    online: AskedOnline = AskedOnline(),
    batch: AskedBatch = AskedBatch(),
    container: AskedContainer = AskedContainer(),
) -> DeployOptions:
    """Raises `UsageError` for an option that the target does not have, or a value that means nothing."""
    for name, (value, owners) in _owned(asked, online, batch, container).items():
        if value not in (None, "", ()) and value is not False and target not in owners:
            why, mend = _WHY.get((name, target), ("", "`amlflow deploy --help` says whose it is."))
            raise UsageError(f"{name} means nothing to --target {target}{why}.", mend)
    plain = DeployOptions()
    return DeployOptions(
        asked.name,
        asked.port,
        asked.env_manager or plain.env_manager,
        asked.timeout_s or (_ACI_S if target == "aci" else plain.timeout_s),
        _variables(asked.env),
        not online.rollout.no_wait,
        asked.collect,
        online.options(),
        _batch(batch, online.machines.compute, asked.timeout_s),
        _container(container, online.machines, plain.container),
    )


def collecting(
    collect: bool, sampling: float | None = None, dropped: Sequence[str] = (), hashed: Sequence[str] = ()
) -> Collecting | None:
    """None where nothing is collected; `sampling` is in percent. Raises `UsageError` for what means nothing without --collect."""
    if not collect:
        if sampling is not None or dropped or hashed:
            raise UsageError(
                "--sampling, --collect-drop and --collect-hash say what is collected, and nothing is.", "Add --collect."
            )
        return None
    return Collecting(1.0 if sampling is None else sampling / 100, tuple(dropped), tuple(hashed))


def _owned(
    asked: Asked, online: AskedOnline, batch: AskedBatch, container: AskedContainer
) -> Mapping[str, tuple[object, Sequence[str]]]:
    """Each option, what was given for it, and the targets that take it."""
    local, managed, aks, both, files = ("local",), ("managed",), ("aks",), ("managed", "aks"), ("batch",)
    aci = ("aci",)
    rollout, machines = online.rollout, online.machines
    return {
        "--port": (asked.port, local),
        "--env-manager": (asked.env_manager, local),
        "--timeout": (asked.timeout_s, (*local, *files, *aci)),
        "--instance-type": (machines.instance_type, both),
        "--instance-count": (machines.instance_count, (*both, *files)),
        "--autoscale": (machines.autoscale, both),
        "--compute": (machines.compute, (*aks, *files)),
        "--cpu": (machines.cpu, (*aks, *aci)),
        "--memory": (machines.memory_gb, (*aks, *aci)),
        "--canary": (rollout.canary, both),
        "--canary-wait": (rollout.canary_wait_s, both),
        "--golden": (rollout.golden, both),
        "--no-wait": (rollout.no_wait, (*both, *files, *aci)),
        "--mirror": (rollout.mirror, both),
        "--scoring": (online.scoring, both),
        "--auth-mode": (online.auth_mode, both),
        "--request-timeout": (online.request_timeout_s, both),
        "--collect": (asked.collect, (*local, *both, *aci)),
        "--collect-drop": (asked.collect and asked.collect.dropped, (*local, *aci)),
        "--collect-hash": (asked.collect and asked.collect.hashed, (*local, *aci)),
        "--private": (online.private, managed),
        "--no-egress": (online.no_egress, managed),
        "--mini-batch-size": (batch.mini_batch_size, files),
        "--output-action": (batch.output_action, files),
        "--max-concurrency": (batch.max_concurrency, files),
        "--retries": (batch.retries, files),
        "--no-smoke": (not batch.smoke, files),
        "--location": (container.location, aci),
        "--dns-label": (container.dns_label, aci),
        "--tag": (tuple(container.tags), aci),
        "--subnet": (container.subnet, aci),
        "--https-image": (container.https_image, aci),
        "--insecure": (container.insecure, aci),
    }


def shares(given: Sequence[str]) -> dict[str, int]:
    """Of `blue=90` and the like. Raises `UsageError`."""
    found = {}
    for text in given:
        name, equals, share = text.partition("=")
        if not (name and equals and share.isdigit() and int(share) <= 100):
            raise UsageError(f"{text!r} gives no deployment a share.", "Write DEPLOYMENT=PERCENT, such as blue=90.")
        found[name] = int(share)
    return found


def _batch(asked: AskedBatch, compute: str, timeout_s: float | None) -> BatchOptions:
    plain = BatchOptions()
    return BatchOptions(
        compute,
        asked.mini_batch_size or plain.mini_batch_size,
        asked.output_action or plain.output_action,
        asked.max_concurrency or plain.max_concurrency,
        plain.retries if asked.retries is None else asked.retries,
        round(timeout_s or plain.timeout_s),
        asked.smoke,
    )


def _container(asked: AskedContainer, machines: AskedMachines, plain: ContainerOptions) -> ContainerOptions:
    tags = {}
    for text in asked.tags:
        name, equals, value = text.partition("=")
        if not (name and equals):
            raise UsageError(f"--tag {text!r} is no tag.", "Write --tag NAME=VALUE.")
        tags[name] = value
    return ContainerOptions(
        machines.cpu or plain.cpu,
        machines.memory_gb or plain.memory_gb,
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
