"""The ways to sign in to Azure, in the order in which they are tried."""

from __future__ import annotations

import json
import shutil
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from amlflow.errors import Unavailable, UsageError
from amlflow.workspaces.azure.clouds import Cloud

NAMES = ("sp", "oidc", "mi", "cli", "browser", "device")
_AUDIENCE = "api://AzureADTokenExchange"
_IMDS = ("169.254.169.254", 80)
_PROBE_S = 0.3
_TIMEOUT_S = 20.0


@dataclass(frozen=True, slots=True)
class Way:
    """One way to sign in. `title` names it with the identity that it would use, and `identity` tells that one from any
    other. `missing` says what the way lacks here, and is empty where it can be tried. `certain` is a way that the environment
    is set up for: no later one may stand in for it. `make` gives an azure-identity credential."""

    name: str
    title: str
    identity: Sequence[str]
    missing: Callable[[], str]
    certain: bool
    mend: str
    make: Callable[[Cloud], Any]


def in_order(env: Mapping[str, str], say: Callable[[str], None]) -> list[Way]:
    """All ways, first to last. `say` shows a person what to do to sign in with a code."""
    return [_service_principal(env), _oidc(env), _managed_identity(env), _cli(env), _browser(env), _device(env, say)]


def _service_principal(env: Mapping[str, str]) -> Way:
    tenant, client = env.get("AZURE_TENANT_ID", ""), env.get("AZURE_CLIENT_ID", "")
    secret, certificate = env.get("AZURE_CLIENT_SECRET", ""), env.get("AZURE_CLIENT_CERTIFICATE_PATH", "")

    def missing() -> str:
        absent = [name for name in ("AZURE_TENANT_ID", "AZURE_CLIENT_ID") if not env.get(name)]
        if not secret and not certificate:
            absent.append("AZURE_CLIENT_SECRET or AZURE_CLIENT_CERTIFICATE_PATH")
        if absent:
            return f"{', '.join(absent)} {'is' if len(absent) == 1 else 'are'} not set"
        return "" if secret or Path(certificate).is_file() else f"there is no file {certificate!r}"

    def make(cloud: Cloud) -> Any:
        from azure import identity

        if secret:
            return identity.ClientSecretCredential(tenant, client, secret, **_options(cloud))
        password = env.get("AZURE_CLIENT_CERTIFICATE_PASSWORD") or None
        return identity.CertificateCredential(tenant, client, certificate, password=password, **_options(cloud))

    return Way(
        "sp",
        f"service principal {client or '(AZURE_CLIENT_ID)'}",
        (tenant, client, secret, certificate),
        missing,
        bool(tenant and client and (secret or certificate)),
        "Set AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET to those of a service principal.",
        make,
    )


def _oidc(env: Mapping[str, str]) -> Way:
    tenant = env.get("AZURE_TENANT_ID") or env.get("AZURESUBSCRIPTION_TENANT_ID", "")
    client = env.get("AZURE_CLIENT_ID") or env.get("AZURESUBSCRIPTION_CLIENT_ID", "")
    source = next(
        (
            name
            for name in ("AZURE_FEDERATED_TOKEN_FILE", "ACTIONS_ID_TOKEN_REQUEST_URL", "SYSTEM_OIDCREQUESTURI")
            if env.get(name)
        ),
        "",
    )

    def missing() -> str:
        if not source:
            return "this is neither a workload identity nor a GitHub or Azure DevOps job that may ask for a token"
        absent = "AZURE_TENANT_ID" if not tenant else "AZURE_CLIENT_ID" if not client else ""
        if absent:
            return f"{absent} is not set"
        if source == "ACTIONS_ID_TOKEN_REQUEST_URL" and not env.get("ACTIONS_ID_TOKEN_REQUEST_TOKEN"):
            return "ACTIONS_ID_TOKEN_REQUEST_TOKEN is not set"
        if source == "SYSTEM_OIDCREQUESTURI" and not env.get("SYSTEM_ACCESSTOKEN"):
            return "SYSTEM_ACCESSTOKEN is not set"
        return ""

    def make(cloud: Cloud) -> Any:
        from azure import identity

        # The assertion of a CI job dies after minutes: it is asked for anew with every token.
        return identity.ClientAssertionCredential(tenant, client, lambda: _assertion(env, source), **_options(cloud))

    mends = {
        "ACTIONS_ID_TOKEN_REQUEST_URL": "Give the job `permissions: id-token: write`, set AZURE_TENANT_ID and "
        "AZURE_CLIENT_ID, and add a federated credential for this repository to that application.",
        "SYSTEM_OIDCREQUESTURI": "Map SYSTEM_ACCESSTOKEN into the step and run it in a task of the service connection.",
    }
    where = {"ACTIONS_ID_TOKEN_REQUEST_URL": "GitHub OIDC", "SYSTEM_OIDCREQUESTURI": "Azure DevOps OIDC"}
    return Way(
        "oidc",
        f"{where.get(source, 'workload identity')} as {client or '(AZURE_CLIENT_ID)'}",
        (tenant, client, source, env.get(source, "")),
        missing,
        bool(source and client and tenant),
        mends.get(source, "Set AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_FEDERATED_TOKEN_FILE."),
        make,
    )


