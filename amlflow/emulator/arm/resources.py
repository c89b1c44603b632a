"""What all resource types of ARM share: ids, envelopes, pages and long-running operations."""

from __future__ import annotations

import json
import re
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from amlflow.emulator.settings import LOCATION, Settings
from amlflow.emulator.store import Document, Store
from amlflow.emulator.web import Answer, Request, ServiceError, arm_error, iso, query_string, service_error

PROVIDER = "Microsoft.MachineLearningServices"
GROUP_PATTERN = "/subscriptions/{subscription}/resourceGroups/{group}"
WORKSPACE_PATTERN = f"{GROUP_PATTERN}/providers/{PROVIDER}/workspaces/{{workspace}}"
RETRY_AFTER_S = 1
# For operations that end when their work is done: later than any test or user waits.
UNKNOWN_S = 10 * 365 * 86_400.0
PAGE_SIZE = 30
_OPERATIONS = "/operations"
_FINISHED = ("Succeeded", "Failed", "Canceled")


@dataclass(frozen=True, slots=True)
class Operation:
    """A piece of work that a client polls. `ends` is when it is done, in epoch seconds."""

    id: str
    resource: str
    ends: float
    error: Mapping[str, Any] | None = None

    @property
    def done(self) -> bool:
        return time.time() >= self.ends


class Arm:
    """The resources of the subscription. `pace_s` is how long an operation takes that would be minutes in the service."""

    def __init__(self, settings: Settings, store: Store, place: Path, pace_s: float = 0.5) -> None:
        self.settings, self.store, self.place, self.pace_s = settings, store, place, pace_s

    def group_id(self, group: str) -> str:
        return f"/subscriptions/{self.settings.subscription}/resourceGroups/{group}"

    def workspace_id(self, request: Request) -> str:
        return f"{self.group_id(request.values['group'])}/providers/{PROVIDER}/workspaces/{request.values['workspace']}"

    def workspace(self, request: Request) -> Document:
        """The workspace of the request's path. Raises ARM's own refusals for a missing group or workspace."""
        group, name = request.values["group"], request.values["workspace"]
        self.check_group(group)
        found = self.store.get(self.workspace_id(request))
        if found is None:
            raise missing(f"{PROVIDER}/workspaces/{name}", group)
        return found

    def check_group(self, group: str) -> None:
        if self.store.get(self.group_id(group)) is None:
            raise arm_error(404, "ResourceGroupNotFound", f"Resource group '{group}' could not be found.")

    def envelope(
        self, document: Document, resource_type: str, properties: Mapping[str, Any], /, **more: Any
    ) -> dict[str, Any]:
        """The document as ARM shows it; `resource_type` is the type below the provider."""
        return {
            "id": document.id,
            "name": document.name,
            "type": f"{PROVIDER}/{resource_type}",
            "properties": dict(properties),
            "systemData": system_data(document),
            **more,
        }

    # long-running operations

    def begin(self, resource: str, error: Mapping[str, Any] | None = None, takes_s: float | None = None) -> Operation:
        made = Operation(
            f"{_OPERATIONS}/{uuid.uuid4()}",
            resource,
            time.time() + (self.pace_s if takes_s is None else takes_s),
            error,
        )
        self.store.put(made.id, {"resource": resource, "ends": made.ends, "error": error})
        return made

    def finish(self, operation: str, error: Mapping[str, Any] | None = None) -> None:
        """End an operation that was begun without a known end."""

        def edit(body: dict[str, Any]) -> None:
            body.update(ends=time.time(), error=error)

        self.store.change(operation, edit)

    def accepted(
        self,
        request: Request,
        operation: Operation,
        status: int = 202,
        content: Any = None,
        kind: str = "computeOperationsStatus",
    ) -> Answer:
        """The answer that hands out the addresses to poll."""
        version = request.query.get("api-version", "2023-10-01")
        root = (
            f"{request.base_url}/subscriptions/{self.settings.subscription}/providers/{PROVIDER}/locations/{LOCATION}"
        )
        name = operation.id.rpartition("/")[2]
        result_kind = kind.replace("OperationsStatus", "OperationResults")
        headers = {
            "azure-asyncoperation": f"{root}/{kind}/{name}?api-version={version}&service=new",
            "location": f"{root}/{result_kind}/{name}?api-version={version}&service=new",
            "retry-after": str(RETRY_AFTER_S),
        }
        if status == 201:
            # A created resource is at its own address already; only the operation is polled.
            del headers["location"]
        return Answer(status, content, headers)

    def operation(self, name: str) -> Operation:
        found = self.store.get(f"{_OPERATIONS}/{name}")
        if found is None:
            raise arm_error(404, "OperationNotFound", f"The operation '{name}' could not be found.")
        return Operation(found.id, found.body["resource"], found.body["ends"], found.body["error"])

    def operation_status(self, request: Request) -> Answer:
        """What Azure-AsyncOperation leads to."""
        found = self.operation(request.values["operation"])
        status = "InProgress" if not found.done else "Failed" if found.error else "Succeeded"
        content: dict[str, Any] = {"id": request.path, "name": request.values["operation"], "status": status}
        if status in _FINISHED:
            content["endTime"] = iso(found.ends)
        if status == "Failed":
            content["error"] = found.error
        return Answer(200, content, {} if found.done else {"retry-after": str(RETRY_AFTER_S)})

    def operation_result(self, request: Request) -> Answer:
        """What Location leads to: 202 until it is done."""
        found = self.operation(request.values["operation"])
        if not found.done:
            return Answer(
                202,
                None,
                {"location": f"{request.base_url}{request.path}?{query_string(request.query)}", "retry-after": "1"},
            )
        if found.error:
            return Answer(409, {"error": found.error})
        return Answer(200 if self.store.get(found.resource) else 204)


