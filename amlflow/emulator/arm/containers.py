"""Container groups of Microsoft.ContainerInstance: checked, kept, and run as processes of this machine."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from amlflow.emulator.arm import container_rules as rules
from amlflow.emulator.arm.container_rules import KIND
from amlflow.emulator.arm.identities import Identities
from amlflow.emulator.arm.registries import KIND as REGISTRY_KIND
from amlflow.emulator.arm.registries import Registries
from amlflow.emulator.arm.registry_tokens import RegistryTokens
from amlflow.emulator.arm.resources import GROUP_PATTERN, UNKNOWN_S, Arm, missing, page, required
from amlflow.emulator.arm.roles import Roles
from amlflow.emulator.arm.workspaces import REGISTRY, author
from amlflow.emulator.metadata import Metadata
from amlflow.emulator.running.containers import Container, Spec, end_left
from amlflow.emulator.settings import HOST, LOCATION
from amlflow.emulator.store import Document
from amlflow.emulator.web import Answer, Request, Route, arm_error

_GROUPS = f"{GROUP_PATTERN}/providers/{KIND}"
_GROUP = f"{_GROUPS}/{{containers}}"
_LOCATION = "/subscriptions/{subscription}/providers/Microsoft.ContainerInstance/locations/{location}"
_PASSING = ("Pending", "Deleting")


class ContainerGroups:
    """`close` ends the processes; their groups stay, and `resume` brings them up again."""

    def __init__(
        self,
        arm: Arm,
        registries: Registries,
        identities: Identities,
        roles: Roles,
        tokens: RegistryTokens,
        metadata: Metadata,
    ) -> None:
        self._arm, self._registries, self._identities, self._roles = arm, registries, identities, roles
        self._tokens, self._metadata = tokens, metadata
        self._lock = threading.Lock()
        self._running: dict[str, list[Container]] = {}
        self._closed = False

    def routes(self) -> list[Route]:
        return [
            Route("GET", _GROUPS, self._list),
            Route("GET", _GROUP, self._get),
            Route("PUT", _GROUP, self._put),
            Route("DELETE", _GROUP, self._delete),
            Route("POST", f"{_GROUP}/stop", self._stop),
            Route("POST", f"{_GROUP}/start", self._start),
            Route("POST", f"{_GROUP}/restart", self._restart),
            Route("GET", f"{_GROUP}/containers/{{container}}/logs", self._logs),
            Route("GET", f"{_LOCATION}/usages", self._usages),
            Route("GET", f"{_LOCATION}/operations/{{operation}}", self._arm.operation_status),
        ]

    def resume(self) -> None:
        for group in rules.every(self._arm):
            for pid, started in group.body.get("processes", {}).values():
                end_left(pid, started)
            if group.body["state"] == "Deleting":
                self._arm.store.delete(group.id)
            elif not group.body["stopped"]:
                self._work(self._bring_up, group, group.body.get("operation") or "")

    def close(self) -> None:
        with self._lock:
            self._closed = True
            running, self._running = self._running, {}
        for containers in running.values():
            for container in containers:
                container.stop()

    def upstream(self, host: str) -> tuple[Document | None, int]:
        """The group with that name, and the port of this machine that its proxy hands requests to: 0 where none answers."""
        for group in rules.every(self._arm):
            if self._fqdn(group) != host:
                continue
            for given in group.body["properties"]["containers"]:
                command = given["properties"].get("command") or []
                if command[:2] == ["caddy", "reverse-proxy"] and _named(command, "--from").partition(":")[0] == host:
                    inside = int(_named(command, "--to").rpartition(":")[2] or 0)
                    with self._lock:
                        behind = [item.port(inside) for item in self._running.get(group.id.lower(), [])]
                    return group, next((port for port in behind if port), 0)
            return group, 0
        return None, 0

    def _id(self, request: Request) -> str:
        self._arm.check_group(request.values["group"])
        return f"{self._arm.group_id(request.values['group'])}/providers/{KIND}/{request.values['containers']}"

    def _find(self, request: Request) -> Document:
        found = self._arm.store.get(self._id(request))
        if found is None:
            raise missing(f"{KIND}/{request.values['containers']}", request.values["group"])
        return found

    def _list(self, request: Request) -> Answer:
        self._arm.check_group(request.values["group"])
        found = self._arm.store.children(f"{self._arm.group_id(request.values['group'])}/providers/{KIND}")
        return page(request, found, lambda item: self._render(item, with_view=False))

    def _get(self, request: Request) -> Answer:
        return Answer(content=self._render(self._find(request)))

    def _put(self, request: Request) -> Answer:
        id, name, body = self._id(request), request.values["containers"], request.json()
        with required("container group"), self._arm.store.undisturbed():
            before = self._arm.store.get(id)
            if before is not None and before.body["state"] in _PASSING:
                text = f"The container group '{name}' is still transitioning, please retry later."
                raise arm_error(409, "ContainerGroupTransitioning", text)
            properties = json.loads(json.dumps(body["properties"]))
            others = [item for item in rules.every(self._arm) if before is None or item.id != before.id]
            rules.check(name, body, before, others)
            self._check_images(request, name, body, properties)
            operation = self._arm.begin(id, takes_s=UNKNOWN_S)
            content = {
                "location": body["location"],
                "tags": body.get("tags") or {},
                "identity": body.get("identity"),
                "properties": properties,
                "state": "Pending",
                "stopped": False,
                "operation": operation.id,
                "processes": before.body["processes"] if before else {},
            }
            made, new = self._arm.store.put(id, content, author(request))
        self._work(self._bring_up, made, operation.id)
        return self._polled(request, operation.id, 201 if new else 200, self._render(made))

    def _delete(self, request: Request) -> Answer:
        found = self._arm.store.get(self._id(request))
        if found is None:
            return Answer(204)
        self._arm.store.change(found.id, lambda body: body.update(state="Deleting"))
        operation = self._arm.begin(found.id, takes_s=UNKNOWN_S)

        def take_down(group: Document, begun: str) -> None:
            for container in self._end(group):
                container.forget()
            self._arm.store.delete(group.id)
            self._arm.finish(begun)

        self._work(take_down, found, operation.id)
        return self._polled(request, operation.id, 202)

    def _stop(self, request: Request) -> Answer:
        found = self._find(request)
        self._arm.store.change(found.id, lambda body: body.update(stopped=True))
        self._end(found)
        return Answer(204)

    def _start(self, request: Request) -> Answer:
        found = self._find(request)
        self._arm.store.change(found.id, lambda body: body.update(stopped=False, state="Pending"))
        operation = self._arm.begin(found.id, takes_s=UNKNOWN_S)
        self._work(self._bring_up, found, operation.id)
        return self._polled(request, operation.id, 202)

    def _restart(self, request: Request) -> Answer:
        self._start(request)
        return Answer(204)

    def _logs(self, request: Request) -> Answer:
        found, name = self._find(request), request.values["container"]
        tail = int(request.query.get("tail") or 4096)
        with self._lock:
            container = next((item for item in self._running.get(found.id.lower(), []) if item.spec.name == name), None)
        if container is None and name not in [item["name"] for item in found.body["properties"]["containers"]]:
            raise arm_error(
                404, "ContainerNotFound", f"Container '{name}' in container group '{found.name}' is not found."
            )
        return Answer(content={"content": container.log(tail) if container else ""})

    def _usages(self, request: Request) -> Answer:
        return Answer(content={"value": rules.usages(rules.every(self._arm), request.path.rpartition("/")[0])})

    def _check_images(
        self, request: Request, name: str, body: Mapping[str, Any], properties: Mapping[str, Any]
    ) -> None:
        """Raises the service's refusal of an image that is not there, or that the group may not pull."""
        given = (body.get("identity") or {}).get("userAssignedIdentities") or {}
        identities = {item.lower() for item in given}
        for identity in identities:
            if self._identities.get(identity) is None:
                text = f"The identity(s) {identity} for resource '{name}' could not be found."
                raise arm_error(400, "FailedIdentityOperation", text)
        registry = f"{self._arm.group_id(request.values['group'])}/providers/{REGISTRY_KIND}/{REGISTRY}"
        for container in properties["containers"]:
            reference = container["properties"]["image"]
            server, _, rest = reference.partition("/")
            if server != request.base_url.removeprefix("https://"):
                # The emulator pulls nothing from elsewhere; it plays Caddy itself.
                fits = (container["properties"].get("command") or [""])[0] == "caddy"
            else:
                credentials = properties.get("imageRegistryCredentials") or []
                fits = self._registries.image(rest) is not None and any(
                    item["server"] == server and self._opens(registry, item, identities, rest.partition(":")[0])
                    for item in credentials
                )
            if not fits:
                text = (
                    f"The image '{reference}' in container group '{name}' is not accessible. Please check the image and registry "
                    "credential."
                )
                raise arm_error(400, "InaccessibleImage", text)

    def _opens(self, registry: str, given: Mapping[str, str], identities: set[str], repository: str) -> bool:
        if identity := given.get("identity"):
            return identity.lower() in identities and self._roles.may_pull(self._identities.get(identity), registry)
        return self._tokens.may_pull(registry, given.get("username", ""), given.get("password", ""), repository)

    def _bring_up(self, group: Document, operation: str) -> None:
        self._end(group)
        time.sleep(self._arm.pace_s)
        now = self._arm.store.get(group.id)
        if now is None or now.body["state"] == "Deleting":
            return
        made = [self._container(now, given) for given in now.body["properties"]["containers"]]
        with self._lock:
            if self._closed:
                return
            self._running[group.id.lower()] = made
        for container in made:
            container.start()
        for container in made:
            container.started.wait()

        def settle(body: dict[str, Any]) -> None:
            if body["state"] == "Pending":
                body["state"] = "Succeeded"

        self._arm.store.change(group.id, settle)
        if operation:
            self._arm.finish(operation)

    def _container(self, group: Document, given: Mapping[str, Any]) -> Container:
        asked, name = given["properties"], given["name"]
        variables = {
            item["name"]: str(item.get("secureValue") or item.get("value") or "")
            for item in asked.get("environmentVariables") or []
        }
        variables |= self._metadata.variables(group)
        spec = Spec(
            name,
            asked["image"],
            self._registries.image(asked["image"].partition("/")[2]),
            asked.get("command") or [],
            [int(item["port"]) for item in asked.get("ports") or []],
            variables,
            asked.get("livenessProbe") or {},
            asked.get("readinessProbe") or {},
            group.body["properties"].get("restartPolicy") or "Always",
        )

        def note(process: tuple[int, float] | None) -> None:
            def edit(body: dict[str, Any]) -> None:
                body["processes"].pop(name, None)
                if process is not None:
                    body["processes"][name] = process

            self._arm.store.change(group.id, edit)

        key = hashlib.sha256(f"{group.id.lower()} {name}".encode()).hexdigest()[:24]
        folder = Path(self._arm.place) / "containers"
        folder.mkdir(mode=0o700, exist_ok=True)
        (folder / f"{key}.log").unlink(missing_ok=True)
        return Container(spec, folder / f"{key}.log", note)

    def _end(self, group: Document) -> list[Container]:
        with self._lock:
            containers = self._running.pop(group.id.lower(), [])
        for container in containers:
            container.stop()
        return containers

    @staticmethod
    def _work(act: Any, group: Document, operation: str) -> None:
        threading.Thread(target=act, args=(group, operation), name=f"group {group.name}", daemon=True).start()

    def _polled(self, request: Request, operation: str, status: int, content: Any = None) -> Answer:
        version = request.query.get("api-version", "2023-05-01")
        root = (
            f"{request.base_url}/subscriptions/{self._arm.settings.subscription}/providers/Microsoft.ContainerInstance"
        )
        address = f"{root}/locations/{LOCATION}/operations/{operation.rpartition('/')[2]}?api-version={version}"
        return Answer(status, content, {"azure-asyncoperation": address, "retry-after": "1"})

    def _fqdn(self, group: Document) -> str:
        label = (group.body["properties"].get("ipAddress") or {}).get("dnsNameLabel")
        return f"{label}.{group.body['location']}.localhost" if label else ""

    def _render(self, group: Document, with_view: bool = True) -> dict[str, Any]:
        """As the service shows it: without any secret, and with the containers' states unless it is one of a list."""
        body = group.body
        properties = json.loads(json.dumps(body["properties"]))
        with self._lock:
            running = {item.spec.name: item for item in self._running.get(group.id.lower(), [])}
        for container in properties["containers"]:
            for variable in container["properties"].get("environmentVariables") or []:
                if "secureValue" in variable:
                    del variable["secureValue"]
            if with_view and container["name"] in running:
                container["properties"]["instanceView"] = running[container["name"]].view()
        for credential in properties.get("imageRegistryCredentials") or []:
            credential.pop("password", None)
        address = properties.get("ipAddress")
        if address is not None:
            address["ip"] = "10.0.0.4" if address.get("type") == "Private" else HOST
            if host := self._fqdn(group):
                address["fqdn"] = f"{host}:{self._arm.settings.port}"
        properties["provisioningState"] = body["state"]
        if with_view:
            state = "Stopped" if body["stopped"] else "Running" if running else "Pending"
            properties["instanceView"] = {"events": [], "state": state}
        shown = {"id": group.id, "name": group.name, "type": KIND, "location": body["location"], "tags": body["tags"]}
        if identity := body["identity"]:
            users = {name: self._shown_identity(name) for name in identity.get("userAssignedIdentities") or {}}
            shown["identity"] = {"type": identity["type"], "userAssignedIdentities": users}
        return {**shown, "properties": properties}

    def _shown_identity(self, id: str) -> dict[str, str]:
        found = self._arm.store.get(id)
        return {name: found.body[name] for name in ("principalId", "clientId")} if found else {}


def _named(command: list[str], option: str) -> str:
    return command[command.index(option) + 1] if option in command[:-1] else ""
