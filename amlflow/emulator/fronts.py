"""The public side of container groups: what Caddy is in a group of the service, by the name that a request is for."""

from __future__ import annotations

import http.client

from amlflow.emulator.arm.containers import ContainerGroups
from amlflow.emulator.settings import HOST
from amlflow.emulator.web import Answer, Request, Route

_DOOR = "/containers/{host}/{path*}"
_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
_PASSED = ("content-type", "authorization", "accept", "api-key", "x-request-id")
_TIMEOUT_S = 120.0


def led(host: str, raw_path: str) -> str:
    """The path of a request to a name below `localhost`, led here; of any other, as it is."""
    name = host.rpartition(":")[0] or host
    return f"/containers/{name}{raw_path}" if name.endswith(".localhost") else raw_path


class Fronts:
    def __init__(self, groups: ContainerGroups) -> None:
        self._groups = groups

    def routes(self) -> list[Route]:
        return [Route(method, _DOOR, self._passed, plane="open") for method in _METHODS]

    def _passed(self, request: Request) -> Answer:
        group, port = self._groups.upstream(request.values["host"])
        if group is None:
            # No such name: the service's own would not resolve.
            return Answer(421, b"", media_type="text/plain")
        if not port:
            return Answer(502, b"", media_type="text/plain")
        connection = http.client.HTTPConnection(HOST, port, timeout=_TIMEOUT_S)
        headers = {name: request.headers[name] for name in _PASSED if name in request.headers}
        target = f"/{request.values['path']}" + (f"?{request.raw_query}" if request.raw_query else "")
        try:
            connection.request(request.method, target, request.body or None, headers)
            answer = connection.getresponse()
            content = answer.read()
        except (OSError, http.client.HTTPException):
            return Answer(502, b"", media_type="text/plain")
        finally:
            connection.close()
        return Answer(answer.status, content, {"via": "1.1 Caddy"}, answer.headers.get("content-type", "text/plain"))
