"""What an emulator is: its ports, its principals and its workspace, kept in `settings.json` of its folder."""

from __future__ import annotations

import base64
import json
import os
import secrets
import uuid
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from amlflow import paths
from amlflow.errors import AmlflowError

HOST = "127.0.0.1"
CLOUD_NAME = "AmlflowEmulator"
STORAGE_ACCOUNT = "emulatorstorage"
LOCATION = "local"
_FILE = "settings.json"
# The first is the one that `amlflow emulator env` gives.
_ROLES = ("contributor", "reader", "owner")


@dataclass(frozen=True, slots=True)
class Principal:
    """An application that may sign in. `role` is «contributor», «reader» or «owner»: who alone may assign roles."""

    client_id: str
    object_id: str
    secret: str
    role: str


@dataclass(frozen=True, slots=True)
class Settings:
    """`port` and `storage_port` are 0 until the first start has found free ones. `control_key` lets `amlflow emulator fault` in;
    `storage_key` is the storage account's (base64)."""

    port: int
    storage_port: int
    tenant: str
    subscription: str
    group: str
    workspace: str
    principals: tuple[Principal, ...]
    identity_header: str
    control_key: str
    storage_key: str

    @property
    def base_url(self) -> str:
        return f"https://{HOST}:{self.port}"

    @property
    def storage_url(self) -> str:
        """The blob service, in path style."""
        return f"https://{HOST}:{self.storage_port}/{STORAGE_ACCOUNT}"

    @property
    def storage_suffix(self) -> str:
        """What clients put after `ACCOUNT.blob.`: a name that no resolver knows, as the user part of an address that is one.
        So `https://ACCOUNT.blob.SUFFIX` leads to the path-style service without any name to resolve."""
        return f"core.emulator@{HOST}:{self.storage_port}/{STORAGE_ACCOUNT}"

    @property
    def container_suffix(self) -> str:
        """What follows `LABEL.REGION.` in the names of container groups. By RFC 6761 such names are this machine's own."""
        return f"localhost:{self.port}"

    def principal(self, client_id: str) -> Principal | None:
        return next((item for item in self.principals if item.client_id == client_id), None)


def folder() -> Path:
    """The emulator's state folder."""
    return paths.home() / "emulator"


def read(place: Path) -> Settings | None:
    """The settings in the folder, None where there are none. Raises `AmlflowError` for a file that is not readable."""
    try:
        content: dict[str, Any] = json.loads((place / _FILE).read_text(encoding="utf-8"))
        principals = tuple(Principal(**item) for item in content.pop("principals"))
        return Settings(principals=principals, **content)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise AmlflowError(
            f"The emulator's settings {place / _FILE} cannot be read: {error}.",
            "Start afresh with `amlflow emulator start --reset`.",
        ) from error


def write(place: Path, settings: Settings) -> None:
    """Keep the settings, for the owner's eyes alone."""
    place.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_private(place / _FILE, json.dumps(asdict(settings), indent=1).encode())


def write_private(file: Path, content: bytes) -> None:
    """Write a file that only its owner may read; whole or not at all."""
    part = file.with_name(f".{file.name}.{os.getpid()}")
    part.unlink(missing_ok=True)
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as sink:
        sink.write(content)
    part.replace(file)


def fresh(group: str = "emulator", workspace: str = "dev") -> Settings:
    """Settings of a new emulator, with new secrets."""
    return Settings(
        0,
        0,
        str(uuid.uuid4()),
        str(uuid.uuid4()),
        group,
        workspace,
        tuple(_principal(role) for role in _ROLES),
        secrets.token_hex(16),
        secrets.token_urlsafe(24),
        base64.b64encode(secrets.token_bytes(64)).decode(),
    )


def complete(settings: Settings, port: int, storage_port: int) -> Settings:
    """With these ports, and with the principals that settings of an earlier emulator lack."""
    there = {item.role for item in settings.principals}
    missing = tuple(_principal(role) for role in _ROLES if role not in there)
    return replace(settings, port=port, storage_port=storage_port, principals=settings.principals + missing)


def _principal(role: str) -> Principal:
    return Principal(str(uuid.uuid4()), str(uuid.uuid4()), secrets.token_urlsafe(30), role)
