"""The variables that a job's processes find, as Azure ML sets them."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from amlflow.emulator import certificates
from amlflow.emulator.settings import CLOUD_NAME, HOST, Settings
from amlflow.emulator.store import Document

TOKEN_LIFETIME_S = 86_400


@dataclass(frozen=True, slots=True)
class Process:
    """One process of a job. `ports` are for its distribution's own traffic: that of the first process, or one a process."""

    rank: int
    local_rank: int
    node: int
    nodes: int
    per_node: int
    node_id: str
    ports: Sequence[int]

    @property
    def world(self) -> int:
        return self.nodes * self.per_node


def of_job(
    settings: Settings, place: Path, workspace: Document, job: Document, experiment_id: str, token: str
) -> dict[str, str]:
    """What all processes of the job have."""
    parts = workspace.id.split("/")
    experiment = job.body["properties"]["experimentName"]
    host = f"{HOST}:{settings.port}"
    bundle = str(place / certificates.BUNDLE)
    scope = workspace.id
    return {
        "MLFLOW_TRACKING_URI": f"azureml://{host}/mlflow/v1.0{scope}?",
        "MLFLOW_TRACKING_TOKEN": token,
        "MLFLOW_EXPERIMENT_ID": experiment_id,
        "MLFLOW_EXPERIMENT_NAME": experiment,
        "MLFLOW_RUN_ID": job.name,
        "AZUREML_RUN_ID": job.name,
        "AZUREML_ROOT_RUN_ID": job.name,
        "AZUREML_RUN_TOKEN": token,
        "AZUREML_RUN_TOKEN_EXPIRY": str(int(time.time()) + TOKEN_LIFETIME_S),
        "AZUREML_ARM_SUBSCRIPTION": parts[2],
        "AZUREML_ARM_RESOURCEGROUP": parts[4],
        "AZUREML_ARM_WORKSPACE_NAME": workspace.name,
        "AZUREML_ARM_PROJECT_NAME": experiment,
        "AZUREML_EXPERIMENT_ID": experiment_id,
        "AZUREML_EXPERIMENT_SCOPE": f"{scope}/experiments/{experiment}",
        "AZUREML_WORKSPACE_ID": workspace.body["workspaceId"],
        "AZUREML_WORKSPACE_SCOPE": scope,
        "AZUREML_SERVICE_ENDPOINT": settings.base_url,
        "AZUREML_DISCOVERY_SERVICE_ENDPOINT": f"{settings.base_url}/discovery",
        "AZUREML_RUN_HISTORY_SERVICE_ENDPOINT": settings.base_url,
        "AZUREML_COMPUTE_USE_COMMON_RUNTIME": "true",
        "AZUREML_CURRENT_CLOUD": CLOUD_NAME,
        "ARM_CLOUD_METADATA_URL": f"{settings.base_url}/metadata/endpoints",
        "AZURE_AUTHORITY_HOST": settings.base_url,
        "IDENTITY_ENDPOINT": f"{settings.base_url}/msi/token",
        "IDENTITY_HEADER": settings.identity_header,
        "AZURE_TOKEN_CREDENTIALS": "ManagedIdentityCredential",
        "DEFAULT_IDENTITY_CLIENT_ID": settings.principals[0].client_id,
        "REQUESTS_CA_BUNDLE": bundle,
        "SSL_CERT_FILE": bundle,
    }


def of_process(process: Process, distribution: Mapping[str, Any]) -> dict[str, str]:
    """What tells a process its place among the others."""
    kind = str(distribution.get("distributionType") or "").lower()
    master, port = HOST, str(process.ports[0])
    common = {
        "AZUREML_NODE_COUNT": str(process.nodes),
        "AZUREML_PROCESS_COUNT": str(process.world),
        "AZ_BATCH_NODE_ID": process.node_id,
        "AZ_BATCH_MASTER_NODE": f"{master}:{port}",
        "AZ_BATCHAI_MPI_MASTER_NODE": master,
        "NODE_RANK": str(process.node),
    }
    if kind == "pytorch" or (not kind and process.nodes > 1):
        ranks = {
            "MASTER_ADDR": master,
            "MASTER_PORT": port,
            "WORLD_SIZE": str(process.world),
            "RANK": str(process.rank),
            "LOCAL_RANK": str(process.local_rank),
        }
    elif kind == "mpi":
        ranks = {
            "MASTER_ADDR": master,
            "MASTER_PORT": port,
            "OMPI_COMM_WORLD_SIZE": str(process.world),
            "OMPI_COMM_WORLD_RANK": str(process.rank),
            "OMPI_COMM_WORLD_LOCAL_RANK": str(process.local_rank),
            "OMPI_COMM_WORLD_LOCAL_SIZE": str(process.per_node),
        }
    elif kind == "tensorflow":
        ranks = {"TF_CONFIG": json.dumps(_cluster(process, distribution))}
    else:
        ranks = {}
    return {**common, **ranks}


def processes(distribution: Mapping[str, Any], node_ids: Sequence[str], ports: Sequence[int]) -> list[Process]:
    """The processes of a job on its nodes, by rank."""
    kind, nodes = str(distribution.get("distributionType") or "").lower(), len(node_ids)
    if kind == "ray":
        # The command runs on the head alone; no Ray is started for it, so `ray.init()` makes a cluster of this machine.
        return [Process(0, 0, 0, nodes, 1, node_ids[0], ports)]
    if kind == "tensorflow":
        count = count_processes(distribution, nodes)
        return [Process(rank, 0, rank % nodes, count, 1, node_ids[rank % nodes], ports) for rank in range(count)]
    each = int(distribution.get("processCountPerInstance") or 1)
    return [
        Process(node * each + local, local, node, nodes, each, node_ids[node], ports)
        for node in range(nodes)
        for local in range(each)
    ]


def count_processes(distribution: Mapping[str, Any], nodes: int) -> int:
    """How many processes the job has."""
    kind = str(distribution.get("distributionType") or "").lower()
    if kind == "ray":
        return 1
    if kind == "tensorflow":
        workers = int(distribution.get("workerCount") or nodes)
        return workers + int(distribution.get("parameterServerCount") or 0)
    return nodes * int(distribution.get("processCountPerInstance") or 1)


def _cluster(process: Process, distribution: Mapping[str, Any]) -> dict[str, Any]:
    servers = int(distribution.get("parameterServerCount") or 0)
    workers = process.world - servers
    addresses = [f"{HOST}:{port}" for port in process.ports]
    cluster: dict[str, list[str]] = {"worker": addresses[:workers]}
    if servers:
        cluster["ps"] = addresses[workers : process.world]
    task = (
        {"type": "worker", "index": process.rank}
        if process.rank < workers
        else {"type": "ps", "index": process.rank - workers}
    )
    return {"cluster": cluster, "task": task, "environment": "cloud"}
