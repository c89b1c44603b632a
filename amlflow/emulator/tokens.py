"""Access tokens: JSON Web Tokens signed with the emulator's own key, and their verification."""

from __future__ import annotations

import base64
import json
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from amlflow.emulator.settings import Principal, Settings, write_private

KEY_FILE = "token-key.pem"
ARM_AUDIENCES = ("https://management.azure.com", "https://management.core.windows.net")
ML_AUDIENCES = ("https://ml.azure.com",)
STORAGE_AUDIENCES = ("https://storage.azure.com",)
_KEY_BITS = 2048


class BadToken(Exception):
    """The token is not one that this emulator has made, or not whole."""


class Tokens:
    """Signs and verifies. The key is made at the first start and kept, so tokens outlive a restart."""

    def __init__(self, place: Path, settings: Settings) -> None:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import rsa

        self._settings = settings
        file = place / KEY_FILE
        if not file.exists():
            made = rsa.generate_private_key(65537, _KEY_BITS)
            form = serialization.PrivateFormat.PKCS8
            write_private(file, made.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()))
        self._key: Any = serialization.load_pem_private_key(file.read_bytes(), None)

    def audiences(self, kind: str) -> tuple[str, ...]:
        """The resources that a token may be made for, without a closing slash: of «arm», «data», «ml» (the doors
        of batch endpoints) or «storage»."""
        own = (self._settings.base_url,)
        if kind == "arm":
            return own + ARM_AUDIENCES
        if kind == "storage":
            return STORAGE_AUDIENCES
        if kind == "ml":
            return own + ML_AUDIENCES
        # The data plane takes tokens of both, as the service does.
        return own + ARM_AUDIENCES + ML_AUDIENCES

    def issue(self, principal: Principal, audience: str, lifetime_s: int) -> str:
        now = int(time.time())
        return self.sign(
            {
                "aud": audience,
                "iss": f"https://sts.windows.net/{self._settings.tenant}/",
                "iat": now,
                "nbf": now,
                "exp": now + lifetime_s,
                "appid": principal.client_id,
                "idtyp": "app",
                "oid": principal.object_id,
                "sub": principal.object_id,
                "tid": self._settings.tenant,
                "uti": uuid.uuid4().hex[:22],
                "ver": "1.0",
            }
        )

    def sign(self, claims: Mapping[str, Any]) -> str:
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import padding

        head = _encode(json.dumps({"typ": "JWT", "alg": "RS256", "kid": "emulator"}).encode())
        body = f"{head}.{_encode(json.dumps(dict(claims)).encode())}"
        return f"{body}.{_encode(self._key.sign(body.encode(), padding.PKCS1v15(), hashes.SHA256()))}"

    def claims(self, token: str) -> dict[str, Any]:
        """The claims of a token that this emulator signed, whatever its time and audience. Raises `BadToken`."""
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import padding

        claims = unverified_claims(token)
        body, _, signature = token.rpartition(".")
        try:
            self._key.public_key().verify(_decode(signature), body.encode(), padding.PKCS1v15(), hashes.SHA256())
        except (InvalidSignature, ValueError) as error:
            raise BadToken("the signature is not the emulator's") from error
        return claims

    def keys(self) -> dict[str, Any]:
        """The public key, as a JSON Web Key set."""
        numbers = self._key.public_key().public_numbers()
        return {
            "keys": [
                {
                    "kty": "RSA",
                    "use": "sig",
                    "alg": "RS256",
                    "kid": "emulator",
                    "n": _number(numbers.n),
                    "e": _number(numbers.e),
                }
            ]
        }


def unverified_claims(token: str) -> dict[str, Any]:
    """What a JSON Web Token says, its signature not looked at. Raises `BadToken` for what is none."""
    parts = token.split(".")
    if len(parts) != 3:
        raise BadToken("it has not three parts")
    try:
        found = json.loads(_decode(parts[1]))
    except ValueError as error:
        raise BadToken("its claims are not JSON") from error
    if not isinstance(found, dict):
        raise BadToken("its claims are not an object")
    return found


def _number(value: int) -> str:
    return _encode(value.to_bytes((value.bit_length() + 7) // 8, "big"))


def _encode(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
