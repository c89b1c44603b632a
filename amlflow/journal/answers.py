"""What a service that speaks MLflow's REST API has answered, or has not: JSON, or the failure that it means."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from .errors import Refused
from .retry import RETRYABLE_STATUS, Transient, parsed_retry_after

_REQUEST_IDS = ("x-ms-request-id", "x-request-id", "x-databricks-request-id")


def transient(error: Exception) -> Transient:
    """What requests raised, in one clause that follows the server's address."""
    import requests
    from urllib3.exceptions import ConnectTimeoutError, NewConnectionError

    within = error.args[0] if error.args else None
    cause = getattr(within, "reason", within)
    if isinstance(error, requests.exceptions.SSLError) and "certificate" in str(error).lower():
        return Transient(f"has a certificate that is not trusted here ({_short(cause)})", final=True)
    # In urllib3 a refused connection is a kind of connection that took too long.
    if isinstance(cause, NewConnectionError):
        return Transient(f"accepts no connection ({_short(cause)})")
    if isinstance(error, requests.exceptions.ConnectTimeout) or isinstance(cause, ConnectTimeoutError):
        return Transient("did not accept a connection in time")
    if isinstance(error, requests.exceptions.Timeout):
        return Transient("did not answer in time", maybe_applied=True)
    return Transient(f"broke the connection ({_short(cause)})", maybe_applied=True)


def parsed(answer: Any, url: str) -> dict[str, Any]:
    """The JSON of an answer; raises as `checked` does, and for what is none."""
    checked(answer, url)
    text = answer.content.strip()
    if not text:
        return {}
    try:
        content = json.loads(text)
    except ValueError:
        if _is_page(answer):
            raise Refused(answer.status_code, "NOT_MLFLOW", _page_sentence(url)) from None
        raise Transient("sent an answer that breaks off", maybe_applied=True) from None
    if not isinstance(content, dict):
        raise Refused(answer.status_code, "NOT_MLFLOW", f"{url} gave an answer that MLflow does not give.")
    return content


def checked(answer: Any, url: str) -> None:
    """Raise `Refused` or `Transient` for anything but success."""
    status = int(answer.status_code)
    if 200 <= status < 300:
        return
    if 300 <= status < 400:
        target = str(answer.headers.get("Location", ""))
        bare = urlsplit(target)
        where = urlunsplit((bare.scheme, bare.netloc.rpartition("@")[2], bare.path, "", ""))
        raise Refused(
            status,
            "NOT_MLFLOW",
            f"{url} redirects to {where or 'another place'}: to a sign-in page, or the server has another address.",
        )
    code, message = _fault(answer)
    if status in RETRYABLE_STATUS:
        raise Transient(
            f"answered {status}{f' ({message})' if message else ''}",
            # Too many requests, and a request that did not arrive in time, were not carried out.
            maybe_applied=status not in (408, 429),
            retry_after_s=parsed_retry_after(answer.headers.get("Retry-After")),
            status=status,
        )
    if not code and status in (404, 405):
        code = "ENDPOINT_NOT_FOUND"
    request_id = next((answer.headers[name] for name in _REQUEST_IDS if answer.headers.get(name)), "")
    raise Refused(status, code, message or f"{url} answered {status} {answer.reason or ''}".strip() + ".", request_id)


def _short(cause: object) -> str:
    """The last clause of a chain of urllib3's messages: what the system said."""
    if isinstance(cause, Exception) and cause.args and isinstance(cause.args[-1], Exception):
        return _short(cause.args[-1])
    text = str(cause).replace("')", "").replace("))", ")")
    return text.rsplit(": ", 1)[-1].strip("'\" ")[:200] or type(cause).__name__


def _fault(answer: Any) -> tuple[str, str]:
    """The code and the message of an error, of MLflow's shape or Azure's; a line of plain text is a message too."""
    import requests

    try:
        text = answer.text.strip()
    except requests.exceptions.RequestException:
        return "", ""
    try:
        content = json.loads(text)
    except ValueError:
        plain = "" if _is_page(answer) or text.startswith("<") else " ".join(text.split())
        return "", plain[:300]
    if not isinstance(content, dict):
        return "", ""
    inner = content.get("error")
    if isinstance(inner, dict):
        return str(inner.get("code") or content.get("error_code") or ""), str(inner.get("message") or "")
    # Azure ML's MLflow server says it in a part of its own.
    outer = content.get("Error")
    said = outer.get("Message") if isinstance(outer, dict) else ""
    return str(content.get("error_code") or ""), str(content.get("message") or inner or said or "")


def _is_page(answer: Any) -> bool:
    return "html" in str(answer.headers.get("Content-Type", "")).lower()


def _page_sentence(url: str) -> str:
    return f"{url} answered with a web page: it is a sign-in page, or not the address of an MLflow tracking server."