def _managed_identity(env: Mapping[str, str]) -> Way:
    client = env.get("AZURE_CLIENT_ID", "")
    endpoint = env.get("IDENTITY_ENDPOINT") or env.get("MSI_ENDPOINT", "")

    def missing() -> str:
        return "" if endpoint or _imds_answers() else "this machine has none"

    def make(_cloud: Cloud) -> Any:
        from azure import identity

        return identity.ManagedIdentityCredential(
            client_id=client or None, retry_total=3, _exclude_workload_identity_credential=True
        )

    return Way(
        "mi",
        f"managed identity {client}".rstrip(),
        (client, endpoint),
        missing,
        bool(endpoint),
        "Assign an identity to the machine; AZURE_CLIENT_ID names a user-assigned one.",
        make,
    )


def _cli(env: Mapping[str, str]) -> Way:
    folder = Path(env.get("AZURE_CONFIG_DIR") or Path("~/.azure").expanduser())
    tenant = env.get("AZURE_TENANT_ID", "")

    def missing() -> str:
        if shutil.which("az", path=env.get("PATH")) is None:
            return "there is no `az` on this machine"
        return "" if (folder / "azureProfile.json").is_file() else "`az` is not signed in"

    def make(_cloud: Cloud) -> Any:
        from azure import identity

        return identity.AzureCliCredential(tenant_id=tenant, process_timeout=30)

    account = _az_account(folder)
    title = f"`az` as {account[0]}" if account and account[0] else "`az`"
    return Way("cli", title, (str(folder), tenant, *account), missing, False, "Run `az login`.", make)


def _browser(env: Mapping[str, str]) -> Way:
    tenant = env.get("AZURE_TENANT_ID", "")

    def missing() -> str:
        if not _terminal(env):
            return "this is not a terminal"
        if sys.platform == "linux" and not (env.get("DISPLAY") or env.get("WAYLAND_DISPLAY")):
            return "this machine has no display"
        return ""

    def make(cloud: Cloud) -> Any:
        from azure import identity

        return identity.InteractiveBrowserCredential(
            **({"tenant_id": tenant} if tenant else {}), timeout=300, **_options(cloud)
        )

    return Way("browser", "browser", (tenant,), missing, False, "Use `--auth device` where no browser opens.", make)


def _device(env: Mapping[str, str], say: Callable[[str], None]) -> Way:
    tenant = env.get("AZURE_TENANT_ID", "")

    def missing() -> str:
        return "" if sys.stderr.isatty() else "this is not a terminal"

    def make(cloud: Cloud) -> Any:
        from azure import identity

        return identity.DeviceCodeCredential(
            **({"tenant_id": tenant} if tenant else {}),
            prompt_callback=lambda address, code, _expires: say(f"Open {address} and enter the code {code}."),
            timeout=600,
            **_options(cloud),
        )

    return Way(
        "device", "device code", (tenant,), missing, False, "Open the page that is named and enter the code.", make
    )


def _options(cloud: Cloud) -> dict[str, Any]:
    # Instance discovery asks the public cloud whether it knows the authority, which no other cloud's passes.
    return {"authority": cloud.authority, "disable_instance_discovery": not cloud.well_known, "retry_total": 3}


def _assertion(env: Mapping[str, str], source: str) -> str:
    """What proves to Azure who this job is, from where the job's service hands it out."""
    if source == "AZURE_FEDERATED_TOKEN_FILE":
        return Path(env[source]).read_text(encoding="utf-8").strip()
    import requests

    try:
        if source == "ACTIONS_ID_TOKEN_REQUEST_URL":
            answer = requests.get(
                env[source],
                params={"audience": _AUDIENCE},
                headers={"Authorization": f"Bearer {env['ACTIONS_ID_TOKEN_REQUEST_TOKEN']}"},
                timeout=_TIMEOUT_S,
            )
        else:
            connection = env.get("AZURESUBSCRIPTION_SERVICE_CONNECTION_ID", "")
            answer = requests.post(
                env[source],
                params={"api-version": "7.1", **({"serviceConnectionId": connection} if connection else {})},
                headers={"Authorization": f"Bearer {env['SYSTEM_ACCESSTOKEN']}", "Content-Type": "application/json"},
                timeout=_TIMEOUT_S,
            )
        content = answer.json() if answer.ok else {}
    except (requests.RequestException, ValueError) as error:
        raise Unavailable(
            f"The address in {source} gave no identity token: {type(error).__name__}.", "Run the job again."
        ) from error
    token = content.get("value") or content.get("oidcToken")
    if not isinstance(token, str):
        raise UsageError(f"The address in {source} answered {answer.status_code} and no identity token.")
    return token


def _imds_answers() -> bool:
    try:
        with socket.create_connection(_IMDS, timeout=_PROBE_S):
            return True
    except OSError:
        return False


def _az_account(folder: Path) -> tuple[str, ...]:
    """Whom `az` is signed in as: another account, another cached token."""
    try:
        profile = json.loads((folder / "azureProfile.json").read_text(encoding="utf-8-sig"))
        default = next(item for item in profile["subscriptions"] if item.get("isDefault"))
        return str(default["user"]["name"]), str(default["tenantId"])
    except (OSError, ValueError, KeyError, TypeError, StopIteration):
        return ()


def _terminal(env: Mapping[str, str]) -> bool:
    return sys.stdin.isatty() and sys.stderr.isatty() and not env.get("CI")
