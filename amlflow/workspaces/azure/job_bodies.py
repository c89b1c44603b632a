"""A job as the service writes it, from a `JobSpec`, and the other way round as a `Job`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from amlflow.errors import UsageError, nearest
from amlflow.workspaces.abilities import Compute, Job, JobInput, JobOutput, JobSpec
from amlflow.workspaces.azure.service import epoch_ms, iso_duration

SERVERLESS = "serverless"
DISTRIBUTIONS = ("pytorch", "mpi", "tensorflow", "ray")
IDENTITIES = ("token", "managed", "user")
_MODES = {
    "": "",
    "ro_mount": "ReadOnlyMount",
    "rw_mount": "ReadWriteMount",
    "download": "Download",
    "direct": "Direct",
    "eval_mount": "EvalMount",
    "eval_download": "EvalDownload",
}
_SHM = re.compile(r"\d+[bBkKmMgG]")
# Where outputs go for which no place was named. Jobs of one name never meet there: names are unique.
_OUTPUT_PLACE = "azureml://datastores/workspaceblobstore/paths/azureml"


def body(spec: JobSpec, code_id: str, environment_id: str, compute_id: str, inputs: Mapping[str, JobInput]) -> Any:
    """The body of the PUT. `inputs` are those of the spec, with URIs in the place of paths of this machine."""
    resources: dict[str, Any] = {"instanceCount": spec.instances}
    if spec.size:
        resources["instanceType"] = spec.size
    if spec.shm_size:
        resources["shmSize"] = spec.shm_size
    if spec.docker_args:
        resources["dockerArgs"] = spec.docker_args
    content: dict[str, Any] = {
        "jobType": "Command",
        "displayName": spec.display_name or spec.name,
        "experimentName": spec.experiment,
        "command": spec.command,
        "codeId": code_id,
        "environmentId": environment_id,
        "environmentVariables": dict(spec.variables),
        "inputs": {name: _input(value) for name, value in inputs.items()},
        "outputs": {name: _output(name, value, spec.name) for name, value in spec.outputs.items()},
        "resources": resources,
        "tags": dict(spec.tags),
        "properties": dict(spec.properties),
        "isArchived": False,
    }
    if compute_id:
        content["computeId"] = compute_id
    if spec.distribution:
        content["distribution"] = _distribution(spec)
    if spec.timeout_s:
        content["limits"] = {"jobLimitsType": "Command", "timeout": iso_duration(spec.timeout_s)}
    if spec.identity:
        kinds = {"token": "AMLToken", "managed": "Managed", "user": "UserIdentity"}
        content["identity"] = {"identityType": kinds[spec.identity]}
    if not compute_id and spec.tier == "spot":
        content["queueSettings"] = {"jobTier": "Spot"}
    return {"properties": content}


def check_spec(spec: JobSpec) -> None:
    """Raises `UsageError` for what no compute could run."""
    for what, value, known in (
        ("distribution", spec.distribution, DISTRIBUTIONS),
        ("identity", spec.identity, IDENTITIES),
        ("tier", spec.tier, ("dedicated", "spot")),
    ):
        if value and value not in known:
            near = nearest(value, known)
            hint = f" Did you mean {near}?" if near else ""
            raise UsageError(f"There is no {what} {value!r}.{hint}", f"It is one of {', '.join(known)}.")
    for given in spec.inputs.values():
        if given.mode not in _MODES:
            raise UsageError(
                f"There is no mode {given.mode!r} of an input.", f"It is one of {', '.join(filter(None, _MODES))}."
            )
    if spec.shm_size and not _SHM.fullmatch(spec.shm_size):
        raise UsageError(f"{spec.shm_size!r} is no size of shared memory.", "Give a number and b, k, m or g: 8g.")
    if spec.instances < 1:
        raise UsageError(f"A job cannot run on {spec.instances} nodes.", "Give --instances 1 or more.")
    if spec.processes and spec.distribution not in ("pytorch", "mpi"):
        raise UsageError(
            "A number of processes goes with --distribution pytorch or mpi only.", "Leave out --processes."
        )


def check_fit(spec: JobSpec, compute: Compute) -> None:
    """Raises `UsageError` for a compute that would never run the job."""
    if compute.kind == "cluster" and spec.instances > compute.max_nodes:
        raise UsageError(
            f"The job asks for {spec.instances} nodes, and cluster {compute.name!r} has {compute.max_nodes} at most.",
            f"Raise it with `amlflow compute create {compute.name} --max {spec.instances} --size {compute.size}`.",
        )
    if compute.kind in ("instance", "machine") and spec.instances > 1:
        raise UsageError(
            f"The job asks for {spec.instances} nodes, and {compute.name!r} is one machine.", "Name a cluster."
        )
    if spec.tier and compute.kind == "cluster" and spec.tier != compute.tier:
        raise UsageError(
            f"The job asks for the {spec.tier} tier, and cluster {compute.name!r} is {compute.tier}.",
            "The tier is the cluster's own: name another, or use --compute serverless.",
        )


def job(record: Mapping[str, Any]) -> Job:
    properties = record.get("properties") or {}
    services = properties.get("services") or {}
    studio = services.get("Studio") or {}
    created = (record.get("systemData") or {}).get("createdAt")
    facts = properties.get("properties") or {}
    compute = str(properties.get("computeId") or "")
    return Job(
        str(record.get("name")),
        str(properties.get("displayName") or record.get("name")),
        str(properties.get("experimentName") or ""),
        str(properties.get("status") or "Unknown"),
        compute.rstrip("/").rsplit("/", 1)[-1] or SERVERLESS,
        epoch_ms(created) or 0,
        epoch_ms(facts.get("EndTimeUtc") or properties.get("endTimeUtc")),
        str(studio.get("endpoint") or ""),
        "",
        dict(properties.get("tags") or {}),
    )


def output_uri(record: Mapping[str, Any], name: str) -> str:
    """Where the named output of a job lies; empty for one that it does not have."""
    outputs = (record.get("properties") or {}).get("outputs") or {}
    found = outputs.get(name)
    if found is None:
        return ""
    return str(found.get("uri") or f"{_OUTPUT_PLACE}/{record.get('name')}/{name}/")


def datastore_path(uri: str) -> tuple[str, str]:
    """The datastore and path of an `azureml://` URI, long or short; empty strings for any other."""
    match = re.search(r"datastores/([^/]+)/(?:paths/)?(.*)$", uri)
    return (match[1], match[2]) if uri.startswith("azureml:") and match else ("", "")


def _input(value: JobInput) -> dict[str, Any]:
    if value.kind == "literal":
        return {"jobInputType": "literal", "value": value.value}
    content = {"jobInputType": value.kind, "uri": value.value}
    if value.mode:
        content["mode"] = _MODES[value.mode]
    return content


def _output(name: str, value: JobOutput, job_name: str) -> dict[str, Any]:
    uri = value.uri or f"{_OUTPUT_PLACE}/{job_name}/{name}{'' if value.kind == 'uri_file' else '/'}"
    return {"jobOutputType": value.kind, "uri": uri, "mode": "ReadWriteMount"}


def _distribution(spec: JobSpec) -> dict[str, Any]:
    if spec.distribution == "tensorflow":
        return {"distributionType": "TensorFlow", "workerCount": spec.instances, "parameterServerCount": 0}
    if spec.distribution == "ray":
        return {"distributionType": "Ray"}
    kind = {"pytorch": "PyTorch", "mpi": "Mpi"}[spec.distribution]
    return {"distributionType": kind, "processCountPerInstance": spec.processes or 1}
