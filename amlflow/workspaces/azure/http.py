"""Requests to Azure's services: tokens, retries, the clock; every failure to answer as `Unavailable`."""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Mapping
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

from amlflow.errors import Unavailable
from amlflow.journal.answers import transient as as_transient
from amlflow.journal.connections import new_session
from amlflow.journal.retry import RETRYABLE_STATUS, RetryPolicy, Transient, parsed_retry_after, persist
from amlflow.workspaces.azure.auth import Credential

_CONNECT_S = 10.0
_TIMEOUT_S = 60.0
# More retries than the journal's drainer, which can wait for another day, makes at once.
POLICY = RetryPolicy(most=8, most_busy=14, base_s=0.3, cap_s=10.0, deadline_s=120.0)


class Http:
    """One pool of connections and one credential. Safe for many threads. `requests_sent` counts every attempt."""

    def __init__(self, credential: Credential, policy: RetryPolicy = POLICY) -> None:
        self.credential = credential
        self.policy = policy
        self.requests_sent = 0
        self._session: Any = None

    def send(
        self,
        method: str,
        url: str,
        *,
        scope: str | None = "",
        params: Mapping[str, Any] | None = None,
        body: Any = None,
        data: Any = None,
        headers: Mapping[str, str] | None = None,
        stream: bool = False,
        repeatable: bool = True,
        timeout_s: float = _TIMEOUT_S,
        retried: Collection[int] = RETRYABLE_STATUS,
    ) -> Any:
        """The service's answer, whatever its status is, but one that says to try later. `scope` is what the token is for: ARM's
        where empty, none at all for None (a URL that carries its own right). `body` is sent as JSON, `data` as it is; a callable
        gives it anew for each attempt. Not `repeatable`: what may have been carried out is not sent again, and
        `Unavailable` with `maybe_applied` is raised."""
        named = dict(headers or {})
        if body is not None:
            named["Content-Type"] = "application/json"
            data = json.dumps(body, separators=(",", ":")).encode()

        def attempt(remaining_s: float) -> Any:
            content = data() if callable(data) else data
            answer = self._once(method, url, scope, params, content, named, stream, remaining_s, timeout_s)
            if answer.status_code == 401 and scope is not None:
                # Revoked, or the clock made it look valid: a new one, once.
                answer.close()
                self.credential.token(scope, fresh=True)
                content = data() if callable(data) else data
                answer = self._once(method, url, scope, params, content, named, stream, remaining_s, timeout_s)
            if answer.status_code in retried:
                code, message = fault(answer)
                answer.close()
                detail = ": ".join(part for part in (code, message) if part)
                raise Transient(
                    f"answered {answer.status_code}{f' ({detail})' if detail else ''}",
                    maybe_applied=answer.status_code not in (408, 429),
                    retry_after_s=parsed_retry_after(answer.headers.get("Retry-After")),
                    status=answer.status_code,
                )
            return answer

        try:
            return persist(self.policy, attempt, repeatable or method in ("GET", "HEAD"))
        except Transient as failure:
            raise Unanswered(urlsplit(url).netloc, failure) from failure.__cause__

    def _once(
        self,
        method: str,
        url: str,
        scope: str | None,
        params: Mapping[str, Any] | None,
        data: Any,
        named: Mapping[str, str],
        stream: bool,
        remaining_s: float,
        timeout_s: float,
    ) -> Any:
        import requests

        if self._session is None:
            self._session = new_session()
            # ~/.netrc would replace the token by a password.
            self._session.auth = _no_auth
        own = self.credential.header(scope) if scope is not None else {}
        self.requests_sent += 1
        started = time.time()
        try:
            answer = self._session.request(
                method,
                url,
                params=params,
                data=data,
                headers={**named, **own},
                stream=stream,
                timeout=(min(_CONNECT_S, max(1.0, remaining_s)), timeout_s),
                allow_redirects=False,
            )
        except requests.exceptions.RequestException as error:
            raise as_transient(error) from error
        if scope is not None:
            self._note_clock(answer.headers.get("Date", ""), started)
        return answer

    def _note_clock(self, date: str, sent_s: float) -> None:
        try:
            self.credential.clock_ahead_s = sent_s - parsedate_to_datetime(date).timestamp()
        except (TypeError, ValueError, IndexError):
            return


class Unanswered(Unavailable):
    """No answer after retries. `maybe_applied`: the request may have been carried out all the same."""

    def __init__(self, host: str, failure: Transient) -> None:
        super().__init__(
            f"{host} {failure.reason}.",
            "Name the file with its authority's certificate in REQUESTS_CA_BUNDLE."
            if failure.final
            else "Try again later; `amlflow doctor` says what of the way there works.",
        )
        self.failure = failure
        self.maybe_applied = failure.maybe_applied
        self.status = failure.status


def fault(answer: Any) -> tuple[str, str]:
    """The code and message of an error, in ARM's, MLflow's or the storage service's form; empty where there are none."""
    text = answer.text.strip()
    if text.startswith("<"):
        import re

        code = re.search(r"<Code>([^<]*)</Code>", text)
        message = re.search(r"<Message>([^<]*)", text)
        return (code[1] if code else "", message[1].splitlines()[0] if message else "")
    try:
        content = json.loads(text)
    except ValueError:
        return "", " ".join(text.split())[:300]
    if not isinstance(content, dict):
        return "", ""
    inner = content.get("error")
    if not isinstance(inner, dict):
        return str(content.get("error_code") or content.get("code") or ""), str(content.get("message") or inner or "")
    return _deepest(inner)


def _deepest(error: Mapping[str, Any]) -> tuple[str, str]:
    """Azure ML wraps what went wrong in an error that says only that something did."""
    code, message = str(error.get("code") or ""), str(error.get("message") or "")
    for detail in error.get("details") or []:
        if (
            isinstance(detail, dict)
            and detail.get("message")
            and code in ("UserError", "SystemError", "BadRequest", "")
        ):
            inner = str(detail["message"])
            message = inner if inner in message or not message else f"{message} {inner}"
    return code, " ".join(message.split())


def _no_auth(request: Any) -> Any:
    return request
