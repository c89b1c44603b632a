"""Where artifacts are, for the program and for the workspace.

A program must not wait for an upload, so it is given addresses of this journal in place of the workspace's own:

    amlflow://JOURNAL/runs/RUN_ID[/path]          a run that is written here
    amlflow://JOURNAL/at/RUN_ID/CODED[/path]       any other place of the workspace; RUN_ID is the run that it belongs to, or _

JOURNAL is a hash of the journal's folder, CODED the workspace's address in URL-safe base64. Folders of this machine stay what
they are: nothing is faster.
"""

from __future__ import annotations

import base64
import hashlib
import re
from typing import Any, Dict, NamedTuple, Optional
from urllib.parse import urlparse

from .folder import Journal

SCHEME = "amlflow"
_OWN = re.compile(r"amlflow://(?P<key>[0-9a-f]{12})/(?P<kind>runs|at)/(?P<run>[^/]+)(?P<rest>/.*)?")


class Place(NamedTuple):
    """What an address of a journal stands for. `real` is the workspace's own address of `path`'s root; empty where there is none
    yet, because the run was made offline. `of_run` tells the run's own artifacts from other places."""

    run_id: str
    real: str
    path: str
    of_run: bool


class Locations:
    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self.key = hashlib.sha256(str(journal.root.absolute()).encode()).hexdigest()[:12]

    def of_run(self, run_id: str) -> str:
        return f"{SCHEME}://{self.key}/runs/{run_id}"

    def at(self, real: str, run_id: str = "") -> str:
        coded = base64.urlsafe_b64encode(real.encode()).decode().rstrip("=")
        return f"{SCHEME}://{self.key}/at/{run_id or '_'}/{coded}"

    def place(self, address: str) -> Optional[Place]:
        """None for what is no address of this journal."""
        match = _OWN.fullmatch(address)
        if match is None or match["key"] != self.key:
            return None
        run_id, rest = match["run"], (match["rest"] or "").lstrip("/")
        if match["kind"] == "runs":
            base = self._journal.run(run_id).base() or {}
            real = base.get("run", {}).get("info", {}).get("artifact_uri", "")
            return Place(run_id, "" if real.startswith(f"{SCHEME}://") else real, rest, True)
        coded, _, path = rest.partition("/")
        real = base64.urlsafe_b64decode(coded + "=" * (-len(coded) % 4)).decode()
        return Place("" if run_id == "_" else run_id, real, path, False)

    def outward_run(self, run: Dict[str, Any]) -> Dict[str, Any]:
        """A run as the program sees it."""
        info = run.get("info", {})
        uri = info.get("artifact_uri", "")
        if is_local(uri) and uri:
            return run
        if self._journal.run(info["run_id"]).exists():
            return {**run, "info": {**info, "artifact_uri": self.of_run(info["run_id"])}}
        return {**run, "info": {**info, "artifact_uri": self._outward_uri(uri)}}

    def outward(self, answer: Dict[str, Any]) -> Dict[str, Any]:
        """An answer of the workspace with every place of artifacts as the program sees it."""
        changed = dict(answer)
        if "run" in answer:
            changed["run"] = self.outward_run(answer["run"])
        if "runs" in answer:
            changed["runs"] = [self.outward_run(run) for run in answer["runs"]]
        if "model" in answer:
            changed["model"] = self._outward_model(answer["model"])
        if isinstance(answer.get("models"), list):
            changed["models"] = [self._outward_model(model) for model in answer["models"]]
        if isinstance(answer.get("artifact_uri"), str):
            changed["artifact_uri"] = self._outward_uri(answer["artifact_uri"])
        return changed

    def inward(self, body: Dict[str, Any]) -> Dict[str, Any]:
        """What the program sends, with the workspace's own addresses and ids in it."""
        ids = self._journal.mapped_ids()
        changed: Dict[str, Any] = self._inward(body, ids)
        return changed

    def inward_text(self, text: str) -> str:
        return str(self._inward(text, self._journal.mapped_ids()))

    def real_run(self, run: Dict[str, Any]) -> Dict[str, Any]:
        """A run of the workspace as a journal begins with it."""
        return {key: run[key] for key in ("info", "data", "inputs", "outputs") if key in run}

    def _inward(self, value: Any, ids: Dict[str, str]) -> Any:
        if isinstance(value, dict):
            return {key: self._inward(item, ids) for key, item in value.items()}
        if isinstance(value, list):
            return [self._inward(item, ids) for item in value]
        if not isinstance(value, str):
            return value
        if value.startswith(f"{SCHEME}://"):
            found = self.place(value)
            if found is not None and found.real:
                return f"{found.real}/{found.path}".rstrip("/")
        for local, real in ids.items():
            if local in value:
                value = value.replace(local, real)
        return value

    def _outward_model(self, model: Dict[str, Any]) -> Dict[str, Any]:
        info = model.get("info", {})
        uri = info.get("artifact_uri", "")
        if is_local(uri) or uri.startswith(f"{SCHEME}://"):
            return model
        return {**model, "info": {**info, "artifact_uri": self.at(uri, info.get("source_run_id", ""))}}

    def _outward_uri(self, uri: str) -> str:
        # models:/ and runs:/ are looked up again, and the answer then is an address of ours.
        plain = is_local(uri) or urlparse(uri).scheme in ("models", "runs", SCHEME)
        return uri if plain else self.at(uri)


def is_local(uri: str) -> bool:
    """Whether it names a folder of this machine: a path, or a `file:` address."""
    scheme = urlparse(uri).scheme
    return scheme == "file" or len(scheme) <= 1
