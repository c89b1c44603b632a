"""The aks target: an online endpoint on a Kubernetes cluster that is attached to the workspace.

It differs from the managed target in where it runs, and in that its deployments always have a scoring script and an environment
of their own: the service has no scorer of MLflow models there."""

from __future__ import annotations

from dataclasses import replace

from amlflow.errors import UsageError
from amlflow.targets import online_options
from amlflow.targets.base import DeployOptions, ModelToDeploy
from amlflow.targets.managed import ManagedTarget
from amlflow.targets.scoring import OwnScoring
from amlflow.targets.situation import Situation
from amlflow.workspaces.azure.computes import AzureComputes
from amlflow.workspaces.azure.endpoints import EndpointSpec, OnlineEndpoint
from amlflow.workspaces.azure.online_deployments import OnlineDeployment


class AksTarget(ManagedTarget):
    name = "aks"

    def _check(self, model: ModelToDeploy, options: DeployOptions) -> None:
        online_options.check(model, options)
        if options.online.scoring == "azure":
            raise UsageError(
                "Azure ML has no scorer of MLflow models on a Kubernetes cluster.", "Leave out --scoring, or write own."
            )

    def _owns(self, endpoint: OnlineEndpoint) -> bool:
        return bool(endpoint.compute)

    def _why_own(self, model: ModelToDeploy, options: DeployOptions) -> str:
        return "a Kubernetes cluster has none"

    def _wanted(self, model: ModelToDeploy, options: DeployOptions, own: OwnScoring | None) -> OnlineDeployment:
        online = options.online
        return replace(
            super()._wanted(model, options, own),
            compute="Kubernetes",
            instance_type=online.instance_type,
            egress=True,
            cpu=online.cpu,
            memory_gb=online.memory_gb,
        )

    def _new_endpoint(self, options: DeployOptions) -> EndpointSpec:
        return replace(super()._new_endpoint(options), compute=options.online.compute)

    def _check_endpoint(self, endpoint: OnlineEndpoint, options: DeployOptions) -> None:
        wanted = self._new_endpoint(options)
        if not wanted.compute and endpoint.compute:
            wanted = replace(wanted, compute=endpoint.compute)
        online_options.check_same(endpoint, wanted, options.online.auth_mode)

    def _check_room(self, now: Situation, options: DeployOptions) -> None:
        """The cluster must be there. What room it has, its own scheduler alone knows."""
        name = options.online.compute or (now.endpoint.compute if now.endpoint else "")
        computes = AzureComputes(self._service)
        if not name:
            known = [item.name for item in computes.list() if item.kind == "kubernetes"]
            raise UsageError(
                "The aks target runs on a cluster, and none is named.",
                f"Give --compute, one of {', '.join(known)}."
                if known
                else "Attach one with `amlflow compute attach`, and name it with --compute.",
            )
        found = computes.get(name)
        if found.kind != "kubernetes":
            raise UsageError(
                f"The compute {name!r} is no Kubernetes cluster, but of the kind {found.kind}.",
                "Give --compute an attached cluster; `amlflow compute list` shows them. `--target managed` needs none.",
            )
        wanted = now.wanted.instance_type
        if wanted and found.instance_types and wanted not in found.instance_types:
            raise UsageError(
                f"The cluster {name!r} has no instance type {wanted!r}.",
                f"Give --instance-type one of {', '.join(found.instance_types)}, or leave it out.",
            )

    def _machines(self, wanted: OnlineDeployment) -> str:
        count = str(wanted.autoscale) if wanted.autoscale else str(wanted.instance_count)
        asked = [wanted.instance_type, f"{wanted.cpu:g} cores", f"{wanted.memory_gb:g} GB"]
        told = [text for text in asked if text and not text.startswith("0 ")]
        return f"{count} × {', '.join(told) or 'the default instance type'}"
