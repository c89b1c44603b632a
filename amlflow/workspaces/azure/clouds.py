"""Which Azure: the public one, a sovereign one, or a cloud that describes itself at an address."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from amlflow import paths
from amlflow.errors import NotFound, Unavailable, UsageError
from amlflow.journal.retry import RETRYABLE_STATUS, RetryPolicy, Transient, persist
from amlflow.workspaces.azure import private

_METADATA_VARIABLE = "ARM_CLOUD_METADATA_URL"
_NAME_VARIABLES = ("AZUREML_CURRENT_CLOUD", "AZURE_CLOUD")
_KEPT_S = 3600.0
_TIMEOUT_S = 10.0
_POLICY = RetryPolicy(most=6, base_s=0.3, cap_s=5.0, deadline_s=30.0)


@dataclass(frozen=True, slots=True)
class Cloud:
    """`arm`, `authority` and `studio` are addresses without a slash at the end; `storage_suffix` follows `ACCOUNT.blob.`,
    `container_suffix` `LABEL.REGION.` in the name of a container group."""

    name: str
    arm: str
    authority: str
    storage_suffix: str
    studio: str
    well_known: bool = False
    container_suffix: str = "azurecontainer.io"

    @property
    def arm_scope(self) -> str:
        return f"{self.arm}/.default"

    @property
    def storage_scope(self) -> str:
        return "https://storage.azure.com/.default"

    @property
    def ml_scope(self) -> str:
        """Of a token that opens an endpoint."""
        resource = self.studio.replace("//studio.", "//") if self.well_known else "https://ml.azure.com"
        return f"{resource}/.default"


_KNOWN = (
    Cloud(
        "AzureCloud",
        "https://management.azure.com",
        "https://login.microsoftonline.com",
        "core.windows.net",
        "https://ml.azure.com",
        True,
    ),
    Cloud(
        "AzureChinaCloud",
        "https://management.chinacloudapi.cn",
        "https://login.chinacloudapi.cn",
        "core.chinacloudapi.cn",
        "https://studio.ml.azure.cn",
        True,
        "azurecontainer.console.azure.cn",
    ),
    Cloud(
        "AzureUSGovernment",
        "https://management.usgovcloudapi.net",
        "https://login.microsoftonline.us",
        "core.usgovcloudapi.net",
        "https://ml.azure.us",
        True,
        "azurecontainer.console.azure.us",
    ),
)


def current(environment: Mapping[str, str] | None = None) -> Cloud:
    """The cloud that the environment names: by AZUREML_CURRENT_CLOUD or AZURE_CLOUD among those that
    ARM_CLOUD_METADATA_URL lists, or among Azure's own. AZURE_AUTHORITY_HOST replaces where one signs in. Raises
    `NotFound` for an unknown name, `Unavailable` when the address does not answer."""
    env = os.environ if environment is None else environment
    asked = next((env[name] for name in _NAME_VARIABLES if env.get(name)), "")
    address = env.get(_METADATA_VARIABLE, "")
    listed = _described(address) if address else []
    candidates = [*listed, *_KNOWN]
    if asked:
        chosen = next((cloud for cloud in candidates if cloud.name.lower() == asked.lower()), None)
        if chosen is None:
            raise NotFound(
                f"There is no Azure cloud {asked!r}.",
                f"Set AZURE_CLOUD to one of {', '.join(cloud.name for cloud in candidates)}.",
                name=asked,
                known=[cloud.name for cloud in candidates],
            )
    else:
        chosen = candidates[0]
    authority = env.get("AZURE_AUTHORITY_HOST", "").rstrip("/")
    return _with_authority(chosen, authority) if authority else chosen


def _with_authority(cloud: Cloud, authority: str) -> Cloud:
    address = authority if "://" in authority else f"https://{authority}"
    if not address.startswith("https://"):
        raise UsageError(
            f"AZURE_AUTHORITY_HOST is {authority!r}, and a token is only ever asked for over https.",
            "Give an https:// address.",
        )
    content = asdict(cloud)
    known = cloud.well_known and any(address == other.authority for other in _KNOWN)
    return Cloud(**{**content, "authority": address, "well_known": known})


def _described(address: str) -> list[Cloud]:
    file = paths.azure() / "clouds.json"
    kept = private.read(file).get(address)
    if isinstance(kept, dict) and 0 <= time.time() - float(kept.get("read_s", 0)) < _KEPT_S:
        return [Cloud(**cloud) for cloud in kept["clouds"]]
    found = [_parsed(address, entry) for entry in _fetched(address)]
    if not found:
        raise NotFound(f"{_METADATA_VARIABLE} is {address!r}, which lists no cloud.", "Correct it or unset it.")
    record = {"read_s": time.time(), "clouds": [asdict(cloud) for cloud in found]}
    private.change(file, lambda content: content.update({address: record}))
    return found


def _fetched(address: str) -> list[Any]:
    import requests

    def attempt(remaining_s: float) -> requests.Response:
        answer = requests.get(address, timeout=_TIMEOUT_S)
        if answer.status_code in RETRYABLE_STATUS:
            raise Transient(f"it answered {answer.status_code}", status=answer.status_code)
        answer.raise_for_status()
        return answer

    try:
        content = persist(_POLICY, attempt).json()
    except (requests.RequestException, Transient, ValueError) as error:
        raise Unavailable(
            f"{_METADATA_VARIABLE} is {address!r}, which does not describe a cloud: {_reason(error)}.",
            "Correct it or unset it; REQUESTS_CA_BUNDLE names the authority that signed its certificate.",
        ) from error
    return content if isinstance(content, list) else [content]


def _parsed(address: str, entry: Any) -> Cloud:
    try:
        manager = str(entry["resourceManager"]).rstrip("/")
        login = str(entry["authentication"]["loginEndpoint"]).rstrip("/")
        suffixes = entry.get("suffixes", {})
        suffix = str(suffixes.get("storage", "core.windows.net"))
        own = next((cloud for cloud in _KNOWN if cloud.arm == manager), None)
        studio = own.studio if own else str(entry.get("portal", "")).rstrip("/")
        # Azure's own clouds do not list it.
        containers = str(suffixes.get("containerInstance") or (own or _KNOWN[0]).container_suffix)
        return Cloud(str(entry["name"]), manager, login, suffix, studio, own is not None, containers)
    except (KeyError, TypeError, AttributeError) as error:
        raise NotFound(
            f"{_METADATA_VARIABLE} is {address!r}, and a cloud that it lists lacks {error}.", "Correct it or unset it."
        ) from error


def _reason(error: Exception) -> str:
    text = str(error)
    if "CERTIFICATE_VERIFY_FAILED" in text:
        return "its certificate is not trusted"
    return text.splitlines()[0].rstrip(".") if text else type(error).__name__
