"""What is collected goes to the storage that was named, and to nobody else; `tests/emulator` sends it to Azurite."""

from __future__ import annotations

import json
from http.server import BaseHTTPRequestHandler

import pytest
from servers import http_server, send

from amlflow.serving import shipping


def test_no_redirect_takes_the_token_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    def elsewhere(request: BaseHTTPRequestHandler) -> None:
        seen.append(request.headers.get("Authorization", ""))
        send(request, 200, b"", "text/plain")

    def answer(request: BaseHTTPRequestHandler) -> None:
        if "/metadata/" in request.path:
            send(request, 200, json.dumps({"access_token": "t0ken", "expires_in": "600"}).encode(), "application/json")
        else:
            send(request, 302, b"", "text/plain", Location=f"{other}/blob")

    with http_server(elsewhere) as other, http_server(answer) as storage:
        monkeypatch.setenv(shipping.METADATA_VARIABLE, storage)
        blobs = shipping.Blobs(shipping.Destination(f"{storage}/container", "prefix", "client"))
        with pytest.raises(shipping.Refused, match="302"):
            blobs.size("a.jsonl")
    assert seen == []
