"""The log of an online endpoint, as its deployments take turns."""

from __future__ import annotations

import re
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from amlflow.errors import NotFound
from amlflow.targets.base import newer
from amlflow.targets.situation import live_of
from amlflow.workspaces.azure.endpoints import AzureEndpoints, named

MOST_LINES = 1000
_FOLLOW_S = 5.0
# As the service's scorers and its inference server write a request that they have answered.
_SCORED = re.compile(r"POST /score\S*?(?: HTTP/[\d.]+\")? (?P<status>\d{3})(?: (?P<ms>[\d.]+) ?ms)?")


@dataclass(frozen=True, slots=True)
class Requests:
    """What a stretch of a log says of requests: how many, how many of them failed, and the median time in ms, None where it says
    nothing of times."""

    count: int
    failed: int
    median_ms: float | None

    @property
    def failing(self) -> float:
        return self.failed / self.count if self.count else 0.0


def lines_of(azure: AzureEndpoints, name: str, follow: bool, lines: int, deployment: str = "") -> Iterator[str]:
    """The last lines of the named deployment or of the one that answers. With `follow`, the lines that come, of whichever answers
    by then; a line `==> NAME <==` says that it is another's turn. Raises `NotFound`."""
    shown = _whose(azure, name, deployment)
    seen: Sequence[str] = azure.logs(name, shown, lines)
    yield from seen
    while follow:
        time.sleep(_FOLLOW_S)
        now = _whose(azure, name, deployment)
        if now != shown:
            shown, seen = now, []
            yield f"==> {shown} <=="
        fresh = azure.logs(name, shown, MOST_LINES)
        yield from newer(seen, fresh)
        seen = fresh or seen


def requests_in(lines: Sequence[str]) -> Requests:
    found = [match for line in lines if (match := _SCORED.search(line))]
    times = [float(match["ms"]) for match in found if match["ms"]]
    failed = sum(match["status"] != "200" for match in found)
    return Requests(len(found), failed, statistics.median(times) if times else None)


def _whose(azure: AzureEndpoints, name: str, deployment: str) -> str:
    endpoint, deployments = azure.get(name), azure.deployments(name)
    if deployment and named(deployments, deployment) is None:
        known = [item.name for item in deployments]
        raise NotFound(
            f"Endpoint {name!r} has no deployment {deployment!r}.",
            f"It has {', '.join(known) or 'none'}.",
            name=deployment,
            known=known,
        )
    found = deployment or live_of(endpoint, deployments) or next((item.name for item in deployments), "")
    if not found:
        raise NotFound(f"Endpoint {name!r} has no deployment, and so no log.", "Deploy a model to it.")
    return found
