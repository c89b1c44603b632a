"""MLflow's REST API of an Azure ML workspace: its address found out first, its tokens renewed."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from amlflow.errors import AmlflowError, NotAllowed, Unavailable
from amlflow.journal.azure import HISTORY
from amlflow.journal.errors import Refused, Unreachable
from amlflow.journal.rest import RestServer
from amlflow.workspaces.azure.auth import clock_sentence
from amlflow.workspaces.azure.http import POLICY
from amlflow.workspaces.azure.service import Service
from amlflow.workspaces.server.client import Client, ServerLimits
from amlflow.workspaces.server.passing import passed_on

# The service of the data plane that knows where artifacts are.
STORE = "artifact/v2.0"
_JOB_TOKEN = "MLFLOW_TRACKING_TOKEN"  # noqa: S105  the name of a variable


class AzureRest:
    """`Behind`, for the workspace and the journal alike. A token that was refused is replaced once. `plane` is another service of
    the data plane that is asked in the same way."""

    def __init__(self, service: Service, plane: str = "mlflow/v2.0") -> None:
        self._service, self._plane = service, plane
        self._server: RestServer | None = None

    def request(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        timeout_s: float | None = None,
        retry: bool = True,
    ) -> dict[str, Any]:
        """See `Behind`: whatever is in the way, signing in included, is `Refused` or `Unreachable`."""
        try:
            server = self.server()
            try:
                return server.request(method, path, body, timeout_s=timeout_s, retry=retry)
            except Refused as error:
                if error.status != 401 or _given_token():
                    raise
                self._service.http.credential.token(fresh=True)
            return server.request(method, path, body, timeout_s=timeout_s, retry=retry)
        except Refused as error:
            raise self._explained(error) from error
        except Unavailable as error:
            raise Unreachable(error.message) from error
        except NotAllowed as error:
            raise Refused(401, "UNAUTHENTICATED", error.paragraph()) from error
        except AmlflowError as error:
            raise Refused(404, "RESOURCE_DOES_NOT_EXIST", error.paragraph()) from error

    def raw(self, method: str, target: str, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, str], bytes]:
        """What a bridge serves: the same answers for a request as it comes over HTTP."""
        parts = urlsplit(target)
        if parts.path.startswith(f"{HISTORY}/") and method == "GET":
            # Where a child finds the artifacts of runs; it writes none itself.
            history = AzureRest(self._service, HISTORY.strip("/"))
            return passed_on(history, method, target.replace(HISTORY, "", 1), body)
        return passed_on(self, method, target, body)

    def server(self) -> RestServer:
        """The client of the address. Raises as `Service.host` does."""
        if self._server is None:
            self._server = RestServer(
                f"https://{self._service.host}",
                headers=self._headers,
                prefix=f"/{self._plane}{self._service.path}",
                policy=POLICY,
            )
        return self._server

    def _headers(self) -> Mapping[str, str]:
        # Within a job the service has put a token for its own run here, and there may be no other way to sign in.
        given = _given_token()
        return {"Authorization": f"Bearer {given}"} if given else self._service.http.credential.header()

    def _explained(self, error: Refused) -> Refused:
        """A refusal of the token, with what is likely the cause."""
        credential = self._service.http.credential
        clock = clock_sentence(credential.clock_ahead_s)
        if error.status != 401 or not (clock or credential.winner):
            return error
        message = f"The token of {credential.winner or 'this account'} is refused: {error.message} {clock}".strip()
        return Refused(401, error.code, message, error.request_id)


class AzureClient(Client):
    """The workspace's own requests: what is in the way of signing in, or of finding the workspace, is said as it is."""

    def __init__(self, rest: AzureRest, service: Service, limits: ServerLimits) -> None:
        super().__init__(rest, f"Workspace {service.name!r}", limits)
        self._service = service

    def ask(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, *, retry: bool = True
    ) -> dict[str, Any]:
        if not _given_token():
            self._service.http.credential.token()
        # Asked for before the request, which would wrap why there is no address.
        _ = self._service.host
        return super().ask(method, path, body, retry=retry)

    def refused(self, error: Refused) -> AmlflowError:
        if error.status not in (401, 403):
            return super().refused(error)
        return NotAllowed(
            f"{self.shown} does not let {self._service.http.credential.winner or 'this account'} do this: {error}.",
            "Ask for the role «AzureML Data Scientist» on the workspace, or sign in as somebody else (--auth).",
        )


def _given_token() -> str:
    return os.environ.get(_JOB_TOKEN, "") if os.environ.get("AZUREML_RUN_ID") else ""
