"""`mlflow deployments create|update|list|get|predict|delete -t amlflow`: the endpoints that `amlflow endpoint` shows.

`-t amlflow` is the workspace that a command without `-w` would use; `-t amlflow://WORKSPACE` names one as `-w` does.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlflow.deployments import BaseDeploymentClient, PredictionsResponse

from amlflow.errors import UsageError, nearest
from amlflow.services import deploy_options, deployment
from amlflow.services.plugins.opening import say, told, workspace_of
from amlflow.targets import payloads
from amlflow.targets.base import DeployOptions, Endpoint

FLAVOR = "python_function"
KEYS = (
    *("target", "port", "env_manager", "timeout"),
    *("instance_type", "instance_count", "canary", "canary_wait", "golden", "wait", "mirror", "scoring", "auth_mode"),
    *("request_timeout", "autoscale", "collect", "sampling", "private", "no_egress", "compute", "cpu", "memory"),
    *("mini_batch_size", "output_action", "max_concurrency", "retries"),
    *("location", "dns_label", "subnet", "https_image", "insecure"),
)

# The least value of a number, where that is not 1.
_LEAST = {"canary_wait": 0, "retries": 0, "sampling": 0.01, "cpu": 0.001, "memory": 0.05}


class AmlflowDeployments(BaseDeploymentClient):  # type: ignore[misc]
    """Each deployment of MLflow's is an endpoint of amlflow's. What fails raises `MlflowException` with amlflow's words."""

    def __init__(self, target_uri: str) -> None:
        super().__init__(target_uri)
        with told():
            self._workspace = workspace_of(target_uri)

    def create_deployment(
        self,
        name: str,
        model_uri: str,
        flavor: str | None = None,
        config: Mapping[str, str] | None = None,
        endpoint: str | None = None,
    ) -> dict[str, Any]:
        """`config` has what `amlflow deploy` has as options, `env.NAME` for environment variables, `tag.NAME` for tags."""
        with told():
            _check(flavor, endpoint)
            target, options = _options(name, dict(config or {}))
            found, plan = deployment.plan(self._workspace, deployment.DeployRequest(model_uri, target, options))
            for line in plan.warnings:
                say(f"Warning: {line}")
            return _record(found.apply(plan, say))

    def update_deployment(
        self,
        name: str,
        model_uri: str | None = None,
        flavor: str | None = None,
        config: Mapping[str, str] | None = None,
        endpoint: str | None = None,
    ) -> dict[str, Any]:
        """Deploy again where it is; the model that it has where none is given."""
        with told():
            _, now = deployment.find_endpoint(self._workspace, name)
        model = model_uri or (now.model_folder if now.model_folder else now.model)
        return self.create_deployment(name, model, flavor, {"target": now.target, **(config or {})}, endpoint)

    def delete_deployment(
        self, name: str, config: Mapping[str, str] | None = None, endpoint: str | None = None
    ) -> None:
        with told():
            _check(None, endpoint)
            deployment.delete(self._workspace, name)

    def list_deployments(self, endpoint: str | None = None) -> list[dict[str, Any]]:
        with told():
            _check(None, endpoint)
            return [_record(found) for found in deployment.endpoints(self._workspace)]

    def get_deployment(self, name: str, endpoint: str | None = None) -> dict[str, Any]:
        with told():
            _check(None, endpoint)
            return _record(deployment.find_endpoint(self._workspace, name)[1])

    def predict(
        self, deployment_name: str | None = None, inputs: Any = None, endpoint: str | None = None
    ) -> PredictionsResponse:
        """`inputs` is a DataFrame, an array, a list, or a request in any of MLflow's forms."""
        with told():
            name = deployment_name or endpoint
            if not name:
                raise UsageError("No deployment is named.", "Give its --name.")
            answer = deployment.invoke(self._workspace, name, _body(inputs), "application/json")
            return PredictionsResponse(answer if isinstance(answer, dict) else {"predictions": answer})


def run_local(
    target: str, name: str, model_uri: str, flavor: str | None = None, config: Mapping[str, str] | None = None
) -> None:
    """Deploy to the local target."""
    AmlflowDeployments(target).create_deployment(name, model_uri, flavor, {**(config or {}), "target": "local"})


