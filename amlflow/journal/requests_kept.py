"""Writes that are requests of MLflow's REST API as they are; what the service has no route for is kept with the run."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Mapping

from .aside import Aside
from .errors import Refused, Unreachable
from .folder import GENERAL, RunFolder
from .held import read_run
from .identities import Identities
from .rest import Behind

_FOLDER = "amlflow/unsupported"


@dataclass(frozen=True)
class Place:
    """The run that a request is of, here and in the workspace."""

    folder: RunFolder
    run_id: str
    behind: Behind
    identities: Identities
    aside: Aside


def send(place: Place, record: List[Any], insist: Callable[[Callable[[bool], Any], bool], Any], unsure: bool) -> None:
    """Send ["r", method, path, body]. Raises `Refused` for a refusal of this very request."""
    _, method, path, given = record
    path, body = place.identities.replaced(path), place.identities.replaced(given)

    def attempt(look: bool) -> None:
        left = _missing(place, path, body) if look else body
        if left is None:
            return
        try:
            _ask(place.behind, method, path, left)
        except Refused as refused:
            # The attempt before this one made it.
            if not (look and refused.code == "RESOURCE_ALREADY_EXISTS"):
                raise

    try:
        insist(attempt, unsure)
    except Refused as refused:
        if not refused.lacks_route and not _is_forbidden(place, refused):
            raise
        _keep(place, record, refused)


def _ask(behind: Behind, method: str, path: str, body: Mapping[str, Any]) -> None:
    if "raw" not in body:
        behind.request(method, path, body, retry=False)
        return
    raw = getattr(behind, "raw", None)
    if raw is None:
        raise Refused(501, "ENDPOINT_NOT_FOUND", f"{path} cannot be sent to this workspace.")
    status, _, answer = raw(method, path, body.get("headers", {}), base64.b64decode(body["raw"]))
    text = bytes(answer[:300]).decode("utf-8", "replace")
    if status >= 500 or status in (408, 429):
        raise Unreachable(f"{path} answered {status}", maybe_applied=status not in (408, 429), status=status)
    if status >= 300:
        raise Refused(
            status, "ENDPOINT_NOT_FOUND" if status in (404, 405) else "", text or f"{path} answered {status}."
        )


def _missing(place: Place, path: str, body: Dict[str, Any]) -> Any:
    """What of the request the run does not have; None for nothing. Of requests that cannot be looked up, all."""
    if path.endswith("/runs/log-inputs"):
        inputs = read_run(place.behind, place.run_id).get("inputs", {})
        known = {_dataset(item) for item in inputs.get("dataset_inputs", [])}
        models = {item.get("model_id") for item in inputs.get("model_inputs", [])}
        left = {
            **body,
            "datasets": [item for item in body.get("datasets", []) if _dataset(item) not in known],
            "models": [item for item in body.get("models", []) if item.get("model_id") not in models],
        }
        return left if left["datasets"] or left["models"] else None
    if path.endswith("/runs/outputs"):
        outputs = read_run(place.behind, place.run_id).get("outputs", {}).get("model_outputs", [])
        made = {_output(item) for item in outputs}
        left = {**body, "models": [item for item in body.get("models", []) if _output(item) not in made]}
        return left if left["models"] else None
    return body


def _dataset(item: Mapping[str, Any]) -> Any:
    dataset = item.get("dataset", {})
    return dataset.get("name"), dataset.get("digest")


def _output(item: Mapping[str, Any]) -> Any:
    return item.get("model_id"), int(item.get("step") or 0)


def _is_forbidden(place: Place, refused: Refused) -> bool:
    """Whether 403 means that the service does not have this, as Azure ML means it of traces: the run itself can be read."""
    if refused.status != 403 or place.folder.id == GENERAL:
        return False
    read_run(place.behind, place.run_id)
    return True


def _keep(place: Place, record: List[Any], refused: Refused) -> None:
    _, method, path, body = record
    if place.folder.id == GENERAL:
        place.aside.refuse(record, f"The workspace has no {path}.")
        return
    match = re.search(r"/mlflow/([\w./-]+?)(?:/[0-9a-f]{16,}.*)?$", path)
    name = re.sub(r"[^\w-]+", "-", match.group(1) if match else path).strip("-") or "requests"
    sentence = (
        f"The workspace has no {name} (it answered {refused.status}): what run {place.folder.id} logged of that is in its "
        f"artifact {_FOLDER}/{name}.jsonl."
    )
    place.aside.add_line(f"{_FOLDER}/{name}.jsonl", {"method": method, "path": path, "body": body}, sentence)
