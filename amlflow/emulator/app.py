"""The application that uvicorn serves: who may ask, which faults strike, what is recorded."""

from __future__ import annotations

import asyncio
import time
import traceback
import uuid
from collections.abc import Awaitable, Callable, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any
from urllib.parse import parse_qsl, unquote

from amlflow.emulator.faults import Fault, Faults
from amlflow.emulator.fronts import led
from amlflow.emulator.recording import Recorder
from amlflow.emulator.settings import Settings
from amlflow.emulator.tokens import BadToken, Tokens
from amlflow.emulator.web import Answer, Request, Route, Router, ServiceError, arm_error, data_error

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
_BODY_LIMIT = 256 << 20
_THREADS = 32


class App:
    """Handlers are plain functions, run in threads: they read SQLite and files."""

    def __init__(
        self, settings: Settings, tokens: Tokens, routes: list[Route], faults: Faults, recorder: Recorder | None
    ) -> None:
        self._settings, self._tokens, self._faults, self._recorder = settings, tokens, faults, recorder
        self._router = Router(routes)
        self._pool = ThreadPoolExecutor(_THREADS, "request")

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        named = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        raw_path = led(named.get("host", ""), scope["raw_path"].decode("ascii", "replace").split("?", 1)[0])
        request = Request(
            scope["method"],
            unquote(raw_path),
            dict(parse_qsl(scope["query_string"].decode("ascii", "replace"), keep_blank_values=True)),
            named,
            await _read(receive),
            self._settings.base_url,
            scope["query_string"].decode("ascii", "replace"),
        )
        strikes = [] if request.path.startswith("/emulator/") else self._faults.strike(request.method, request.path)
        answer = await self._under_faults(request, raw_path, strikes)
        if answer is None:
            _break_connection(receive)
            return
        body = answer.encoded()
        headers = {
            "content-type": answer.media_type,
            "x-ms-request-id": str(uuid.uuid4()),
            "x-ms-correlation-request-id": str(uuid.uuid4()),
            **answer.headers,
            "content-length": str(len(body)),
        }
        if answer.content is None:
            del headers["content-type"]
        if self._recorder is not None and not request.path.startswith("/emulator/"):
            target = request.path + (f"?{request.raw_query}" if request.raw_query else "")
            self._recorder.write(request.method, target, request.headers, request.body, answer.status, headers, body)
        raw_headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": answer.status, "headers": raw_headers})
        await send({"type": "http.response.body", "body": b"" if request.method == "HEAD" else body})

    async def _under_faults(self, request: Request, raw_path: str, strikes: list[Fault]) -> Answer | None:
        """The answer; None where the connection breaks."""
        lost = False
        for fault in strikes:
            if fault.action == "latency":
                await asyncio.sleep(fault.amount / 1000)
            elif fault.action == "reset":
                return None
            elif fault.action == "lost":
                lost = True
            else:
                return _failure(fault)
        answer = await asyncio.get_running_loop().run_in_executor(self._pool, self.answer, request, raw_path)
        return None if lost else answer

    def answer(self, request: Request, raw_path: str) -> Answer:
        try:
            found = self._router.find("GET" if request.method == "HEAD" else request.method, raw_path)
            if found is None:
                raise arm_error(404, "NotFound", f"There is nothing at {request.path}.")
            route, values = found
            request = replace(request, values=values)
            if route.plane != "open":
                request = replace(request, caller=self._authorize(request, route))
            return route.handler(request)
        except ServiceError as error:
            return error.answer
        except Exception as error:
            # The emulator's own failure must reach whoever reads its log, and look to the client as the service's would.
            traceback.print_exc()
            return arm_error(500, "InternalServerError", f"The emulator failed: {error!r}.").answer

    def _authorize(self, request: Request, route: Route) -> dict[str, Any]:
        """The claims of the caller. Raises the service's own refusals."""
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise self._unauthenticated(
                route, "AuthenticationFailed", "Authentication failed. The 'Authorization' header is missing."
            )
        try:
            claims = self._tokens.claims(token.strip())
        except BadToken:
            raise self._unauthenticated(route, "InvalidAuthenticationToken", "The access token is invalid.") from None
        audience = str(claims.get("aud", "")).rstrip("/")
        allowed = self._tokens.audiences(route.plane)
        if audience not in allowed:
            text = (
                f"The access token has been obtained for wrong audience or resource '{audience}'. It should exactly match with "
                f"one of the allowed audiences {','.join(repr(f'{item}/') for item in allowed)}."
            )
            raise self._unauthenticated(route, "InvalidAuthenticationTokenAudience", text)
        if claims.get("tid") != self._settings.tenant:
            text = (
                f"The access token is from the wrong issuer. It must match the tenant "
                f"'https://sts.windows.net/{self._settings.tenant}/' associated with this subscription."
            )
            raise self._unauthenticated(route, "InvalidAuthenticationTokenTenant", text)
        if claims.get("exp", 0) <= time.time():
            raise self._unauthenticated(route, "ExpiredAuthenticationToken", _expired(claims.get("exp", 0)))
        self._check_scope(request, route, claims)
        return claims

    def _check_scope(self, request: Request, route: Route, claims: dict[str, Any]) -> None:
        subscription = request.values.get("subscription", "")
        if subscription and subscription.lower() != self._settings.subscription.lower():
            try:
                uuid.UUID(subscription)
            except ValueError:
                text = f"The provided subscription identifier '{subscription}' is malformed or invalid."
                raise arm_error(400, "InvalidSubscriptionId", text) from None
            text = f"The subscription '{subscription}' could not be found."
            raise arm_error(404, "SubscriptionNotFound", text)
        principal = self._settings.principal(str(claims.get("appid")))
        if principal is None or (principal.role == "reader" and not route.for_readers):
            text = (
                f"The client '{claims.get('appid')}' with object id '{claims.get('oid')}' does not have authorization to perform "
                f"action '{_action(request)}' over scope '{request.path}' or the scope is invalid. If access was recently "
                "granted, please refresh your credentials."
            )
            raise arm_error(403, "AuthorizationFailed", text)

    def _unauthenticated(self, route: Route, code: str, message: str) -> ServiceError:
        made = arm_error(401, code, message) if route.plane == "arm" else data_error(401, message, inner=code)
        challenge = (
            f'Bearer authorization_uri="{self._settings.base_url}/{self._settings.tenant}", error="invalid_token", '
            f'error_description="{message}"'
        )
        return ServiceError(replace(made.answer, headers={"www-authenticate": challenge}))


