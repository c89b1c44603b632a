"""Container registries: their tasks, which build images, and of their own API what tells whether an image is there."""

from __future__ import annotations

import io
import shutil
import tarfile
import tempfile
import threading
import time
import uuid
from pathlib import Path
from typing import Any

from amlflow.emulator.arm.resources import GROUP_PATTERN, Arm, missing
from amlflow.emulator.arm.workspaces import REGISTRY, author
from amlflow.emulator.blobs import Blobs
from amlflow.emulator.running.images import BuildFailed, Built, carry_out
from amlflow.emulator.settings import LOCATION
from amlflow.emulator.store import Document
from amlflow.emulator.web import Answer, Request, Route, arm_error, iso, iso_now

KIND = "Microsoft.ContainerRegistry/registries"
REGISTRY_PATTERN = f"{GROUP_PATTERN}/providers/{KIND}/{{registry}}"
_RUN = f"{REGISTRY_PATTERN}/runs/{{run}}"
_CONTAINER = "registry-tasks"
_IMAGES = "/images"


class Registries:
    """One registry a resource group, there from the start; images are of the whole emulator, by name and tag."""

    def __init__(self, arm: Arm, blobs: Blobs) -> None:
        self._arm, self._blobs = arm, blobs

    def routes(self) -> list[Route]:
        return [
            Route("GET", REGISTRY_PATTERN, self._get),
            Route("POST", f"{REGISTRY_PATTERN}/listBuildSourceUploadUrl", self._upload_url),
            Route("POST", f"{REGISTRY_PATTERN}/scheduleRun", self._schedule),
            Route("GET", _RUN, self._get_run),
            Route("POST", f"{_RUN}/listLogSasUrl", self._log_url),
            Route("POST", "/oauth2/exchange", self._exchange, plane="open"),
            Route("POST", "/oauth2/token", self._exchange, plane="open"),
            Route("GET", "/v2/{image}/manifests/{tag}", self._manifest, plane="open"),
        ]

    def resume(self) -> None:
        """A run that the emulator's end has cut does not go on: it failed."""
        groups = self._arm.store.children(f"/subscriptions/{self._arm.settings.subscription}/resourceGroups")
        for group in groups:
            for run in self._arm.store.children(f"{group.id}/providers/{KIND}/{REGISTRY}/runs"):
                if not run.body["ended"]:
                    self._change(run, status="Failed", ended=time.time(), error="The emulator was stopped meanwhile.")

    def image(self, reference: str) -> Built | None:
        """What was built of that name, without the server."""
        found = self._arm.store.get(f"{_IMAGES}/{reference}")
        return Built(found.body["command"], found.body["variables"]) if found else None

    def find(self, request: Request) -> str:
        """The id of the registry of the request's path. Raises ARM's refusals."""
        self._arm.check_group(request.values["group"])
        name = request.values["registry"]
        if name.lower() != REGISTRY:
            raise missing(f"{KIND}/{name}", request.values["group"])
        return f"{self._arm.group_id(request.values['group'])}/providers/{KIND}/{name}"

    def _get(self, request: Request) -> Answer:
        id = self.find(request)
        properties = {
            "loginServer": request.base_url.removeprefix("https://"),
            "provisioningState": "Succeeded",
            "adminUserEnabled": False,
        }
        content = {"id": id, "name": REGISTRY, "type": KIND, "location": LOCATION, "sku": {"name": "Basic"}}
        return Answer(content={**content, "properties": properties})

    def _upload_url(self, request: Request) -> Answer:
        self.find(request)
        self._blobs.ensure_container(_CONTAINER)
        path = f"source/{uuid.uuid4()}.tar.gz"
        url = self._blobs.signed_url(_CONTAINER, path, "rcw")
        return Answer(content={"uploadUrl": url, "relativePath": path})

    def _schedule(self, request: Request) -> Answer:
        id, asked = self.find(request), request.json()
        names, source = asked.get("imageNames"), asked.get("sourceLocation")
        if asked.get("type") != "DockerBuildRequest" or not names or not isinstance(source, str):
            text = "The emulator takes a DockerBuildRequest with imageNames and a sourceLocation."
            raise arm_error(400, "InvalidRunRequest", text)
        run = uuid.uuid4().hex[:6]
        body = {"status": "Queued", "images": names, "made": time.time(), "ended": None, "error": ""}
        made, _ = self._arm.store.put(f"{id}/runs/{run}", body, author(request))
        self._blobs.ensure_container(_CONTAINER)
        self._blobs.begin_log(_CONTAINER, f"logs/{run}.log")
        arguments = (made, source, str(asked.get("dockerFilePath") or "Dockerfile"))
        threading.Thread(target=self._work, args=arguments, name=f"build {run}", daemon=True).start()
        return Answer(200, self._render(made))

    def _work(self, run: Document, source: str, dockerfile: str) -> None:
        def say(line: str) -> None:
            self._blobs.append_log(_CONTAINER, f"logs/{run.name}.log", f"{iso_now()} {line}\n".encode())

        self._change(run, status="Running")
        place = self._arm.place / "images"
        try:
            place.mkdir(mode=0o700, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=place) as context:
                self._unpack(source, Path(context))
                built = carry_out(Path(context), dockerfile, place / uuid.uuid4().hex, say)
            for name in run.body["images"]:
                self._arm.store.put(f"{_IMAGES}/{name}", built.record())
                say(f"Successfully tagged {name}")
            self._change(run, status="Succeeded", ended=time.time())
        except Exception as error:
            # Whatever it was: a run that never ends would be waited for.
            try:
                say(str(error))
            finally:
                self._change(run, status="Failed", ended=time.time(), error=str(error))

    def _unpack(self, source: str, context: Path) -> None:
        content = self._blobs.get(_CONTAINER, source)
        if content is None:
            raise BuildFailed(f"failed to download the context {source}: BlobNotFound")
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as archive:
            for member in archive:
                target = context / member.name
                if not member.isfile() or not target.resolve().is_relative_to(context.resolve()):
                    continue
                target.parent.mkdir(parents=True, exist_ok=True)
                opened = archive.extractfile(member)
                assert opened is not None
                with opened, target.open("wb") as sink:
                    shutil.copyfileobj(opened, sink)

    def _change(self, run: Document, **fields: Any) -> None:
        self._arm.store.change(run.id, lambda body: body.update(fields))

    def _run(self, request: Request) -> Document:
        found = self._arm.store.get(f"{self.find(request)}/runs/{request.values['run']}")
        if found is None:
            raise arm_error(404, "RunNotFound", f"The run '{request.values['run']}' was not found.")
        return found

    def _get_run(self, request: Request) -> Answer:
        return Answer(content=self._render(self._run(request)))

    def _log_url(self, request: Request) -> Answer:
        run = self._run(request)
        return Answer(content={"logLink": self._blobs.signed_url(_CONTAINER, f"logs/{run.name}.log")})

    def _render(self, run: Document) -> dict[str, Any]:
        body = run.body
        properties = {
            "runId": run.name,
            "status": body["status"],
            "createTime": iso(body["made"]),
            "finishTime": iso(body["ended"]) if body["ended"] else None,
            "provisioningState": "Succeeded" if body["ended"] else "Running",
            "runErrorMessage": body["error"] or None,
        }
        return {"id": run.id, "name": run.name, "type": f"{KIND}/runs", "properties": properties}

    def _exchange(self, request: Request) -> Answer:
        """The registry's own tokens: whoever has one of Resource Manager gets it back. They open nothing but manifests."""
        form = request.form()
        token = form.get("access_token") or form.get("refresh_token", "")
        if not token:
            return Answer(401, {"errors": [{"code": "UNAUTHORIZED", "message": "authentication required"}]})
        kind = "refresh_token" if "access_token" in form else "access_token"
        return Answer(content={kind: token})

    def _manifest(self, request: Request) -> Answer:
        if not request.headers.get("authorization", "").startswith("Bearer "):
            return Answer(401, {"errors": [{"code": "UNAUTHORIZED", "message": "authentication required"}]})
        name = f"{request.values['image']}:{request.values['tag']}"
        if self._arm.store.get(f"{_IMAGES}/{name}") is None:
            return Answer(404, {"errors": [{"code": "MANIFEST_UNKNOWN", "message": f"manifest {name} is not found"}]})
        return Answer(content={"schemaVersion": 2}, media_type="application/vnd.docker.distribution.manifest.v2+json")
