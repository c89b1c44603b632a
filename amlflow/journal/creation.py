"""A run that was made while its workspace could not be reached, made there at last, and once."""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Mapping, Optional

from .errors import Refused
from .folder import RunFolder, write_json
from .identities import Identities
from .rest import Behind
from .stuck import Stuck, stuck_by

KEY_TAG = "amlflow.key"
_PARENT_TAG = "mlflow.parentRunId"
_OFFLINE_EXPERIMENT = "offline-"
_API = "/api/2.0/mlflow"

# Calls the function with whether an earlier attempt may have been applied, again and again until it returns.
Insist = Callable[[Callable[[bool], Any]], Any]


def waits_for_parent(folder: RunFolder, made: Mapping[str, Any], identities: Identities) -> bool:
    """Whether the run is nested in one that has not been made yet."""
    parent = _tags(made).get(_PARENT_TAG, "")
    if not parent or identities.is_mapped(parent):
        return False
    try:
        base = folder.journal.run(parent).base() or {}
    except ValueError:
        return False
    return bool(base.get("offline"))


def create(folder: RunFolder, made: Mapping[str, Any], behind: Behind, identities: Identities, insist: Insist) -> None:
    """Make the run, with its experiment where that is new, and remember its id and where its artifacts go."""
    experiment_id = _experiment(folder, made, behind, identities, insist)
    tags = {key: value for key, value in identities.replaced(_tags(made)).items() if key != KEY_TAG}
    body: Dict[str, Any] = {
        "experiment_id": experiment_id,
        "user_id": made.get("user_id") or None,
        "run_name": made.get("run_name") or None,
        "start_time": made.get("start_time"),
        "tags": [{"key": key, "value": value} for key, value in {**tags, KEY_TAG: made["key"]}.items()],
    }
    body = {key: value for key, value in body.items() if value is not None}

    def attempt(unsure: bool) -> Dict[str, Any]:
        found = _made_before(behind, experiment_id, made["key"]) if unsure else None
        return found or behind.request("POST", f"{_API}/runs/create", body, retry=False)["run"]

    run = insist(attempt)
    _remember(folder, run, identities)


def _remember(folder: RunFolder, run: Mapping[str, Any], identities: Identities) -> None:
    base = folder.base() or {}
    known = base.setdefault("run", {})
    ours = ("run_id", "run_uuid", "experiment_id", "artifact_uri")
    found = {name: value for name, value in run["info"].items() if name in ours and value}
    known["info"] = {**known.get("info", {}), **found}
    # First: a run that is nested in this one waits until it is no longer offline, and then needs the id.
    identities.note(folder.id, run["info"]["run_id"])
    write_json(folder.path / "run.json", {**base, "offline": False})


def _made_before(behind: Behind, experiment_id: str, key: str) -> Optional[Dict[str, Any]]:
    asked = {"experiment_ids": [experiment_id], "filter": f"tags.{KEY_TAG} = '{key}'", "max_results": 1}
    runs: List[Dict[str, Any]] = behind.request("POST", f"{_API}/runs/search", asked).get("runs", [])
    return runs[0] if runs else None


def _experiment(
    folder: RunFolder, made: Mapping[str, Any], behind: Behind, identities: Identities, insist: Insist
) -> str:
    """The id of the run's experiment in the workspace. One that was made offline too is known by its name."""
    given = str(made.get("experiment_id") or "")
    real = identities.real(given)
    if real != given or (given and not given.startswith(_OFFLINE_EXPERIMENT) and _exists(behind, given)):
        return real
    name = made.get("experiment_name") or _known_name(folder, given) or ("Default" if given in ("", "0") else "")
    if not name:
        raise Stuck("gone", f"The workspace has no experiment {given!r}, and its name is not known.")
    experiment = _named(behind, name)
    if experiment is None:
        insist(lambda unsure: None if unsure and _named(behind, name) else _make(behind, name))
        experiment = _named(behind, name)
    if experiment is None or experiment.get("lifecycle_stage") == "deleted":
        raise Stuck("gone", f"Experiment {name!r} was deleted in the workspace; restore it, or rename the deleted one.")
    found = str(experiment["experiment_id"])
    if given.startswith(_OFFLINE_EXPERIMENT):
        identities.note(given, found)
    folder.journal.note_experiment(name, found, experiment.get("artifact_location", ""))
    return found


def _exists(behind: Behind, experiment_id: str) -> bool:
    try:
        behind.request("GET", f"{_API}/experiments/get", {"experiment_id": experiment_id})
    except Refused as refused:
        stuck = stuck_by(refused)
        if stuck:
            raise stuck from refused
        return False
    return True


def _named(behind: Behind, name: str) -> Optional[Dict[str, Any]]:
    try:
        found: Dict[str, Any] = behind.request("GET", f"{_API}/experiments/get-by-name", {"experiment_name": name})
    except Refused as refused:
        if refused.code == "RESOURCE_DOES_NOT_EXIST":
            return None
        raise
    return found["experiment"]  # type: ignore[no-any-return]


def _make(behind: Behind, name: str) -> Any:
    try:
        return behind.request("POST", f"{_API}/experiments/create", {"name": name}, retry=False)
    except Refused as refused:
        # Another run made it meanwhile, or an attempt before this one did.
        if refused.code != "RESOURCE_ALREADY_EXISTS":
            raise
        return None


def _known_name(folder: RunFolder, experiment_id: str) -> str:
    for name, entry in folder.journal.experiments().items():
        if entry.get("experiment_id") == experiment_id:
            return name
    return ""


def _tags(made: Mapping[str, Any]) -> Dict[str, str]:
    given: Any = made.get("tags") or []
    return dict(given)
