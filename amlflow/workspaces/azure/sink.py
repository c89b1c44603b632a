"""Where the journal's sender puts the artifacts of a run in an Azure ML workspace."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar
from urllib.parse import unquote

from amlflow.errors import AmlflowError, Unavailable
from amlflow.journal.errors import Refused, Unreachable
from amlflow.journal.rest import Behind
from amlflow.journal.sinks import SpoolFile
from amlflow.workspaces.azure import blobs
from amlflow.workspaces.azure.artifacts import AzureArtifacts
from amlflow.workspaces.azure.http import Http

_ROOT = re.compile(r"/runs/(?P<run>[^/]+)/artifacts/?$")
_Found = TypeVar("_Found")


class AzureSink:
    """The artifact root of one run; see `ArtifactSink`."""

    def __init__(self, root: str, behind: Behind, artifacts: AzureArtifacts, http: Http) -> None:
        match = _ROOT.search(root)
        if match is None:
            raise Refused(0, "INVALID_PARAMETER_VALUE", f"{root} is no artifact root of a run.")
        self._run_id, self._behind = unquote(match["run"]), behind
        self._artifacts, self._http = artifacts, http
        self._experiment = ""

    def put(self, path: str, file: SpoolFile) -> None:
        def send() -> None:
            place = self._artifacts.places(self._experiment_id(), self._run_id, [path])[path]
            # The spool's bytes are checked while they are read, and are read more than once on their way.
            with tempfile.NamedTemporaryFile(dir=file.path.parent) as copy:
                with file.open() as source:
                    shutil.copyfileobj(source, copy)
                copy.flush()
                blobs.put_file(self._http, place, Path(copy.name))

        _translated(send)

    def size(self, path: str) -> int | None:
        def ask() -> int | None:
            for name, address in self._artifacts.addresses(self._experiment_id(), self._run_id, path):
                if name == path:
                    return blobs.Container(self._http, address).facts("").size_bytes
            return None

        return _translated(ask)

    def _experiment_id(self) -> str:
        if not self._experiment:
            answer = self._behind.request("GET", "/api/2.0/mlflow/runs/get", {"run_id": self._run_id})
            self._experiment = str(answer["run"]["info"]["experiment_id"])
        return self._experiment


def _translated(work: Callable[[], _Found]) -> _Found:
    try:
        return work()
    except Unavailable as error:
        raise Unreachable(error.message) from error
    except AmlflowError as error:
        raise Refused(400, "INVALID_PARAMETER_VALUE", error.paragraph()) from error
