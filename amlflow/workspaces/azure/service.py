"""One Azure ML workspace as its resource manager describes it: what all the files here share."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlsplit

from amlflow import paths
from amlflow.errors import AmlflowError, NotFound
from amlflow.workspaces.azure import private
from amlflow.workspaces.azure.arm import PROVIDER, Arm, segment

WORKSPACES_API = "2024-10-01-preview"
_KEPT_S = 86_400.0
_Found = TypeVar("_Found")


@dataclass(frozen=True, slots=True)
class Description:
    """What of a workspace does not change. `host` is the data plane of its region."""

    location: str
    host: str
    tracking_uri: str
    workspace_id: str
    tenant: str = ""


class Service:
    """The workspace at `path`, an ARM id."""

    def __init__(self, arm: Arm, subscription: str, group: str, name: str, host: str = "") -> None:
        self.arm, self.http = arm, arm.http
        self.subscription, self.group, self.name = subscription, group, name
        self.path = (
            f"/subscriptions/{segment(subscription)}/resourceGroups/{segment(group)}/providers/{PROVIDER}"
            f"/workspaces/{segment(name)}"
        )
        self._host = host
        self._description: Description | None = None
        arm.neighbours = self._neighbours

    def read(self) -> dict[str, Any]:
        """The workspace's own record, asked for anew. Raises `NotFound`, naming the nearest workspaces of the group."""
        what = f"Azure ML workspace {self.name!r} in {self.subscription}/{self.group}"
        content = self.arm.get(self.path, WORKSPACES_API, what)
        self._keep(content)
        return content

    def description(self) -> Description:
        """Asked for once a day."""
        if self._description is None:
            kept = private.read(self._file()).get(self._key())
            if isinstance(kept, dict) and 0 <= time.time() - float(kept.get("read_s", 0)) < _KEPT_S:
                self._description = Description(**kept["description"])
            else:
                self.read()
        assert self._description is not None
        return self._description

    @property
    def host(self) -> str:
        return self._host or self.description().host

    def data_plane(self, service: str) -> str:
        """The address of a service of the data plane (`history/v1.0`, `mlflow/v2.0`) for this workspace."""
        return f"https://{self.host}/{service}{self.path}"

    def _keep(self, content: dict[str, Any]) -> None:
        properties = content.get("properties") or {}
        tracking = str(properties.get("mlFlowTrackingUri") or "")
        discovery = str(properties.get("discoveryUrl") or "")
        host = urlsplit(tracking).netloc or urlsplit(discovery).netloc
        if not host:
            raise AmlflowError(
                f"Azure names no data plane for the workspace {self.name!r}.", "It may still be being made: try later."
            )
        self._description = Description(
            str(content.get("location") or ""),
            host,
            tracking or f"azureml://{host}/mlflow/v1.0{self.path}",
            str(properties.get("workspaceId") or ""),
            str(properties.get("tenantId") or ""),
        )
        record = {
            "read_s": time.time(),
            "description": {name: getattr(self._description, name) for name in Description.__slots__},
        }
        private.change(self._file(), lambda kept: kept.update({self._key(): record}))

    def _neighbours(self) -> list[str]:
        group = self.path.rsplit("/", 1)[0]
        try:
            return [str(item.get("name")) for item in self.arm.pages(group, WORKSPACES_API, "workspace list")]
        except AmlflowError:
            return []

    def _file(self) -> Any:
        return paths.azure() / "workspaces.json"

    def _key(self) -> str:
        return f"{self.http.credential.cloud.arm}{self.path}".lower()


def or_nearest(fetch: Callable[[], _Found], name: str, known: Callable[[], Iterable[str]], mend: str) -> _Found:
    """What `fetch` gives; its `NotFound` with the nearest of the known names, unless it is the workspace that is missing."""
    try:
        return fetch()
    except NotFound as error:
        if error.mend:
            raise
        try:
            names = list(known())
        except AmlflowError:
            names = []
        raise NotFound(error.message, mend, name=name, known=names) from None


def iso_duration(seconds: int) -> str:
    return f"PT{seconds}S"


def duration_s(text: str | None) -> int | None:
    """Seconds of an ISO 8601 duration of days, hours, minutes and seconds; None for none."""
    match = re.fullmatch(r"P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+)(?:\.\d+)?S)?)?", text or "")
    if not match or not any(match.groups()):
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds


def epoch_ms(text: str | None) -> int | None:
    """Epoch milliseconds of an ISO 8601 time, which is UTC where it names no zone; None for none."""
    if not text:
        return None
    from datetime import datetime, timezone

    # Python before 3.11 reads neither Z nor the seven digits that .NET writes.
    plain = re.sub(r"(\.\d{6})\d+", r"\1", text.strip().replace("Z", "+00:00").replace("z", "+00:00"))
    plain = re.sub(r"\.(\d{1,5})(?=[+-]|$)", lambda match: "." + match[1].ljust(6, "0"), plain)
    try:
        moment = datetime.fromisoformat(plain)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=timezone.utc)
    return int(moment.timestamp() * 1000)
