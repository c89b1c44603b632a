"""Who asks, and whom to trust: MLflow's own variables and its credentials file."""

from __future__ import annotations

import configparser
import os
from base64 import b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .errors import Refused


@dataclass(frozen=True)
class Credentials:
    """What `Authorization` says (empty for nothing), the client's certificate, and how to verify the server's: True,
    False or the file of its authority."""

    header: str = field(default="", repr=False)
    client_cert: str | None = None
    verify: bool | str = True

    @staticmethod
    def found(user: str = "", password: str = "", environment: Mapping[str, str] | None = None) -> Credentials:
        """From a login in an address, else `MLFLOW_TRACKING_*`, else `~/.mlflow/credentials`. Raises `Refused` for
        credentials that no header can hold."""
        env = os.environ if environment is None else environment
        if not (user or password):
            kept = _from_file()
            user = env.get("MLFLOW_TRACKING_USERNAME") or kept.get("mlflow_tracking_username", "")
            password = env.get("MLFLOW_TRACKING_PASSWORD") or kept.get("mlflow_tracking_password", "")
            if not (user and password):
                user = password = ""
        token = env.get("MLFLOW_TRACKING_TOKEN", "").strip()
        header = ""
        if user or password:
            header = "Basic " + b64encode(f"{user}:{password}".encode()).decode()
        elif token:
            header = f"Bearer {token}"
        if not header.isascii() or not header.isprintable():
            raise Refused(0, "INVALID_CREDENTIALS", "MLFLOW_TRACKING_TOKEN holds characters that no token has.")
        insecure = env.get("MLFLOW_TRACKING_INSECURE_TLS", "").lower() in ("true", "1")
        authority = env.get("MLFLOW_TRACKING_SERVER_CERT_PATH")
        return Credentials(
            header, env.get("MLFLOW_TRACKING_CLIENT_CERT_PATH") or None, not insecure and (authority or True)
        )


def authorization(login: Credentials, given: Mapping[str, str]) -> Callable[[Any], Any] | None:
    """What requests calls to sign a request, or None to leave it to ~/.netrc. Given headers win."""
    own = next((value for name, value in given.items() if name.lower() == "authorization"), login.header)
    if not own:
        return None

    def sign(request: Any) -> Any:
        # A header alone would be overwritten by an entry of ~/.netrc for this host.
        request.headers["Authorization"] = own
        return request

    return sign


def _from_file() -> Mapping[str, str]:
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read(Path("~/.mlflow/credentials").expanduser())
    except (configparser.Error, OSError, RuntimeError, UnicodeError):
        return {}
    return dict(parser["mlflow"]) if "mlflow" in parser else {}
