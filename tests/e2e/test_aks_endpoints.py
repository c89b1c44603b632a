"""A registered model on a Kubernetes cluster that is attached to the workspace."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from deployable import sample
from emulated import Running

CLUSTER_ID = "/subscriptions/s/resourceGroups/g/providers/Microsoft.ContainerService/managedClusters/k"


@pytest.fixture
def cluster(amlflow: Any, azure: Running) -> Iterator[str]:
    name = f"k8s-{uuid.uuid4().hex[:6]}"
    made = amlflow.ok("compute", "attach", name, CLUSTER_ID, "-o", "json").json
    assert (made["kind"], made["instance_types"]) == ("kubernetes", ["defaultinstancetype"])
    yield name
    amlflow("compute", "delete", name)


@pytest.mark.slow
def test_blue_and_green_on_a_cluster(
    amlflow: Any, azure: Running, wine: str, endpoint: str, cluster: str, work: Path
) -> None:
    base = ("-t", "aks", "--name", endpoint)
    plan = amlflow.ok("deploy", f"{wine}:1", *base, "--compute", cluster, "--dry-run", "-o", "json").json
    steps = {step["what"]: step["detail"] for step in plan["steps"]}
    assert "a Kubernetes cluster has none" in steps["scoring script"]
    first = amlflow.ok(
        "deploy", f"{wine}:1", *base, "--compute", cluster, "--cpu", "0.5", "--memory", "1", "-o", "json"
    )
    assert (first.json["target"], first.json["traffic"], first.json["state"]) == ("aks", {"blue": 100}, "running")
    assert amlflow.ok("endpoint", "invoke", endpoint, str(sample(work))).json == {"predictions": [1.0]}
    place = f"{azure.workspace_path}/onlineEndpoints/{endpoint}/deployments/blue"
    found = azure.request("GET", place, api_version="2023-04-01-preview").json()["properties"]
    requests = found["containerResourceRequirements"]["containerResourceRequests"]
    assert (found["endpointComputeType"], requests) == ("Kubernetes", {"cpu": "0.5", "memory": "1Gi"})
    again = amlflow.ok("deploy", f"{wine}:1", *base, "--cpu", "0.5", "--memory", "1")
    assert "blue has all the traffic already" in again.err

    second = amlflow.ok("deploy", f"{wine}:2", *base, "--canary", "50,100", "--canary-wait", "0")
    assert second.err.index("green 50 %, blue 50 %") < second.err.index("green 100 %")
    assert amlflow.ok("endpoint", "invoke", endpoint, str(sample(work))).json == {"predictions": [2.0]}
    listed = amlflow.ok("endpoint", "list", "-o", "json").json
    assert [item["target"] for item in listed if item["name"] == endpoint] == ["aks"]
    broken = amlflow("deploy", f"{wine}:3", *base)
    assert (broken.code, "blue is deleted again; the traffic is green 100 %" in broken.err) == (1, True)
    amlflow.ok("endpoint", "delete", endpoint)
    assert amlflow("endpoint", "show", endpoint).code == 3


def test_what_cannot_be_on_a_cluster(amlflow: Any, wine: str, endpoint: str, cluster: str) -> None:
    base = ("deploy", f"{wine}:1", "-t", "aks", "--name", endpoint)
    none = amlflow(*base)
    assert (none.code, "--compute" in none.err, cluster in none.err) == (2, True, True)
    missing = amlflow(*base, "--compute", f"{cluster}x")
    assert (missing.code, f"Did you mean '{cluster}'" in missing.err) == (3, True)
    machines = f"c-{uuid.uuid4().hex[:6]}"
    amlflow.ok("compute", "create", machines)
    other = amlflow(*base, "--compute", machines)
    assert (other.code, "is no Kubernetes cluster, but of the kind cluster" in other.err) == (2, True)
    size = amlflow(*base, "--compute", cluster, "--instance-type", "huge")
    assert (size.code, "defaultinstancetype" in size.err) == (2, True)
    for wrong in (("--scoring", "azure"), ("--private",), ("--no-egress",)):
        assert amlflow(*base, "--compute", cluster, *wrong).code == 2
    assert amlflow("compute", "attach", "other", "/subscriptions/s/nothing").code == 2
    amlflow.ok(*base, "--compute", cluster)
    managed = amlflow("deploy", f"{wine}:1", "-t", "managed", "--name", endpoint)
    assert (managed.code, f"on the cluster '{cluster}'" in managed.err) == (2, True)
