"""A thin client of Azure Resource Manager: pages, long-running operations, and refusals as amlflow's own errors."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import quote, urljoin, urlsplit

from amlflow.errors import AmlflowError, NotAllowed, NotFound
from amlflow.journal.retry import parsed_retry_after
from amlflow.workspaces.azure import auth
from amlflow.workspaces.azure.http import Http, fault

PROVIDER = "Microsoft.MachineLearningServices"
_FIRST_POLL_S = 0.5
_LONGEST_POLL_S = 15.0
_OPERATION_TIMEOUT_S = 3600.0
_ENDED = ("succeeded", "failed", "canceled", "cancelled")
_REQUEST_IDS = ("x-ms-request-id", "x-ms-correlation-request-id", "x-request-id")


class Arm:
    """Requests to the resource manager of one cloud. Paths begin with `/subscriptions`.

    Every method raises `NotFound`, `NotAllowed`, `Unavailable` or `AmlflowError`, each with the service's code and the id
    of the request; `what` names in them what was asked for, such as «compute 'cpu'»."""

    def __init__(self, http: Http) -> None:
        self.http = http
        self._root = http.credential.cloud.arm
        # Gives the names of the workspaces beside the one that is asked for, for when there is no such one.
        self.neighbours: Callable[[], list[str]] | None = None

    def get(self, path: str, api: str, what: str, **query: Any) -> dict[str, Any]:
        return self._content(self._send("GET", path, api, what, query=query))

    def pages(self, path: str, api: str, what: str, **query: Any) -> Iterator[dict[str, Any]]:
        """The items of a listing, page after page."""
        answer = self.get(path, api, what, **query)
        while True:
            yield from answer.get("value") or []
            following = answer.get("nextLink")
            if not following:
                return
            answer = self._content(self._checked(self.http.send("GET", self._own(following)), what))

    def put(self, path: str, api: str, what: str, body: Mapping[str, Any], repeatable: bool = True) -> Any:
        """The raw answer, because a long operation goes on after it: see `finished`."""
        return self._send("PUT", path, api, what, body=body, repeatable=repeatable)

    def post(
        self,
        path: str,
        api: str,
        what: str,
        body: Mapping[str, Any] | None = None,
        repeatable: bool = True,
        **query: Any,
    ) -> Any:
        content = body if body is not None else {}
        return self._send("POST", path, api, what, body=content, query=query, repeatable=repeatable)

    def patch(self, path: str, api: str, what: str, body: Mapping[str, Any]) -> Any:
        return self._send("PATCH", path, api, what, body=body)

    def delete(self, path: str, api: str, what: str, **query: Any) -> Any:
        return self._send("DELETE", path, api, what, query=query)

    def content(self, answer: Any) -> dict[str, Any]:
        return self._content(answer)

    def finished(self, answer: Any, what: str, report: Callable[[str], None] = lambda state: None) -> dict[str, Any]:
        """Wait for the operation that the answer began, by the address that it names; `report` is told of each new state.
        Returns the operation's last answer, empty where it had none. Raises `AmlflowError` when it fails."""
        address = answer.headers.get("Azure-AsyncOperation") or answer.headers.get("Location")
        if answer.status_code not in (201, 202) or not address:
            return self._content(answer)
        deadline, wait, last = time.monotonic() + _OPERATION_TIMEOUT_S, _FIRST_POLL_S, ""
        while time.monotonic() < deadline:
            asked = parsed_retry_after(answer.headers.get("Retry-After"))
            time.sleep(min(asked, 60.0) if asked is not None else wait)
            wait = min(wait * 1.5, _LONGEST_POLL_S)
            answer = self.http.send("GET", self._own(address))
            if answer.status_code == 404 and last:
                # The operation of something deleted may go with it.
                return {}
            content = self._content(self._checked(answer, what))
            state = str(content.get("status") or _provisioning(content) or "")
            if state and state != last:
                last = state
                report(state)
            if state.lower() in ("failed", "canceled", "cancelled"):
                code, message = fault(answer)
                raise AmlflowError(
                    f"{_capital(what)} {state.lower()}: {message or 'no reason was given'}{_code(code)}."
                )
            if answer.status_code != 202 and (not state or state.lower() in _ENDED):
                return content
        raise AmlflowError(f"{_capital(what)} has not ended after {_OPERATION_TIMEOUT_S / 60:.0f} minutes.")

    def _send(
        self,
        method: str,
        path: str,
        api: str,
        what: str,
        *,
        body: Mapping[str, Any] | None = None,
        query: Mapping[str, Any] | None = None,
        repeatable: bool = True,
    ) -> Any:
        params = {key: _text(value) for key, value in (query or {}).items() if value is not None}
        params["api-version"] = api
        url = self._root + path
        answer = self.http.send(method, url, params=params, body=body, repeatable=repeatable)
        return self._checked(answer, what)

    def _own(self, address: str) -> str:
        """A link that a service gave, if it leads where the token may go. Raises `AmlflowError`."""
        url = urljoin(self._root + "/", address)
        host = urlsplit(url).netloc
        own = urlsplit(self._root).netloc
        trusted = host == own or host.endswith("." + own) or host.endswith(_DATA_PLANES)
        if not url.startswith("https://") or not trusted:
            raise AmlflowError(f"{own} refers to {host}, which is no part of Azure: it is given no token.")
        return url

    def _checked(self, answer: Any, what: str) -> Any:
        if 200 <= answer.status_code < 300:
            return answer
        error = refusal(answer, what, self.http.credential.clock_ahead_s, self.http.credential.winner)
        missing = _workspace_name(error.message) if isinstance(error, NotFound) and error.mend else ""
        if missing and self.neighbours is not None:
            neighbours, self.neighbours = self.neighbours, None
            raise NotFound(error.message, error.mend, name=missing, known=neighbours())
        raise error

    @staticmethod
    def _content(answer: Any) -> dict[str, Any]:
        if not answer.content.strip():
            return {}
        try:
            content = answer.json()
        except ValueError as error:
            raise AmlflowError(
                f"{urlsplit(answer.url).netloc} answered {answer.status_code} with what is not JSON.",
                "A proxy may have answered in its place.",
            ) from error
        return content if isinstance(content, dict) else {"value": content}


