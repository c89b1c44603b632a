"""Requests, answers and routes: the little of a web framework that is needed here, with paths that ignore case, as ARM's do."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any, Literal
from urllib.parse import parse_qsl, quote, unquote

Plane = Literal["open", "arm", "data", "ml"]


@dataclass(frozen=True, slots=True)
class Request:
    """`path` and `values` (what the route's braces matched) are decoded; header names are lower case. `caller` holds the claims
    of the token, empty on routes that need none."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes
    base_url: str
    raw_query: str = ""
    values: Mapping[str, str] = field(default_factory=dict)
    caller: Mapping[str, Any] = field(default_factory=dict)

    def json(self) -> dict[str, Any]:
        """The body as a JSON object; empty for no body. Raises `ServiceError` for what is none."""
        if not self.body:
            return {}
        try:
            found = json.loads(self.body)
        except ValueError as error:
            raise arm_error(400, "InvalidRequestContent", f"The request content was invalid: {error}.") from error
        if not isinstance(found, dict):
            raise arm_error(400, "InvalidRequestContent", "The request content was not a JSON object.")
        return found

    def form(self) -> dict[str, str]:
        return dict(parse_qsl(self.body.decode("utf-8", "replace"), keep_blank_values=True))


@dataclass(frozen=True, slots=True)
class Answer:
    """`content` is sent as JSON, unless it is bytes or None."""

    status: int = 200
    content: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    media_type: str = "application/json; charset=utf-8"

    def encoded(self) -> bytes:
        if self.content is None:
            return b""
        if isinstance(self.content, bytes):
            return self.content
        return json.dumps(self.content, ensure_ascii=False).encode()


class ServiceError(Exception):
    """An answer that is an error."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(f"{answer.status}: {answer.content}")
        self.answer = answer


Handler = Callable[[Request], Answer]


@dataclass(frozen=True, slots=True)
class Route:
    """`pattern` has `{name}` for one segment and `{name*}` for the rest of the path. `reads` says that a caller who may only read
    may call it."""

    method: str
    pattern: str
    handler: Handler
    plane: Plane = "arm"
    reads: bool | None = None

    @property
    def for_readers(self) -> bool:
        return self.method in ("GET", "HEAD") if self.reads is None else self.reads


class Router:
    """Finds the route of a request: literal segments win over braces."""

    def __init__(self, routes: Iterable[Route]) -> None:
        ordered = sorted(routes, key=lambda route: [segment.startswith("{") for segment in route.pattern.split("/")])
        self._compiled = [(_compile(route.pattern), route) for route in ordered]

    def find(self, method: str, raw_path: str) -> tuple[Route, dict[str, str]] | None:
        """The route and the decoded values of its braces. Raises `ServiceError` where only another method fits."""
        allowed: list[str] = []
        for regex, route in self._compiled:
            match = regex.fullmatch(raw_path)
            if match is None:
                continue
            if route.method == method:
                return route, {name: unquote(value) for name, value in match.groupdict().items()}
            allowed.append(route.method)
        if allowed:
            error = arm_error(
                405, "MethodNotAllowed", f"The requested resource does not support http method '{method}'."
            )
            raise ServiceError(Answer(405, error.answer.content, {"allow": ", ".join(sorted(set(allowed)))}))
        return None


def arm_error(status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> ServiceError:
    """The error of Azure Resource Manager itself."""
    return ServiceError(Answer(status, {"error": {"code": code, "message": message}}, headers or {}))


def service_error(status: int, message: str, code: str = "UserError", inner: Sequence[str] = ()) -> ServiceError:
    """The error of the Azure ML service behind Resource Manager."""
    correlation = {"operation": uuid.uuid4().hex, "request": uuid.uuid4().hex[:16]}
    extra: list[dict[str, Any]] = [
        {"type": "ComponentName", "info": {"value": "managementfrontend"}},
        {"type": "Correlation", "info": {"value": correlation}},
        {"type": "Environment", "info": {"value": "emulator"}},
        {"type": "Location", "info": {"value": "local"}},
        {"type": "Time", "info": {"value": iso_now()}},
    ]
    if inner:
        nested: Any = None
        for name in reversed(inner):
            nested = {"code": name, "innerError": nested}
        extra.append({"type": "InnerError", "info": {"value": nested}})
    error = {"code": code, "message": message, "details": [], "additionalInfo": extra}
    return ServiceError(Answer(status, {"error": error}))


def data_error(status: int, message: str, code: str = "UserError", inner: str = "") -> ServiceError:
    """The error of the data planes: run history and artifacts."""
    error: dict[str, Any] = {"code": code, "message": message, "details": []}
    if inner:
        error["innerError"] = {"code": inner}
    content = {
        "error": error,
        "correlation": {"operation": uuid.uuid4().hex, "request": uuid.uuid4().hex[:16]},
        "environment": "emulator",
        "location": "local",
        "time": iso_now(),
        "componentName": "run-history",
        "statusCode": status,
    }
    return ServiceError(Answer(status, content))


def iso_now() -> str:
    return iso(datetime.now(timezone.utc).timestamp())


def iso(epoch_s: float) -> str:
    """A moment as the service writes it."""
    return datetime.fromtimestamp(epoch_s, timezone.utc).isoformat(timespec="microseconds")


def query_string(values: Mapping[str, str]) -> str:
    """A query with `$` left as it is, as in the links that the service writes."""
    return "&".join(f"{quote(name, safe='$')}={quote(value, safe='')}" for name, value in values.items())


def _compile(pattern: str) -> re.Pattern[str]:
    def part(segment: str) -> str:
        if segment.startswith("{") and segment.endswith("*}"):
            return f"(?P<{segment[1:-2]}>.*)"
        if segment.startswith("{"):
            return f"(?P<{segment[1:-1]}>[^/]+)"
        return re.escape(segment)

    return re.compile("/".join(part(segment) for segment in pattern.split("/")) + "/?", re.IGNORECASE)
