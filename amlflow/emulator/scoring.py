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

from amlflow.emulator.arm.computes import seconds
from amlflow.emulator.arm.quotas import workspaces
from amlflow.emulator.arm.resources import Arm
from amlflow.emulator.running.collection import collections
from amlflow.emulator.running.doors import Door
from amlflow.emulator.running.serving import Servers
from amlflow.emulator.store import Document
from amlflow.emulator.tokens import ML_AUDIENCES, BadToken, Tokens
from amlflow.emulator.web import Answer, Request, Route
from amlflow.serving import payload

CHOICE = "azureml-model-deployment"
_DOOR = "/online/{place}/{endpoint}/score"
_TIMEOUT_S = 60.0
_DEFAULT_S = 5.0
_MIRRORS = 4


class Scoring:
    def __init__(self, arm: Arm, servers: Servers, tokens: Tokens) -> None:
        self._arm, self._servers, self._tokens = arm, servers, tokens
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
        refused = self._refused(endpoint, request)
        if refused is not None:
            return refused
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

    def _refused(self, endpoint: Document, request: Request) -> Answer | None:
        """Why who asks may not; None for who may."""
        given = request.headers.get("authorization", "").partition(" ")[2].strip()
        if endpoint.body["properties"]["authMode"] == "Key":
            keys = [hmac.compare_digest(given.encode(), key.encode()) for key in endpoint.body["keys"].values()]
            if any(keys):
                return None
            return _error(401, "key_auth_bad_header_invalid", "The key of the request is missing or wrong.")
        try:
            claims = self._tokens.claims(given)
        except BadToken as error:
            return _error(401, "token_auth_invalid", f"The token of the request is missing or wrong: {error}.")
        settings = self._arm.settings
        if str(claims.get("aud", "")).rstrip("/") not in ML_AUDIENCES or claims.get("tid") != settings.tenant:
            return _error(401, "token_auth_invalid", f"The token is made for '{claims.get('aud')}'.")
        if claims.get("exp", 0) <= time.time():
            return _error(401, "token_auth_expired", "The token has expired.")
        principal = settings.principal(str(claims.get("appid")))
        if principal is None or principal.role == "reader":
            action = "Microsoft.MachineLearningServices/workspaces/onlineEndpoints/score/action"
            return _error(403, "permission_denied", f"The client '{claims.get('appid')}' lacks the right '{action}'.")
        return None

    def _endpoint(self, request: Request) -> Document | None:
        place, name = request.values["place"], request.values["endpoint"]
        if place not in self._places:
            self._places = {item.body["workspaceId"]: item.id for item in workspaces(self._arm)}
        workspace = self._places.get(place)
        return self._arm.store.get(f"{workspace}/onlineEndpoints/{name}") if workspace else None

    def _asked(self, endpoint: Document, name: str, request: Request) -> Answer | None:
        """The deployment's answer; None where its process took no request, so that another may be asked."""
        id, started = f"{endpoint.id}/deployments/{name}", time.monotonic()
        deployment = self._arm.store.get(id)
        with self._servers.asking(id) as door:
            if door is None or deployment is None:
                return None
            refused = None if door.scripted else _unlike_azure(request)
            answer = self._sent(door, deployment, request) if refused is None else _model_error(400, refused, name)
            if answer is not None and not door.scripted:
                self._servers.note_request(id, answer.status, time.monotonic() - started)
                if answer.status == 200 and collections(deployment):
                    inputs = _as_records(request.body)
                    self._mirrors.submit(self._servers.collection.keep_request, deployment, inputs, answer.content)
            return answer

    def _sent(self, door: Door, deployment: Document, request: Request) -> Answer | None:
        name, limit_s = deployment.name, _limit_s(deployment)
        connection = door.connection(limit_s)
        headers = {**door.headers, "content-type": request.headers.get("content-type") or "application/json"}
        try:
            connection.connect()
        except OSError:
            return None
        try:
            connection.request("POST", "/score", request.body, headers)
            answer = connection.getresponse()
            raw, kind = answer.read(), str(answer.headers.get("content-type") or "application/json")
        except TimeoutError:
            text = f"The model took longer than the {limit_s:g} s that a request may take."
            return _error(408, "RequestTimeout", text, name)
        except (OSError, http.client.HTTPException) as error:
            return _error(502, "BadGateway", f"The deployment '{name}' ended the connection: {error}.", name)
        finally:
            connection.close()
        if answer.status != 200:
            return _model_error(answer.status, _message(raw), name)
        if door.scripted:
            return Answer(content=raw, headers={CHOICE: name}, media_type=kind)
        # Azure's scorer answers with the predictions alone.
        return Answer(content=json.loads(raw)["predictions"], headers={CHOICE: name})

    def _mirror(self, endpoint: Document, shares: Mapping[str, int], request: Request) -> None:
        for name, share in shares.items():
            if random.random() * 100 < share:  # noqa: S311
                self._mirrors.submit(self._asked, endpoint, name, request)


def _limit_s(deployment: Document) -> float:
    """How long a request may take: what its deployment says, but where that is the service's default of five seconds, which this
    machine may not hold as machines do that have nothing else to do."""
    asked = seconds(deployment.body["properties"]["requestSettings"].get("requestTimeout") or "PT5S")
    return _TIMEOUT_S if asked == _DEFAULT_S else asked


def _as_records(body: bytes) -> Any:
    table = payload.parse(body, "application/json")
    if table.columns is None:
        return table.rows
    return [dict(zip(table.columns, row, strict=True)) for row in table.rows]


def _message(raw: bytes) -> str:
    """What a model's server says of its failure: the scoring app, amlflow's script, or Azure's inference server."""
    try:
        content = json.loads(raw)
    except ValueError:
        return raw.decode("utf-8", "replace")[:500]
    if not isinstance(content, dict):
        return str(content)[:500]
    error = content.get("error")
    return str(error.get("message") if isinstance(error, dict) else content.get("message") or content)


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
