"""The workspaces that one comparison reads. Where there are several, a run's id is `WORKSPACE::ID`: none stands for two."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from amlflow.errors import NotFound, UsageError
from amlflow.services import references
from amlflow.services.references import Choice
from amlflow.workspaces.base import MetricPoint, Run, RunQuery, Workspace
from amlflow.workspaces.resolve import without_login

SEPARATOR = "::"


@dataclass(frozen=True, slots=True)
class Source:
    """`asked` is what a user types to mean it, without a password."""

    asked: str
    workspace: Workspace


def split(asked: str) -> tuple[str, str]:
    """`WORKSPACE::RUN` in its two parts; the first is empty for a run without a workspace."""
    where, run = references.split_workspace(asked)
    if where and not run:
        raise UsageError(f"{asked!r} names a workspace and no run of it.", f"Write {where}{SEPARATOR}RUN.")
    return where, run


class Sources:
    def __init__(self, everywhere: Iterable[Source], named: Iterable[Source] = ()) -> None:
        """`everywhere` is where experiments, and runs that name no workspace, are looked for; `named` are the others."""
        everywhere = list(everywhere)
        # A workspace that is asked for twice, in whatever words, is one.
        self._by_reference: dict[str, Source] = {}
        self._named = {
            source.asked: self._by_reference.setdefault(source.workspace.reference, source)
            for source in (*everywhere, *named)
        }
        self._everywhere = list({id(one): one for one in (self._named[source.asked] for source in everywhere)}.values())
        self.several = len(self._by_reference) > 1
        distinct = self._by_reference.values()
        names = Counter(source.workspace.name for source in distinct)
        self._labels = {
            source.asked: source.workspace.name if names[source.workspace.name] == 1 else source.asked
            for source in distinct
        }

    def find(self, asked: str, experiment: str = "", choice: Choice | None = None) -> list[Run]:
        """The run that is meant (`references.find_run`); without a workspace, that of each workspace that has it. Raises
        `NotFound` where none has it. What `choice` leaves out are ids that runs have here."""
        where, name = self._split(asked)

        def runs_of(source: Source) -> list[Run]:
            here = replace(choice, besides=self._own_ids(source, choice.besides)) if choice else None
            return [references.find_run(source.workspace, name, experiment, here)]

        if where:
            source = self._named[without_login(where)]
            return [self._told(source, run) for run in runs_of(source)]
        return [run for _, runs in self._of_each(runs_of) for run in runs]

    def find_one(self, asked: str, experiment: str = "", choice: Choice | None = None) -> Run:
        """Raises `UsageError` where several workspaces have it."""
        found = self.find(asked, experiment, choice)
        if len(found) > 1:
            said = " or ".join(run.id for run in found)
            raise UsageError(f"{asked!r} is a run of {len(found)} of these workspaces.", f"Write {said}.")
        return found[0]

    def search(self, experiment: str, query: RunQuery, report: Callable[[str], None]) -> list[Run]:
        """The query in that experiment of each workspace that has it; `report` is told of those that have not."""

        def runs_of(source: Source) -> list[Run]:
            ids = [source.workspace.find_experiment(experiment).id]
            return source.workspace.search_runs(replace(query, experiment_ids=ids))

        found = self._of_each(runs_of)
        for source in self._everywhere:
            if all(source is not other for other, _ in found):
                report(f"The workspace {self._labels[source.asked]!r} has no experiment {experiment!r}.")
        return [run for _, runs in found for run in runs]

    def histories(self, runs: Sequence[Run], keys: Sequence[str]) -> Mapping[str, Mapping[str, Sequence[MetricPoint]]]:
        """By the ids that the runs have here."""
        of: dict[str, dict[str, str]] = {}
        for run in runs:
            where, run_id = self._place(run.id)
            of.setdefault(where.asked, {})[run_id] = run.id
        read: dict[str, Mapping[str, Sequence[MetricPoint]]] = {}
        for asked, ids in of.items():
            found = self._named[asked].workspace.metric_histories(list(ids), keys)
            read |= {ids[run_id]: lines for run_id, lines in found.items()}
        return read

    def place(self, run_id: str) -> tuple[Workspace, str]:
        """Where a run of the comparison is, and its id there."""
        source, own = self._place(run_id)
        return source.workspace, own

    def labels(self, runs: Sequence[Run]) -> list[str]:
        """The workspace of each run, as briefly as it is clear; empty where there is one only."""
        return [self._labels[self._place(run.id)[0].asked] for run in runs] if self.several else []

    def _place(self, run_id: str) -> tuple[Source, str]:
        if not self.several:
            return next(iter(self._by_reference.values())), run_id
        where, own = self._split(run_id)
        return self._named[where], own

    def _split(self, asked: str) -> tuple[str, str]:
        """As `split`; the id of a run of these workspaces is parted at its end, as a folder's name may have the sign too."""
        where, _, own = asked.rpartition(SEPARATOR)
        return (where, own) if where in self._named else split(asked)

    def _own_ids(self, source: Source, run_ids: Collection[str]) -> list[str]:
        places = map(self._place, run_ids)
        return [own for at, own in places if at is source]

    def _told(self, source: Source, run: Run) -> Run:
        return replace(run, id=f"{source.asked}{SEPARATOR}{run.id}") if self.several else run

    def _of_each(self, read: Callable[[Source], list[Run]]) -> list[tuple[Source, list[Run]]]:
        found: list[tuple[Source, list[Run]]] = []
        refused: NotFound | None = None
        for source in self._everywhere:
            try:
                found.append((source, [self._told(source, run) for run in read(source)]))
            except NotFound as error:
                refused = refused or error
        if not found and refused is not None:
            raise refused
        return found
