"""Who may do what to blobs with a token: Azurite takes any token, and asks here before, by `storage_guard.js`."""

from __future__ import annotations

import time

from amlflow.emulator import control
from amlflow.emulator.arm.roles import Roles
from amlflow.emulator.settings import STORAGE_ACCOUNT, Settings
from amlflow.emulator.tokens import BadToken, Tokens
from amlflow.emulator.web import Answer, Request, Route

PATH = "/emulator/storage-access"


class StorageAccess:
    def __init__(self, settings: Settings, tokens: Tokens, roles: Roles) -> None:
        self._settings, self._tokens, self._roles = settings, tokens, roles

    def routes(self) -> list[Route]:
        return [Route("POST", PATH, control.guarded(self._settings, self._asked), "open")]

    def _asked(self, request: Request) -> Answer:
        """204 for what is allowed, else the code of the storage's refusal."""
        asked = request.json()
        try:
            claims = self._tokens.claims(str(asked["token"]))
        except BadToken:
            return Answer(401, {"code": "InvalidAuthenticationInfo"})
        good = str(claims.get("aud", "")).rstrip("/") in self._tokens.audiences("storage")
        if not good or claims.get("tid") != self._settings.tenant or float(claims.get("exp", 0)) <= time.time():
            return Answer(401, {"code": "InvalidAuthenticationInfo"})
        account, _, container = str(asked["path"]).strip("/").partition("/")
        writes = asked["method"] not in ("GET", "HEAD")
        principal = str(claims.get("oid", ""))
        if account == STORAGE_ACCOUNT and self._roles.may_use_blobs(principal, container.partition("/")[0], writes):
            return Answer(204)
        return Answer(403, {"code": "AuthorizationPermissionMismatch"})
