"""A request as it comes over HTTP, passed on to what answers MLflow's REST API."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from amlflow.journal.errors import Refused, Unreachable
from amlflow.journal.rest import Behind


def passed_on(behind: Behind, method: str, target: str, body: bytes) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of the answer; `target` is path and query. Refusals are answers. Nothing is sent twice here:
    whoever asks looks first whether it was carried out."""
    parts = urlsplit(target)
    try:
        content = dict(parse_qsl(parts.query)) if method == "GET" else json.loads(body or b"{}")
        return _as_http(200, behind.request(method, parts.path, content, retry=False))
    except ValueError:
        return _as_http(400, {"error_code": "INVALID_PARAMETER_VALUE", "message": "The body is not JSON."})
    except Refused as error:
        return _as_http(error.status or 400, {"error_code": error.code, "message": error.message})
    except Unreachable as error:
        return _as_http(503, {"error_code": "TEMPORARILY_UNAVAILABLE", "message": error.reason})


def _as_http(status: int, content: Mapping[str, Any]) -> tuple[int, dict[str, str], bytes]:
    return status, {"Content-Type": "application/json"}, json.dumps(content).encode()