_DATA_PLANES = (".api.azureml.ms", ".ml.azure.cn", ".ml.azure.us", ".api.ml.azure.cn", ".api.ml.azure.us")


def refusal(answer: Any, what: str, clock_ahead_s: float = 0.0, winner: str = "") -> AmlflowError:
    """What an answer that is no success means."""
    code, message = fault(answer)
    status = int(answer.status_code)
    request_id = next((answer.headers[name] for name in _REQUEST_IDS if answer.headers.get(name)), "")
    facts = ", ".join(fact for fact in (str(status), code, f"request {request_id}" if request_id else "") if fact)
    said = f" Azure says: {message.rstrip('.')}" if message else " Azure gives no reason"
    reason = f"{said} ({facts})."
    if status == 404:
        found = _missing_workspace(code, message)
        if found:
            return NotFound(
                f"{found}{reason}", "`amlflow workspace list --subscription ID` shows those that there are."
            )
        return NotFound(f"There is no {what}.{reason}")
    if status in (401, 403):
        clock = auth.clock_sentence(clock_ahead_s)
        who = f"{_capital(winner)} may" if winner else "This account may"
        if clock:
            return NotAllowed(f"{who} not use {what}.{reason} {clock}", "Set the clock right and try again.")
        if status == 401:
            return NotAllowed(
                f"The token of {winner or 'this account'} is refused for {what}.{reason}",
                "Sign in again; AZURE_TENANT_ID names the workspace's tenant. `amlflow doctor` says more.",
            )
        return NotAllowed(
            f"{who} not use {what}.{reason}",
            "Ask for the role «AzureML Data Scientist» on the workspace, or sign in as somebody else (--auth).",
        )
    if "quota" in f"{code} {message}".lower():
        return AmlflowError(
            f"The quota does not allow {what}.{reason}",
            "Choose a smaller size or fewer nodes, or ask for more under Quota in the studio.",
        )
    return AmlflowError(f"{_capital(what)} was refused.{reason}")


def segment(name: str) -> str:
    """A name as one segment of a path."""
    return quote(name, safe="")


def _missing_workspace(code: str, message: str) -> str:
    if code in ("SubscriptionNotFound", "InvalidSubscriptionId"):
        return "There is no such subscription, or this account cannot see it."
    if code == "ResourceGroupNotFound":
        return "There is no such resource group."
    match = re.search(rf"{re.escape(PROVIDER)}/workspaces/([^/']+)'", message, re.IGNORECASE)
    return f"There is no Azure ML workspace {match[1]!r}." if match else ""


def _workspace_name(message: str) -> str:
    match = re.match(r"There is no Azure ML workspace '([^']+)'\.", message)
    return match[1] if match else ""


def _provisioning(content: Mapping[str, Any]) -> str:
    properties = content.get("properties")
    return str(properties.get("provisioningState") or "") if isinstance(properties, dict) else ""


def _code(code: str) -> str:
    return f" ({code})" if code else ""


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
