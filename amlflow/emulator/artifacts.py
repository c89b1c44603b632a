"""Artifacts: files by origin, container and path, which are blobs of the workspace's artifact store.

The artifacts of runs have a facade of their own in the run history: there the origin is «ExperimentRun», the container the run's.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from amlflow.emulator.arm.datastores import ARTIFACTS, Datastores
from amlflow.emulator.arm.resources import WORKSPACE_PATTERN, Arm
from amlflow.emulator.blobs import Blobs
from amlflow.emulator.places import Places
from amlflow.emulator.web import Answer, Request, Route, data_error, query_string
from amlflow.errors import NotFound

_RUNS = "ExperimentRun"
_PAGE = 1000


class Artifacts:
    def __init__(self, arm: Arm, blobs: Blobs, datastores: Datastores, places: Places) -> None:
        self._arm, self._blobs, self._datastores, self._places = arm, blobs, datastores, places

    def routes(self) -> list[Route]:
        history, service = f"/history/v1.0{WORKSPACE_PATTERN}", f"/artifact/v2.0{WORKSPACE_PATTERN}"
        roots = [
            f"{history}{scope}/runs/{{run}}/artifacts"
            for scope in ("", "/experiments/{experiment}", "/experimentids/{experiment}")
        ]
        found = []
        for root in (*roots, f"{service}/artifacts/{{origin}}/{{container}}"):
            found += [
                Route("GET", root, self._list, "data"),
                Route("GET", f"{root}/path", self._list, "data"),
                Route("GET", f"{root}/metadata", self._metadata, "data"),
                Route("GET", f"{root}/contentinfo", self._content, "data"),
                Route("GET", f"{root}/artifacturi", self._address, "data"),
                Route("GET", f"{root}/prefix/contentinfo", self._contents, "data"),
                Route("POST", f"{root}/batch/metadata", self._create, "data"),
            ]
        found.append(Route("GET", f"{service}/artifacts/{{origin}}/{{container}}/write", self._write, "data"))
        return found

    def _list(self, request: Request) -> Answer:
        """All artifacts of the container below a path, in pages of 1,000."""
        store, prefix = self._place(request)
        path = request.query.get("path", "").strip("/")
        found = [
            name.removeprefix(f"{prefix}/")
            for name, _ in self._blobs.entries(store, f"{prefix}/")
            if not path or name.removeprefix(f"{prefix}/").startswith(f"{path}/") or name == f"{prefix}/{path}"
        ]
        token = request.query.get("continuationToken", "0")
        first = int(token) if token.isdigit() else 0
        content: dict[str, Any] = {"value": [_record(prefix, item) for item in found[first : first + _PAGE]]}
        if first + _PAGE < len(found):
            content["continuationToken"] = str(first + _PAGE)
            query = query_string({**request.query, "continuationToken": content["continuationToken"]})
            content["nextLink"] = f"{request.base_url}{quote(request.path)}?{query}"
        return Answer(content=content)

    def _metadata(self, request: Request) -> Answer:
        _, prefix, path = self._existing(request)
        return Answer(content=_record(prefix, path))

    def _content(self, request: Request) -> Answer:
        store, prefix, path = self._existing(request)
        return Answer(content=self._information(store, prefix, path, "r"))

    def _address(self, request: Request) -> Answer:
        store, prefix, path = self._existing(request)
        return Answer(content=self._blobs.signed_url(store, f"{prefix}/{path}"))

    def _contents(self, request: Request) -> Answer:
        listed = self._list(request)
        store, prefix = self._place(request)
        value = [self._information(store, prefix, item["path"], "r") for item in listed.content["value"]]
        return Answer(content={**listed.content, "value": value})

    def _create(self, request: Request) -> Answer:
        """Room for new artifacts: an address to write each to. A path that is taken stays as it is, and is told as an error."""
        store, prefix = self._place(request)
        artifacts, information, errors = {}, {}, {}
        for item in request.json().get("paths") or []:
            path = str(item.get("path") or "").strip("/")
            if not path or ".." in path.split("/"):
                raise data_error(400, f"The artifact path '{path}' is not valid.", inner="BadArgument")
            _, new = self._arm.store.put(f"/artifacts/{store}/{quote(f'{prefix}/{path}', safe='')}", {})
            if new:
                artifacts[path] = _record(prefix, path)
                information[path] = self._information(store, prefix, path, "rcw")
                continue
            text = f"Resource Conflict: ArtifactId {prefix}/{path} already exists."
            errors[path] = data_error(409, text, inner="ResourceConflict").answer.content
            del errors[path]["statusCode"]
        return Answer(content={"artifacts": artifacts, "artifactContentInformation": information, "errors": errors})

    def _write(self, request: Request) -> Answer:
        """An address to write an artifact to that is noted already."""
        store, prefix = self._place(request)
        path = request.query.get("path", "").strip("/")
        name = f"{prefix}/{path}"
        if self._arm.store.get(f"/artifacts/{store}/{quote(name, safe='')}") is None:
            raise data_error(404, f"Could not find artifact with id {name}", inner="ArtifactNotFound")
        return Answer(content=self._information(store, prefix, path, "rcw"))

    def _place(self, request: Request) -> tuple[str, str]:
        """The blob container, and the prefix of what was asked for in it. Raises the service's refusal for a missing run."""
        workspace, values = self._arm.workspace(request), request.values
        if "run" in values:
            try:
                self._places.of(workspace).get_run(values["run"])
            except NotFound as error:
                raise data_error(404, f"Run {values['run']} was not found", inner="RunNotFoundError") from error
            prefix = f"{_RUNS}/dcid.{values['run']}"
        else:
            prefix = f"{values['origin']}/{values['container']}"
        return self._datastores.container(workspace, ARTIFACTS), prefix

    def _existing(self, request: Request) -> tuple[str, str, str]:
        store, prefix = self._place(request)
        path = request.query.get("path", "").strip("/")
        name = f"{prefix}/{path}"
        if not any(found == name for found, _ in self._blobs.entries(store, name)):
            raise data_error(404, f"Could not find artifact with id {name}", inner="ArtifactNotFound")
        return store, prefix, path

    def _information(self, store: str, prefix: str, path: str, permission: str) -> dict[str, Any]:
        origin, _, container = prefix.partition("/")
        url = self._blobs.signed_url(store, f"{prefix}/{path}", permission)
        return {"contentUri": url, "origin": origin, "container": container, "path": path, "tags": {}}


def _record(prefix: str, path: str) -> dict[str, Any]:
    origin, _, container = prefix.partition("/")
    return {
        "artifactId": f"{prefix}/{path}",
        "origin": origin,
        "container": container,
        "path": path,
        "etag": None,
        "dataPath": {"dataStoreName": ARTIFACTS, "relativePath": f"{prefix}/{path}"},
        "tags": {},
    }