async def _read(receive: Receive) -> bytes:
    parts, size = [], 0
    while True:
        message = await receive()
        part = message.get("body", b"")
        size += len(part)
        if size <= _BODY_LIMIT:
            parts.append(part)
        if not message.get("more_body"):
            return b"".join(parts)


def _break_connection(receive: Receive) -> None:
    # ASGI has no word for it: uvicorn's `receive` belongs to the object that holds the connection.
    receive.__self__.transport.abort()  # type: ignore[attr-defined]


def _failure(fault: Fault) -> Answer:
    if fault.action == "throttle":
        text = "The request is being throttled as the limit has been reached. Please retry later."
        return arm_error(429, "TooManyRequests", text, {"retry-after": f"{fault.amount:g}"}).answer
    if fault.action == "expire":
        return arm_error(401, "ExpiredAuthenticationToken", _expired(time.time() - 1)).answer
    status = int(fault.amount)
    codes = {
        500: "InternalServerError",
        502: "BadGateway",
        503: "ServiceUnavailable",
        504: "GatewayTimeout",
        409: "Conflict",
    }
    return arm_error(status, codes.get(status, "InjectedFault"), f"A fault on purpose: {fault.spec}.").answer


def _expired(at: float) -> str:
    def written(epoch_s: float) -> str:
        return datetime.fromtimestamp(epoch_s, timezone.utc).strftime("%m/%d/%Y %I:%M:%S %p")

    return (
        f"The access token expiry UTC time '{written(at)}' is earlier than current UTC time '{written(time.time())}'."
    )


def _action(request: Request) -> str:
    """The name of the permission that a call needs, as the service's refusals give it."""
    segments = request.path.strip("/").split("/")
    lowered = [segment.lower() for segment in segments]
    if "providers" not in lowered:
        return "Microsoft.MachineLearningServices/workspaces/write"
    tail = segments[len(lowered) - lowered[::-1].index("providers") :]
    types = "/".join([tail[0], *tail[1::2]])
    verb = {"GET": "read", "HEAD": "read", "PUT": "write", "PATCH": "write", "DELETE": "delete"}
    return f"{types}/{verb.get(request.method, 'action')}"
