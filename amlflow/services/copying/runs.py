"""Runs on their way from one workspace to another, whatever kinds the two are: each is made there once, and brought what it
lacks of its source."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from amlflow.errors import AmlflowError, NotFound, Unavailable, UsageError
from amlflow.journal.errors import Refused
from amlflow.locks import locked
from amlflow.services import recording, references
from amlflow.services.copying.content import Added, Contents
from amlflow.services.copying.ends import FROM_TAG, RUN_TAG, End, Ledger
from amlflow.services.execution import PARENT_TAG
from amlflow.workspaces.base import Experiment, Run, RunQuery, Workspace
from amlflow.workspaces.server.client import named, quoted

_USER_TAG = "mlflow.user"
# Runs that are read and written before the first of them must have arrived.
_AT_ONCE = 8
# A workspace that takes nothing for seconds is given up long before; this is for one that takes much.
_LONGEST_S = 86_400.0
# What is on its way when another run fails is waited for no longer.
_LAST_S = 5.0


@dataclass(frozen=True, slots=True)
class CopyRequest:
    """`runs` are what a user types for runs of the source. `experiment` is where new copies go, empty for the experiment of the
    same name; `children` takes the runs that are nested in them, too."""

    runs: Sequence[str]
    experiment: str = ""
    children: bool = False


@dataclass(frozen=True, slots=True)
class Copied:
    """A run and its copy. `refused` are the reasons of what the target did not take. `lost_parent` is the run that the source is
    nested in where that has no copy; empty for none."""

    source_id: str
    run: Run
    is_new: bool
    added: Added
    refused: Sequence[str] = ()
    lost_parent: str = ""

    @property
    def state(self) -> str:
        return "copied" if self.is_new else "completed" if self.added.anything else "unchanged"


def copy(
    source: Workspace, target: Workspace, request: CopyRequest, report: Callable[[str], None] = lambda line: None
) -> Iterator[Copied]:
    """Copy runs with their params, whole histories, tags, datasets, artifacts and logged models. A copy that is there already is
    found, and brought what it lacks: a copy that was cut goes on so. Each is given out once it has arrived, whatever becomes of
    the others.

    Raises `NotFound` for no such run, `UsageError` for a copy onto itself, `Unavailable` where the target does not take it."""
    if source.reference == target.reference:
        raise UsageError(
            f"Both workspaces are {source.name!r}.",
            "Give another one with --to; runs are copied between two workspaces.",
        )
    chosen = _chosen(source, request)
    name = hashlib.sha256(source.reference.encode()).hexdigest()[:16]
    folder = target.state_folder() / "copies"
    with locked(folder / f"{name}.lock"), recording.Recorder(target) as recorder:
        recorder.start()
        ledger = Ledger(folder / f"{name}.json", source)
        yield from _Copying(source, target, request, ledger, recorder, report).copy(chosen)


@dataclass
class _Begun:
    """A run whose content is in the journal, on its way."""

    source: Run
    run_id: str
    is_new: bool
    refused_before: int
    added: Added
    lost_parent: str


class _Copying:
    def __init__(
        self,
        source: Workspace,
        target: Workspace,
        request: CopyRequest,
        ledger: Ledger,
        recorder: recording.Recorder,
        report: Callable[[str], None],
    ) -> None:
        self._source, self._target, self._request = End.of(source), End.of(target), request
        self._ledger, self._recorder, self._report = ledger, recorder, report
        self._contents = Contents(self._source, self._target, recorder, ledger, self._settle)
        self._experiments: dict[str, Experiment] = {}
        self._chosen: dict[str, Run] = {}
        self._copies: dict[str, tuple[Run, bool]] = {}

    def copy(self, chosen: Sequence[Run]) -> Iterator[Copied]:
        self._chosen = {run.id: run for run in chosen}
        for start in range(0, len(chosen), _AT_ONCE):
            begun: list[_Begun] = []
            try:
                for number, run in enumerate(chosen[start : start + _AT_ONCE], start + 1):
                    self._report(f"Copying run {number} of {len(chosen)}: {run.name}")
                    begun.append(self._begin(run))
                self._settle([item.run_id for item in begun])
            except AmlflowError:
                yield from self._arrived(begun)
                raise
            yield from map(self._ended, begun)

    def _arrived(self, begun: Sequence[_Begun]) -> Iterator[Copied]:
        """Those that are whole in the target although the copying ends here."""
        self._recorder.flush(_LAST_S, [item.run_id for item in begun])
        for item in begun:
            if not self._recorder.left([item.run_id]).pending_bytes:
                with contextlib.suppress(AmlflowError):
                    yield self._ended(item)

    def _begin(self, run: Run) -> _Begun:
        waiting = recording.journal_of(self._source.workspace).run(run.id)
        if waiting.exists() and waiting.pending_bytes():
            self._report(
                f"Not all of {run.name} is in {self._source.workspace.name} yet: what waits is not copied now."
            )
        parent, lost = self._parent(run)
        copy, is_new = self._copy_of(run)
        folder = self._recorder.journal.run(copy.id)
        if folder.exists():
            # An earlier attempt may have left some of it on this machine.
            self._settle([copy.id])
        self._recorder.adopt(copy)
        refused = len(folder.refused())
        return _Begun(run, copy.id, is_new, refused, self._contents.bring(run, copy.id, parent, is_new), lost)

    def _copy_of(self, run: Run) -> tuple[Run, bool]:
        """The copy of a run, and whether it was made now."""
        if run.id not in self._copies:
            found = self._find(run.id)
            copy = found or self._make(run)
            self._ledger.note_run(run.id, copy.id)
            self._copies[run.id] = copy, found is None
        return self._copies[run.id]

    def _find(self, source_id: str) -> Run | None:
        """The copy of a run, by what is noted on this machine or by its tag; None for none and for one that was deleted."""
        known = self._ledger.runs.get(source_id)
        if known:
            with contextlib.suppress(NotFound):
                run = self._target.workspace.get_run(known)
                if run.lifecycle_stage == "active":
                    return run
        query = RunQuery(filter=f"tags.`{RUN_TAG}` = {quoted(source_id)}")
        reference = self._source.workspace.reference
        # An id of 32 digits is nobody else's. A local workspace has another address on another machine.
        unique = references.is_id(source_id)
        found = [
            run
            for run in self._target.workspace.search_runs(query)
            if run.tags.get(RUN_TAG) == source_id and (unique or run.tags.get(FROM_TAG) == reference)
        ]
        return found[-1] if found else None

    def _make(self, run: Run) -> Run:
        """A run of the same name, user and start, that says what it is a copy of."""
        experiment = self._experiment(self._request.experiment or run.experiment_name)
        tags = {RUN_TAG: run.id, FROM_TAG: self._source.workspace.reference}
        if run.tags.get(_USER_TAG):
            # Some services let this be said when a run is made, and not later.
            tags[_USER_TAG] = run.tags[_USER_TAG]
        body: dict[str, Any] = {
            "experiment_id": experiment.id,
            "run_name": run.name,
            "user_id": run.user,
            "start_time": run.start_time_ms,
            "tags": named(tags),
        }
        body = {key: value for key, value in body.items() if value not in (None, "")}
        client = self._target.client

        def made_before() -> str | None:
            found = self._find(run.id)
            return found.id if found else None

        try:
            made = client.once(
                lambda: str(client.ask("POST", "runs/create", body, retry=False)["run"]["info"]["run_id"]), made_before
            )
        except Refused as error:
            raise client.refused(error) from error
        return self._target.workspace.get_run(made)

    def _experiment(self, name: str) -> Experiment:
        if name not in self._experiments:
            found = self._experiments[name] = self._target.workspace.ensure_experiment(name)
            with self._recorder.writing():
                self._recorder.journal.begin(self._target.workspace.reference)
                self._recorder.journal.note_experiment(found.name, found.id, found.artifact_location)
        return self._experiments[name]

    def _parent(self, run: Run) -> tuple[str, str]:
        """The copy of the run that this one is nested in, empty for none; and that run itself where it was not copied, unless it
        is gone."""
        parent = run.tags.get(PARENT_TAG, "")
        if not parent:
            return "", ""
        if parent in self._chosen:
            # It is there already, unless the two name each other.
            return self._copy_of(self._chosen[parent])[0].id, ""
        try:
            if found := self._find(parent):
                return found.id, ""
            is_gone = self._source.workspace.get_run(parent).lifecycle_stage != "active"
        except NotFound:
            is_gone = True
        except Unavailable:
            raise
        except AmlflowError:
            # Somebody else's, or no id at all: the run itself can be copied all the same.
            is_gone = False
        return "", "" if is_gone else parent

    def _settle(self, run_ids: Sequence[str]) -> None:
        """Wait until the target has all that was written. Raises `Unavailable`."""
        left = self._recorder.flush(_LONGEST_S, run_ids)
        if left.pending_bytes:
            raise Unavailable(
                f"Not all of the copy arrived in {self._target.workspace.name!r}: {left.reason}.",
                "Give the same command again: it goes on where it stopped.",
            )

    def _ended(self, begun: _Begun) -> Copied:
        folder = self._recorder.journal.run(begun.run_id)
        refused = [str(item["reason"]) for item in folder.refused()[begun.refused_before :]]
        if refused:
            # It is said now, and stands in the copy's artifacts.
            folder.forget_refused(begun.refused_before)
        copy = self._target.workspace.get_run(begun.run_id)
        return Copied(begun.source.id, copy, begun.is_new, begun.added, refused, begun.lost_parent)


def _chosen(source: Workspace, request: CopyRequest) -> list[Run]:
    """The runs to copy, each once, those that others are nested in first."""
    asked = [references.find_run(source, item) for item in request.runs]
    for run in asked:
        if run.lifecycle_stage == "deleted":
            raise AmlflowError(
                f"Run {run.id} was deleted in {source.name!r}.", f"Bring it back with `amlflow run restore {run.id}`."
            )
    found = {run.id: run for run in asked}
    if request.children:
        for run in asked:
            found.update((child.id, child) for child in _below(source, run))
    return _parents_first(found)


def _below(source: Workspace, run: Run) -> Iterator[Run]:
    waiting, seen = [run.id], {run.id}
    while waiting:
        above = waiting.pop()
        for child in source.search_runs(RunQuery(filter=f"tags.`{PARENT_TAG}` = {quoted(above)}")):
            if child.id not in seen:
                seen.add(child.id)
                waiting.append(child.id)
                yield child


def _parents_first(found: dict[str, Run]) -> list[Run]:
    def depth(run: Run) -> int:
        above: set[str] = set()
        parent = run.tags.get(PARENT_TAG, "")
        while parent in found and parent not in above:
            above.add(parent)
            parent = found[parent].tags.get(PARENT_TAG, "")
        return len(above)

    return sorted(found.values(), key=depth)
