"""Each exchange as a line of JSON, with the secrets replaced."""

from __future__ import annotations

import json
import os
import re
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from amlflow.emulator.web import iso_now

_SECRET_KEYS = re.compile(
    r"(?:.*(?:secret|password|access_token|refresh_token|id_token|sastoken|accesstoken|accountkey|primarykey|secondarykey|keyvalue|securevalue)"
    r"|token|client_assertion|userstoragekey|appinsightsinstrumentationkey|authorization|x-identity-header|x-amlflow-control)",
    re.IGNORECASE,
)
_SIGNATURE = re.compile(r"(?<=[?&])sig=[^&\"\s]+")
_TOKEN = re.compile(r"eyJ[\w-]+\.[\w-]+\.[\w-]+")
_SHOWN_HEADERS = (
    "content-type",
    "location",
    "azure-asyncoperation",
    "retry-after",
    "etag",
    "www-authenticate",
    "x-ms-request-id",
)
REPLACED = "***"


class Recorder:
    """Appends to a file that only its owner may read."""

    def __init__(self, file: Path) -> None:
        self._lock = threading.Lock()
        self._sink = os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "a", encoding="utf-8")

    def write(
        self,
        method: str,
        target: str,
        request_headers: Mapping[str, str],
        request_body: bytes,
        status: int,
        headers: Mapping[str, str],
        body: bytes,
    ) -> None:
        line = {
            "time": iso_now(),
            "method": method,
            "target": without_secrets(target),
            "request_headers": {
                name: request_headers[name] for name in ("content-type", "user-agent") if name in request_headers
            },
            "authorized": "authorization" in request_headers,
            "request": _body(request_body, request_headers.get("content-type", "")),
            "status": status,
            "headers": {name: without_secrets(headers[name]) for name in _SHOWN_HEADERS if name in headers},
            "response": _body(body, headers.get("content-type", "")),
        }
        text = json.dumps(line, ensure_ascii=False)
        with self._lock:
            self._sink.write(text + "\n")
            self._sink.flush()

    def close(self) -> None:
        self._sink.close()


def without_secrets(value: Any, key: str = "") -> Any:
    """The same value, every secret text in it replaced."""
    if isinstance(value, Mapping):
        # A plain «key» is a metric's name to MLflow, and a secret only where a datastore's secrets are listed. A registry lists
        # passwords as objects with a «value».
        hidden = "key" if "secretsType" in value else "value" if key == "passwords" else ""
        return {name: without_secrets(item, "secret" if hidden == name else str(name)) for name, item in value.items()}
    if isinstance(value, list):
        return [without_secrets(item, key) for item in value]
    if isinstance(value, str):
        if value and _SECRET_KEYS.fullmatch(key):
            return REPLACED
        return _TOKEN.sub(REPLACED, _SIGNATURE.sub(f"sig={REPLACED}", value))
    return value


def _body(raw: bytes, media_type: str) -> Any:
    if not raw:
        return None
    if "form-urlencoded" in media_type:
        return without_secrets(dict(parse_qsl(raw.decode("utf-8", "replace"))))
    try:
        return without_secrets(json.loads(raw))
    except ValueError:
        return {"bytes": len(raw)}
