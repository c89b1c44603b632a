"""The container registry of an Azure ML workspace: images that are there, and its tasks, which build new ones."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import tarfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from amlflow.errors import AmlflowError, NotAllowed, NotFound, NotSupported
from amlflow.workspaces.azure.http import fault
from amlflow.workspaces.azure.service import Service

REGISTRY_API = "2023-07-01"
TASKS_API = "2019-06-01-preview"
_MANIFESTS = (
    "application/vnd.docker.distribution.manifest.v2+json, application/vnd.oci.image.manifest.v1+json, "
    "application/vnd.oci.image.index.v1+json"
)
_SERVERS = (".azurecr.io", ".azurecr.cn", ".azurecr.us")
_POLL_S = 1.0
_BUILD_S = 3600
_TAIL_LINES = 12
_GOING = ("queued", "started", "running")


@dataclass(frozen=True, slots=True)
class Registry:
    """`id` is its ARM id, `server` the host that images are pulled from."""

    id: str
    server: str


@dataclass(frozen=True, slots=True)
class PullToken:
    """What pulls from one repository of a registry, and does nothing else."""

    username: str
    password: str = field(repr=False)


class AzureRegistry:
    def __init__(self, service: Service) -> None:
        self._service, self._arm = service, service.arm
        self._found: Registry | None = None

    def get(self) -> Registry:
        """Raises `NotFound` for a workspace that has none."""
        if self._found is None:
            name = self._service.name
            id = str((self._service.read().get("properties") or {}).get("containerRegistry") or "")
            if not id:
                raise NotFound(
                    f"The workspace {name!r} has no container registry to build an image in.",
                    "Make one with `az acr create`, and give it to the workspace with `az ml workspace update "
                    f"--name {name} --container-registry ID --update-dependent-resources`.",
                )
            content = self._arm.get(id, REGISTRY_API, f"container registry {id.rpartition('/')[2]!r}")
            server = str((content.get("properties") or {}).get("loginServer") or "")
            own = server == urlsplit(self._service.http.credential.cloud.arm).netloc
            if not own and not server.endswith(_SERVERS):
                raise AmlflowError(f"{server!r} is no container registry of Azure: it is given no token.")
            self._found = Registry(id, server)
        return self._found

    def has(self, name: str, tag: str) -> bool:
        """Whether the image is there. Raises `NotAllowed` without the right to read it."""
        registry = self.get()
        token = self._token(registry, name)
        url = f"https://{registry.server}/v2/{name}/manifests/{tag}"
        headers = {"Authorization": f"Bearer {token}", "Accept": _MANIFESTS}
        answer = self._service.http.send("GET", url, scope=None, headers=headers)
        if answer.status_code in (200, 404):
            return bool(answer.status_code == 200)
        raise self._refused(registry, answer)

    def build(self, context: Path, name: str, tag: str, report: Callable[[str], None]) -> None:
        """Build the image of the folder and keep it as `name:tag`; `report` is told each line of the log. Raises `AmlflowError`
        with the end of the log when it fails."""
        registry, what = self.get(), f"build of {name}:{tag}"
        place = self._arm.content(self._arm.post(f"{registry.id}/listBuildSourceUploadUrl", TASKS_API, what))
        content = _packed(context)
        headers = {"x-ms-blob-type": "BlockBlob"}
        sent = self._service.http.send("PUT", place["uploadUrl"], scope=None, data=content, headers=headers)
        if sent.status_code != 201:
            raise AmlflowError(f"The build context was refused ({sent.status_code}): {fault(sent)[1]}")
        asked = {
            "type": "DockerBuildRequest",
            "imageNames": [f"{name}:{tag}"],
            "isPushEnabled": True,
            "dockerFilePath": "Dockerfile",
            "sourceLocation": place["relativePath"],
            "platform": {"os": "Linux", "architecture": "amd64"},
            "timeout": _BUILD_S,
        }
        try:
            run = self._arm.content(self._arm.post(f"{registry.id}/scheduleRun", TASKS_API, what, asked))
        except AmlflowError as error:
            if "TasksOperationsNotAllowed" in error.message:
                raise NotSupported(
                    f"The registry {registry.server} builds no images: Azure allows no tasks to this subscription.",
                    "Write the build context with `amlflow model image MODEL --to DIR`, and build and push it with docker.",
                ) from error
            raise
        self._follow(f"{registry.id}/runs/{run['properties']['runId']}", what, report)

    def make_token(self, name: str, repository: str) -> PullToken:
        """A token with a new password that pulls from the repository; one of that name gets a new password. Raises `NotAllowed`
        without the right to make one."""
        registry, what = self.get(), f"token {name!r} of the container registry"
        actions = [f"repositories/{repository}/content/read", f"repositories/{repository}/metadata/read"]
        scope, token = f"{registry.id}/scopeMaps/{name}", f"{registry.id}/tokens/{name}"
        for path, properties in (
            (scope, {"description": "Pulls the image of an endpoint.", "actions": actions}),
            (token, {"scopeMapId": scope, "status": "enabled"}),
        ):
            self._arm.finished(self._arm.put(path, REGISTRY_API, what, {"properties": properties}), what)
        asked = {"tokenId": token, "name": "password1"}
        answer = self._arm.post(f"{registry.id}/generateCredentials", REGISTRY_API, what, asked)
        content = self._arm.finished(answer, what)
        return PullToken(str(content["username"]), str(content["passwords"][0]["value"]))

    def has_token(self, name: str) -> bool:
        """Whether `make_token` has begun to make it: its scope comes first and goes last."""
        what = f"token {name!r} of the container registry"
        try:
            self._arm.get(f"{self.get().id}/scopeMaps/{name}", REGISTRY_API, what)
        except NotFound:
            return False
        return True

    def delete_token(self, name: str) -> None:
        """That it is gone already is as good."""
        for kind in ("tokens", "scopeMaps"):
            what = f"token {name!r} of the container registry"
            with contextlib.suppress(NotFound):
                self._arm.finished(self._arm.delete(f"{self.get().id}/{kind}/{name}", REGISTRY_API, what), what)

    def _follow(self, run: str, what: str, report: Callable[[str], None]) -> None:
        link = str(self._arm.content(self._arm.post(f"{run}/listLogSasUrl", TASKS_API, what)).get("logLink") or "")
        read, rest, lines = 0, b"", list[str]()
        deadline = time.monotonic() + _BUILD_S + 600
        while True:
            properties = self._arm.get(run, TASKS_API, what).get("properties") or {}
            status = str(properties.get("status") or "")
            fresh = self._log(link, read)
            read += len(fresh)
            # Whole lines alone, but at the end: bytes of one character may come in two parts.
            *whole, rest = (rest + fresh).split(b"\n")
            if status.lower() not in _GOING and rest:
                whole.append(rest)
            for line in whole:
                lines.append(line.decode("utf-8", "replace"))
                report(lines[-1])
            if status.lower() == "succeeded":
                return
            if status.lower() not in _GOING:
                said = str(properties.get("runErrorMessage") or "")
                tail = "\n".join(lines[-_TAIL_LINES:]).strip()
                raise AmlflowError(
                    f"The {what} {status.lower()}{f': {said}' if said else '.'}", f"The end of its log:\n{tail}"
                )
            if time.monotonic() > deadline:
                raise AmlflowError(f"The {what} has not ended after {_BUILD_S // 60} minutes.")
            time.sleep(_POLL_S)

    def _log(self, link: str, offset: int) -> bytes:
        """What the log has beyond the offset; nothing while there is no log yet."""
        if not link:
            return b""
        answer = self._service.http.send("GET", link, scope=None, headers={"Range": f"bytes={offset}-"})
        if answer.status_code == 206:
            return bytes(answer.content)
        return bytes(answer.content[offset:]) if answer.status_code == 200 else b""

    def _token(self, registry: Registry, name: str) -> str:
        given = self._service.http.credential.header("")["Authorization"].partition(" ")[2]
        form = {"grant_type": "access_token", "service": registry.server, "access_token": given}
        refresh = self._asked(registry, "exchange", form)["refresh_token"]
        form = {"grant_type": "refresh_token", "service": registry.server, "refresh_token": refresh}
        return str(self._asked(registry, "token", {**form, "scope": f"repository:{name}:pull"})["access_token"])

    def _asked(self, registry: Registry, what: str, form: dict[str, str]) -> dict[str, Any]:
        answer = self._service.http.send(
            "POST",
            f"https://{registry.server}/oauth2/{what}",
            scope=None,
            data=urlencode(form).encode(),
            headers={"Content-Type": "application/x-www-form-urlencoded"},
        )
        if answer.status_code != 200:
            raise self._refused(registry, answer)
        content: dict[str, Any] = json.loads(answer.content)
        return content

    @staticmethod
    def _refused(registry: Registry, answer: Any) -> AmlflowError:
        text = f"The container registry {registry.server} refused ({answer.status_code}): {fault(answer)[1] or 'no reason given'}"
        if answer.status_code in (401, 403):
            return NotAllowed(text, "Ask for the role «AcrPull» or «Contributor» on the registry.")
        return AmlflowError(text)


def _packed(context: Path) -> bytes:
    """The folder as one archive; of the same content always the same bytes."""
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as archive:
        for file in sorted(item for item in context.rglob("*") if item.is_file()):
            member = tarfile.TarInfo(file.relative_to(context).as_posix())
            member.size, member.mode = file.stat().st_size, 0o644
            with file.open("rb") as source:
                archive.addfile(member, source)
    return gzip.compress(plain.getvalue(), mtime=0)
