"""Tokens of a container registry: each pulls from the repositories that its scope map names."""

from __future__ import annotations

import hmac
import secrets
import time
from typing import Any

from amlflow.emulator.arm.registries import KIND, REGISTRY_PATTERN, Registries
from amlflow.emulator.arm.resources import Arm, check_name, missing, required
from amlflow.emulator.arm.workspaces import author
from amlflow.emulator.store import Document
from amlflow.emulator.web import Answer, Request, Route, arm_error, iso

_NAME = r"[a-zA-Z0-9][a-zA-Z0-9-]{4,49}"


class RegistryTokens:
    def __init__(self, arm: Arm, registries: Registries) -> None:
        self._arm, self._registries = arm, registries

    def routes(self) -> list[Route]:
        made = [Route("POST", f"{REGISTRY_PATTERN}/generateCredentials", self._generate)]
        for kind in ("scopeMaps", "tokens"):
            for method, handler in (("GET", self._get), ("PUT", self._put), ("DELETE", self._delete)):
                made.append(Route(method, f"{REGISTRY_PATTERN}/{kind}/{{name}}", handler))
        return made

    def may_pull(self, registry: str, username: str, password: str, repository: str) -> bool:
        token = self._arm.store.get(f"{registry}/tokens/{username}")
        if token is None or token.body["properties"].get("status") != "enabled":
            return False
        scope = self._arm.store.get(str(token.body["properties"]["scopeMapId"]))
        actions = scope.body["properties"]["actions"] if scope else []
        known = [hmac.compare_digest(password.encode(), item.encode()) for item in token.body["passwords"].values()]
        return any(known) and f"repositories/{repository}/content/read" in actions

    def _id(self, request: Request) -> str:
        kind = "tokens" if "/tokens/" in request.path.lower() else "scopeMaps"
        return f"{self._registries.find(request)}/{kind}/{request.values['name']}"

    def _get(self, request: Request) -> Answer:
        found = self._arm.store.get(self._id(request))
        if found is None:
            kind = self._id(request).split("/")[-2]
            raise missing(f"{KIND}/emulatorregistry/{kind}/{request.values['name']}", request.values["group"])
        return Answer(content=_render(found))

    def _put(self, request: Request) -> Answer:
        check_name(request.values["name"], _NAME, "Token")
        id = self._id(request)
        with required("token or scope map"), self._arm.store.undisturbed():
            given = request.json()["properties"]
            needed = "scopeMapId" if "/tokens/" in id else "actions"
            if needed == "scopeMapId" and self._arm.store.get(str(given[needed])) is None:
                raise arm_error(400, "ScopeMapNotFound", f"The scope map '{given[needed]}' is not found.")
            before = self._arm.store.get(id)
            passwords = before.body["passwords"] if before else {}
            body = {"properties": {**given, needed: given[needed]}, "passwords": passwords}
            made, new = self._arm.store.put(id, body, author(request))
        return Answer(201 if new else 200, _render(made))

    def _delete(self, request: Request) -> Answer:
        return Answer(200 if self._arm.store.delete(self._id(request)) else 204)

    def _generate(self, request: Request) -> Answer:
        self._registries.find(request)
        with required("request for credentials"):
            asked = request.json()
            token, name = self._arm.store.get(str(asked["tokenId"])), str(asked.get("name") or "password1")
        if token is None:
            raise arm_error(404, "TokenNotFound", f"The token '{asked['tokenId']}' is not found.")
        password = secrets.token_urlsafe(39)
        self._arm.store.change(token.id, lambda body: body["passwords"].update({name: password}))
        shown = {"name": name, "value": password, "creationTime": iso(time.time())}
        return Answer(content={"username": token.name, "passwords": [shown]})


def _render(document: Document) -> dict[str, Any]:
    kind = document.id.split("/")[-2]
    properties = {
        **document.body["properties"],
        "provisioningState": "Succeeded",
        "creationDate": iso(document.created),
    }
    if kind == "scopeMaps":
        properties["type"] = "UserDefined"
    return {"id": document.id, "name": document.name, "type": f"{KIND}/{kind}", "properties": properties}
