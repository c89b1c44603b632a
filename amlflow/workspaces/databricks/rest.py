"""MLflow's REST API of a Databricks workspace: the tokens renewed, and experiments named as they are named elsewhere.

There an experiment is an object of the workspace's file tree, named by its whole path. A name that is no path is taken for one
below the user's own folder.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

from amlflow.errors import AmlflowError, NotAllowed, UsageError
from amlflow.journal.errors import Refused
from amlflow.journal.rest import RestServer
from amlflow.journal.retry import RetryPolicy
from amlflow.workspaces.databricks.access import Access
from amlflow.workspaces.server.passing import passed_on

_ME = "/api/2.0/preview/scim/v2/Me"
_NAMED = {"/experiments/get-by-name": "experiment_name", "/experiments/create": "name"}


class DatabricksRest:
    """`Behind`, for the workspace and the journal alike."""

    def __init__(self, access: Access, policy: RetryPolicy | None = None) -> None:
        self._access, self._policy = access, policy

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
            named = next((key for route, key in _NAMED.items() if path.endswith(route)), "")
            if named and body and named in body:
                body = {**body, named: self.experiment_path(str(body[named]))}
            return self.server.request(method, path, body, timeout_s=timeout_s, retry=retry)
        except NotAllowed as error:
            raise Refused(401, "NO_CREDENTIALS", error.paragraph()) from error
        except UsageError as error:
            raise Refused(400, "INVALID_PARAMETER_VALUE", error.paragraph()) from error
        except AmlflowError as error:
            raise Refused(404, "RESOURCE_DOES_NOT_EXIST", error.paragraph()) from error

    def raw(self, method: str, target: str, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, str], bytes]:
        """What a bridge serves: the same answers for a request as it comes over HTTP."""
        return passed_on(self, method, target, body)

    @cached_property
    def server(self) -> RestServer:
        """Raises as `Access` does."""
        return RestServer(self._access.host, headers=self._access.headers, policy=self._policy)

    def experiment_path(self, name: str) -> str:
        return name if name.startswith("/") else f"/Users/{self.user}/{name}"

    @cached_property
    def user(self) -> str:
        """The name of whoever asks, as the workspace knows it. Raises `Refused` or `Unreachable`."""
        return str(self.server.request("GET", _ME).get("userName") or "")
