"""What a monitor tells a webhook. Its address may be a secret: whoever knows it can write there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from amlflow.errors import AmlflowError, UsageError

_TIMEOUT_S = 10.0
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class Crossed:
    """What a monitor found too much: `columns` (or metrics) beyond their thresholds, and the sentence of a gate that did not
    hold, empty where all did."""

    name: str
    kind: str
    columns: Sequence[str]
    gate: str
    run_id: str


def check(url: str) -> None:
    """Raises `UsageError` for an address that is not https, unless it is this machine's own."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        parts, host = urlsplit(""), ""
    if not host or not (parts.scheme == "https" or (parts.scheme == "http" and host in _LOOPBACK)):
        raise UsageError(
            f"The webhook {shown(url)} is no https address.",
            "Write https://HOST/PATH; http:// is for this machine (127.0.0.1) alone.",
        )


def shown(url: str) -> str:
    """The address without what may be secret in it: the service's host."""
    try:
        parts = urlsplit(url)
        return f"{parts.scheme}://{parts.hostname}/…" if parts.scheme and parts.hostname else "…"
    except ValueError:
        return "…"


def post(url: str, crossed: Crossed) -> None:
    """Raises `AmlflowError`, which names the host alone."""
    import requests

    body = {
        "name": crossed.name,
        "monitor": crossed.kind,
        "state": "crossed",
        "columns": list(crossed.columns),
        "gate": crossed.gate or None,
        "run_id": crossed.run_id or None,
        "link": None,
    }
    try:
        # The body of the answer is not read: it may never end. A redirect would tell another host.
        with requests.post(url, json=body, timeout=_TIMEOUT_S, allow_redirects=False, stream=True) as answer:
            status = answer.status_code
    except (requests.RequestException, ValueError) as error:
        raise AmlflowError(f"The webhook {shown(url)} did not answer ({type(error).__name__}).") from None
    if not 200 <= status < 300:
        raise AmlflowError(f"The webhook {shown(url)} answered {status}.")