def missing(resource: str, group: str) -> ServiceError:
    """ARM's answer for a resource of its own that is not there."""
    text = (
        f"The Resource '{resource}' under resource group '{group}' was not found. For more details please go to "
        "https://aka.ms/ARMResourceNotFoundFix"
    )
    return arm_error(404, "ResourceNotFound", text)


def check_name(name: str, pattern: str, what: str) -> None:
    """Raises the service's refusal of a name that breaks its pattern."""
    if not re.fullmatch(pattern, name):
        text = f"{what} name '{name}' is not valid. It must match the pattern ^{pattern}$."
        raise service_error(400, text, inner=("BadArgument", "ArgumentInvalid"))


def body_properties(request: Request) -> tuple[dict[str, Any], dict[str, Any]]:
    """The body and its `properties`. Raises the service's refusal where they are missing."""
    body = request.json()
    properties = body.get("properties")
    if not isinstance(properties, dict):
        raise service_error(
            400, "The request body must hold 'properties'.", inner=("BadArgument", "ArgumentBlankOrEmpty")
        )
    return body, properties


def page(request: Request, items: Sequence[Any], render: Callable[[Any], Any], size: int = PAGE_SIZE) -> Answer:
    """One page of the items, with a link to the next where there is one. `$top` and `count` make it smaller, `$skip` (the token
    of the link) says where it starts."""
    text = request.query.get("$skip", request.query.get("$skipToken", "0"))
    asked = request.query.get("$top") or request.query.get("count") or str(size)
    if not (text.isdigit() and asked.isdigit() and int(asked)):
        raise service_error(
            400, f"The continuation token '{text}' or the count '{asked}' is not valid.", inner=("BadArgument",)
        )
    first, count = int(text), min(size, int(asked))
    shown = [render(item) for item in items[first : first + count]]
    content: dict[str, Any] = {"value": shown}
    if first + count < len(items):
        query = {name: value for name, value in request.query.items() if name not in ("$skip", "$skipToken")}
        content["nextLink"] = f"{request.base_url}{request.path}?{query_string({**query, '$skip': str(first + count)})}"
    return Answer(content=content)


def system_data(document: Document) -> dict[str, Any]:
    author = document.created_by or "emulator"
    return {
        "createdAt": iso(document.created),
        "createdBy": author,
        "createdByType": "Application",
        "lastModifiedAt": iso(document.updated),
        "lastModifiedBy": author,
        "lastModifiedByType": "Application",
    }


def merge(target: dict[str, Any], change: Mapping[str, Any]) -> None:
    """Merge as JSON Merge Patch does: None removes."""
    for name, value in change.items():
        if value is None:
            target.pop(name, None)
        elif isinstance(value, Mapping) and isinstance(target.get(name), dict):
            merge(target[name], value)
        else:
            target[name] = json.loads(json.dumps(value))


@contextmanager
def required(what: str) -> Iterator[None]:
    """A stretch that reads a request's body: what is missing or of another kind becomes the service's refusal."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise service_error(
            400,
            f"The request is not a valid {what}: {error!r} is missing or wrong.",
            inner=("BadArgument", "ArgumentInvalid"),
        ) from error
