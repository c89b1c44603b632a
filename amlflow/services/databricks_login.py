"""What a cluster or job on Databricks needs to log into an Azure ML workspace. No secret is read or printed: the values are put
into a secret scope there by whoever has them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib.metadata import version

from amlflow.errors import NotSupported, UsageError
from amlflow.workspaces.azure.workspace import AzureWorkspace
from amlflow.workspaces.base import Workspace

# azureml-mlflow signs in by azure-identity, which reads a service principal from these.
_SECRETS = {
    "AZURE_TENANT_ID": ("azure-tenant-id", "the tenant (directory) of the service principal"),
    "AZURE_CLIENT_ID": ("azure-client-id", "the application id of the service principal"),
    "AZURE_CLIENT_SECRET": ("azure-client-secret", "its secret"),
}
# Databricks: letters, digits, dashes, underscores, @ and periods, at most 128 characters.
_SCOPE = re.compile(r"[A-Za-z0-9_@.-]{1,128}")


@dataclass(frozen=True, slots=True)
class Secret:
    """What has to be put at a key of the scope."""

    key: str
    holds: str


@dataclass(frozen=True, slots=True)
class Login:
    """`variables` are for `spark_env_vars` of a cluster; those that are secret are references to the scope."""

    package: str
    scope: str
    variables: dict[str, str]
    secrets: tuple[Secret, ...]

    @property
    def notebook(self) -> str:
        """The same as the first cells of a notebook. Serverless compute takes neither libraries nor variables of a cluster."""
        plain = {name: value for name, value in self.variables.items() if name not in _SECRETS}
        lines = [f"%pip install {self.package}", "dbutils.library.restartPython()", "", "import os"]
        lines += [f"os.environ[{name!r}] = {value!r}" for name, value in plain.items()]
        lines += [
            f"os.environ[{name!r}] = dbutils.secrets.get({self.scope!r}, {key!r})"
            for name, (key, _) in _SECRETS.items()
        ]
        # The notebook's MLflow has chosen Databricks before any variable is set.
        lines += ["import mlflow", "mlflow.set_tracking_uri(os.environ['MLFLOW_TRACKING_URI'])"]
        lines += ["mlflow.set_registry_uri(os.environ['MLFLOW_REGISTRY_URI'])"]
        return "\n".join([*lines, "mlflow.set_experiment(os.environ['MLFLOW_EXPERIMENT_NAME'])", ""])


def login(workspace: Workspace, scope: str) -> Login:
    """Raises `NotSupported` for a workspace that is not Azure ML's, `UsageError` for what cannot be a scope."""
    if not _SCOPE.fullmatch(scope):
        raise UsageError(
            f"{scope!r} cannot name a secret scope of Databricks.",
            "It has up to 128 letters, digits and signs of - _ @ and period.",
        )
    if not isinstance(workspace, AzureWorkspace):
        raise NotSupported(f"{workspace.name!r} is no Azure ML workspace.", "Name one with -w SUBSCRIPTION/GROUP/NAME.")
    variables = {
        "MLFLOW_TRACKING_URI": workspace.tracking_uri,
        "MLFLOW_REGISTRY_URI": workspace.tracking_uri,
        # The notebook's own experiment is a path of Databricks, which Azure ML does not take for a name.
        "MLFLOW_EXPERIMENT_NAME": "databricks",
        **{name: f"{{{{secrets/{scope}/{key}}}}}" for name, (key, _) in _SECRETS.items()},
    }
    secrets = tuple(Secret(key, holds) for key, holds in _SECRETS.values())
    return Login(f"azureml-mlflow=={version('azureml-mlflow')}", scope, variables, secrets)
