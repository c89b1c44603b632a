"""What a monitor tells a webhook. Its address may be a secret: whoever knows it can write there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from amlflow.errors import AmlflowError, UsageError

_TIMEOUT_S = 10.0
_SHOWN = 20
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class Alert:
    """What a monitor found too much: `columns` (or metrics) beyond their thresholds, and the sentence of a gate that did not
    hold, empty where all did; and, in `error`, why it could not look, such as at a window without data."""

    name: str
    kind: str
    columns: Sequence[str] = ()
    gate: str = ""
    run_id: str = ""
    error: str = ""

    @property
    def crossed(self) -> bool:
        return bool(self.columns or self.gate)

    @property
    def text(self) -> str:
        """One sentence or two, for people."""
        begin = f"Monitor {self.name!r} ({self.kind})"
        run = f" Run {self.run_id}." if self.run_id else ""
        if not self.crossed:
            return f"{begin} could not look: {self.error}{run}"
        shown = ", ".join(self.columns[:_SHOWN]) + (", …" if len(self.columns) > _SHOWN else "")
        what = f"a threshold was crossed by {shown}." if self.columns else self.gate
        return f"{begin}: {what}{f' Besides: {self.error}' if self.error else ''}{run}"


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


def post(url: str, alert: Alert) -> None:
    """JSON whose `text` is what the incoming webhooks of Slack and Mattermost show. Raises `AmlflowError`, which names the host
    alone."""
    import requests

    body = {
        "text": alert.text,
        "name": alert.name,
        "monitor": alert.kind,
        "state": "crossed" if alert.crossed else "failed",
        "columns": list(alert.columns),
        "gate": alert.gate or None,
        "error": alert.error or None,
        "run_id": alert.run_id or None,
    }
    try:
        # The body of the answer is not read: it may never end. A redirect would tell another host.
        with requests.post(url, json=body, timeout=_TIMEOUT_S, allow_redirects=False, stream=True) as answer:
            status = answer.status_code
    except (requests.RequestException, ValueError) as error:
        raise AmlflowError(f"The webhook {shown(url)} did not answer ({type(error).__name__}).") from None
    if not 200 <= status < 300:
        raise AmlflowError(f"The webhook {shown(url)} answered {status}.")
