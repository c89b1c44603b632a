"""Access tokens kept between commands, so that a second one neither signs in again nor imports what signs in."""

from __future__ import annotations

import base64
import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from amlflow import paths
from amlflow.workspaces.azure import private

# A token that ends sooner could end within the command that uses it.
_MARGIN_S = 120.0


@dataclass(frozen=True, slots=True)
class Token:
    """`expires_s` is in epoch seconds."""

    value: str
    expires_s: float

    def claims(self) -> dict[str, Any]:
        """What the token says of itself, unverified: for messages, never for decisions. Empty where it cannot be read."""
        try:
            body = self.value.split(".")[1]
            content = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
        except (IndexError, ValueError):
            return {}
        return content if isinstance(content, dict) else {}


class TokenCache:
    """Tokens in one 0600 file, each under a hash of the cloud, tenant, identity and scope that it is for."""

    def __init__(self, file: Path | None = None) -> None:
        self._file = file or paths.azure() / "tokens.json"
        self._content: dict[str, Any] | None = None

    def get(self, key: Sequence[str]) -> Token | None:
        if self._content is None:
            self._content = private.read(self._file)
        entry = self._content.get(_hashed(key))
        if not isinstance(entry, dict) or not isinstance(entry.get("token"), str):
            return None
        expires = entry.get("expires_s")
        if not isinstance(expires, (int, float)) or expires < time.time() + _MARGIN_S:
            return None
        return Token(entry["token"], float(expires))

    def put(self, key: Sequence[str], token: Token) -> None:
        self._change(_hashed(key), {"token": token.value, "expires_s": token.expires_s})

    def drop(self, key: Sequence[str]) -> None:
        self._change(_hashed(key), None)

    def _change(self, name: str, entry: dict[str, Any] | None) -> None:
        def edit(content: dict[str, Any]) -> None:
            now = time.time()
            for old in [key for key, value in content.items() if not _valid(value, now)]:
                del content[old]
            content.pop(name, None)
            if entry is not None:
                content[name] = entry

        private.change(self._file, edit)
        self._content = None


def _valid(entry: Any, now: float) -> bool:
    return isinstance(entry, dict) and isinstance(entry.get("expires_s"), (int, float)) and entry["expires_s"] > now


def _hashed(key: Sequence[str]) -> str:
    return hashlib.sha256("\0".join(key).encode()).hexdigest()
