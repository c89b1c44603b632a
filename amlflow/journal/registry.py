"""MLflow's model registry for the scheme `amlflow`: the workspace's own, asked once what was logged has arrived there.

Where a workspace has no aliases, they are kept as tags of the registered model: `amlflow.alias.NAME` = version.
"""

from __future__ import annotations

import json
from typing import Any, Dict, List, Optional, Tuple

from mlflow.store.model_registry import rest_store
from mlflow.utils.proto_json_utils import parse_dict

from .errors import Refused
from .router import Router
from .store import translated

ALIAS_PREFIX = "amlflow.alias."
_ROOT = "/api/2.0/mlflow/registered-models"


class JournalRegistry(rest_store.RestStore):  # type: ignore[misc]
    def __init__(self, router: Router) -> None:
        super().__init__(lambda: None)
        self.router = router

    def _call_endpoint(
        self, api: Any, json_body: Optional[str], call_all_endpoints: bool = False, extra_headers: Any = None
    ) -> Any:
        if call_all_endpoints:
            routes: List[Tuple[str, str]] = self._get_all_endpoints_from_method(api)
        else:
            routes = [self._get_endpoint_from_method(api)]
        body = json.loads(json_body) if json_body else {}
        answer = api.Response()
        parse_dict(translated(lambda: self._ask(routes, body)), answer)
        return answer

    def _ask(self, routes: List[Tuple[str, str]], body: Dict[str, Any]) -> Dict[str, Any]:
        for index, (path, method) in enumerate(routes):
            try:
                return self.router.pass_on(method, path, body, flush=index == 0)
            except Refused as error:
                if not error.lacks_route:
                    raise
                if path.endswith("registered-models/alias"):
                    return self._alias_by_tag(method, body)
                if index == len(routes) - 1:
                    raise
        raise AssertionError("MLflow names a route for every call")

    def _alias_by_tag(self, method: str, body: Dict[str, Any]) -> Dict[str, Any]:
        name, tag = body["name"], f"{ALIAS_PREFIX}{body['alias']}"
        if method == "POST":
            self.router.ask("POST", f"{_ROOT}/set-tag", {"name": name, "key": tag, "value": str(body["version"])})
            return {}
        if method == "DELETE":
            self.router.ask("DELETE", f"{_ROOT}/delete-tag", {"name": name, "key": tag})
            return {}
        model = self.router.ask("GET", f"{_ROOT}/get", {"name": name})["registered_model"]
        version = next((item["value"] for item in model.get("tags", []) if item["key"] == tag), None)
        if version is None:
            raise Refused(404, "RESOURCE_DOES_NOT_EXIST", f"The model {name!r} has no alias {body['alias']!r}.")
        return self.router.ask("GET", "/api/2.0/mlflow/model-versions/get", {"name": name, "version": version})