def target_help() -> str:
    return (
        "amlflow deploys MLflow models to this machine and to Azure ML. The target is `amlflow`, for the workspace of this "
        f"folder, or `amlflow://WORKSPACE`. -C KEY=VALUE takes {', '.join(KEYS)}, env.NAME and tag.NAME; target is one of "
        f"{', '.join(deployment.TARGETS)}. `amlflow deploy --help` says what they mean."
    )


def _options(name: str, given: dict[str, str]) -> tuple[str, DeployOptions]:
    env = [f"{key.removeprefix('env.')}={given.pop(key)}" for key in list(given) if key.startswith("env.")]
    tags = {key: given.pop(key) for key in list(given) if key.startswith("tag.")}
    for key in given:
        if key not in KEYS:
            near = nearest(key, KEYS)
            raise UsageError(
                f"There is no option {key!r}.{f' Did you mean {near}?' if near else ''}",
                f"-C takes {', '.join(KEYS)}, env.NAME and tag.NAME.",
            )
    target = given.get("target", "local")
    asked = deploy_options.Asked(
        name,
        env,
        _number(given, "port", int),
        given.get("env_manager", ""),
        _number(given, "timeout", float),
        deploy_options.collecting(_truth(given, "collect"), _number(given, "sampling", float)),
    )
    rollout = deploy_options.AskedRollout(
        given.get("canary", ""),
        _number(given, "canary_wait", float),
        Path(given["golden"]) if "golden" in given else None,
        not _truth(given, "wait", True),
        _number(given, "mirror", int),
    )
    machines = deploy_options.AskedMachines(
        given.get("instance_type", ""),
        _number(given, "instance_count", int),
        given.get("autoscale", ""),
        given.get("compute", ""),
        _number(given, "cpu", float),
        _number(given, "memory", float),
    )
    online = deploy_options.AskedOnline(
        rollout,
        machines,
        given.get("scoring", ""),
        given.get("auth_mode", ""),
        _number(given, "request_timeout", int),
        _truth(given, "private"),
        _truth(given, "no_egress"),
    )
    batch = deploy_options.AskedBatch(
        _number(given, "mini_batch_size", int),
        given.get("output_action", ""),
        _number(given, "max_concurrency", int),
        _number(given, "retries", int),
    )
    container = deploy_options.AskedContainer(
        given.get("location", ""),
        given.get("dns_label", ""),
        [f"{key.removeprefix('tag.')}={value}" for key, value in tags.items()],
        given.get("subnet", ""),
        given.get("https_image", ""),
        _truth(given, "insecure"),
    )
    return target, deploy_options.options(target, asked, online, batch, container)


def _truth(given: Mapping[str, str], key: str, plain: bool = False) -> bool:
    value = given.get(key, str(plain)).lower()
    if value not in ("true", "false"):
        raise UsageError(f"{key}={value!r} is neither true nor false.")
    return value == "true"


def _number(given: Mapping[str, str], key: str, kind: Any) -> Any:
    if key not in given:
        return None
    try:
        value = kind(given[key])
    except ValueError:
        raise UsageError(f"{key}={given[key]!r} is no number.") from None
    least = _LEAST.get(key, 1)
    if value < least:
        raise UsageError(f"{key}={given[key]!r} is too small.")
    return value


def _body(inputs: Any) -> bytes:
    if hasattr(inputs, "to_json"):
        return f'{{"dataframe_split": {inputs.to_json(orient="split")}}}'.encode()
    content = inputs.tolist() if hasattr(inputs, "tolist") else inputs
    if isinstance(content, dict) and any(hasattr(value, "tolist") for value in content.values()):
        content = {key: value.tolist() if hasattr(value, "tolist") else value for key, value in content.items()}
    return json.dumps(content if payloads.is_payload(content) else {payloads.bare_form(content): content}).encode()


def _record(endpoint: Endpoint) -> dict[str, Any]:
    return {
        "name": endpoint.name,
        "flavor": FLAVOR,
        "target": endpoint.target,
        "state": endpoint.state,
        "model": endpoint.model,
        "scoring_url": endpoint.scoring_url,
        "traffic": dict(endpoint.traffic),
    }


def _check(flavor: str | None, endpoint: str | None) -> None:
    if flavor not in (None, "", FLAVOR):
        raise UsageError(f"amlflow serves models as {FLAVOR}, not as {flavor!r}.", "Leave out --flavor.")
    if endpoint:
        raise UsageError("A deployment of amlflow is an endpoint itself.", "Leave out --endpoint, and give its --name.")
