"""The front door of online endpoints: who may ask, which deployment answers, what its answer looks like from outside."""

from __future__ import annotations

import hmac
import http.client
import json
import random
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from amlflow.emulator.arm.quotas import workspaces
from amlflow.emulator.arm.resources import Arm
from amlflow.emulator.running.serving import Servers
from amlflow.emulator.settings import HOST
from amlflow.emulator.store import Document
from amlflow.emulator.web import Answer, Request, Route

CHOICE = "azureml-model-deployment"
_DOOR = "/online/{place}/{endpoint}/score"
_TIMEOUT_S = 60.0
_MIRRORS = 4


class Scoring:
    def __init__(self, arm: Arm, servers: Servers) -> None:
        self._arm, self._servers = arm, servers
        self._places: dict[str, str] = {}
        self._mirrors = ThreadPoolExecutor(_MIRRORS, "mirror")

    def routes(self) -> list[Route]:
        return [Route("POST", _DOOR, self._score, plane="open")]

    def close(self) -> None:
        self._mirrors.shutdown(wait=False, cancel_futures=True)

    def _score(self, request: Request) -> Answer:
        endpoint = self._endpoint(request)
        if endpoint is None:
            return _error(404, "EndpointNotFound", f"There is no endpoint '{request.values['endpoint']}' here.")
        given = request.headers.get("authorization", "").partition(" ")[2].strip().encode()
        keys = [hmac.compare_digest(given, key.encode()) for key in endpoint.body["keys"].values()]
        if not any(keys):
            return _error(401, "key_auth_bad_header_invalid", "The key of the request is missing or wrong.")
        asked = request.headers.get(CHOICE, "")
        if asked and not self._servers.answers(f"{endpoint.id}/deployments/{asked}"):
            return _error(404, "DeploymentNotFound", f"Specified deployment '{asked}' could not be found.")
        properties = endpoint.body["properties"]
        for name in [asked] if asked else _drawn(properties["traffic"]):
            answer = self._asked(endpoint, name, request)
            if answer is not None:
                if not asked:
                    self._mirror(endpoint, properties["mirrorTraffic"], request)
                return answer
        if not asked and not properties["traffic"]:
            return _error(404, "NoTraffic", "No valid deployments to route to: none has traffic.")
        return _error(503, "NoHealthyUpstream", "No instance of the deployment answers.")

    def _endpoint(self, request: Request) -> Document | None:
        place, name = request.values["place"], request.values["endpoint"]
        if place not in self._places:
            self._places = {item.body["workspaceId"]: item.id for item in workspaces(self._arm)}
        workspace = self._places.get(place)
        return self._arm.store.get(f"{workspace}/onlineEndpoints/{name}") if workspace else None

    def _asked(self, endpoint: Document, name: str, request: Request) -> Answer | None:
        """The deployment's answer; None where its process took no request, so that another may be asked."""
        id, started = f"{endpoint.id}/deployments/{name}", time.monotonic()
        with self._servers.asking(id) as address:
            if address is None:
                return None
            refused = _unlike_azure(request)
            answer = self._sent(*address, name, request) if refused is None else _model_error(400, refused, name)
            if answer is not None:
                self._servers.note_request(id, answer.status, time.monotonic() - started)
            return answer

    def _sent(self, port: int, key: str, name: str, request: Request) -> Answer | None:
        connection = http.client.HTTPConnection(HOST, port, timeout=_TIMEOUT_S)
        headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
        try:
            connection.connect()
        except OSError:
            return None
        try:
            connection.request("POST", "/score", request.body, headers)
            answer = connection.getresponse()
            content = json.loads(answer.read())
        except (OSError, ValueError, http.client.HTTPException) as error:
            return _error(502, "BadGateway", f"The deployment '{name}' ended the connection: {error}.", name)
        finally:
            connection.close()
        if answer.status != 200:
            return _model_error(answer.status, content["error"]["message"], name)
        # Azure's scorer answers with the predictions alone.
        return Answer(content=content["predictions"], headers={CHOICE: name})

    def _mirror(self, endpoint: Document, shares: Mapping[str, int], request: Request) -> None:
        for name, share in shares.items():
            if random.random() * 100 < share:  # noqa: S311
                self._mirrors.submit(self._asked, endpoint, name, request)


def _drawn(traffic: Mapping[str, int]) -> list[str]:
    """The deployments with traffic: the one that is drawn by its share first, then the others."""
    names = list(traffic)
    if not names:
        return []
    first = random.choices(names, list(traffic.values()))[0]  # noqa: S311
    return [first, *(name for name in names if name != first)]


def _unlike_azure(request: Request) -> str | None:
    """Why Azure's scorer would refuse a body that the scoring app takes."""
    try:
        content: Any = json.loads(request.body)
    except ValueError as error:
        return f"The body is not valid JSON: {error}."
    if not isinstance(content, dict) or "input_data" not in content:
        return 'Request must contain a top level key named "input_data".'
    return None


def _model_error(status: int, message: str, name: str) -> Answer:
    """Whatever a model's server answers but 200 is 424 outside."""
    extra = {"ms-azureml-model-error-statuscode": str(status), "ms-azureml-model-error-reason": "model_error"}
    made = _error(424, "ModelError", message, name)
    return Answer(made.status, made.content, {**made.headers, **extra})


def _error(status: int, code: str, message: str, name: str = "") -> Answer:
    return Answer(status, {"error": {"code": code, "message": message}}, {CHOICE: name} if name else {})
