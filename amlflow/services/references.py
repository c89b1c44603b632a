"""From what a user types to the run or model that is meant."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from amlflow import paths
from amlflow.errors import NotFound, UsageError
from amlflow.journal.folder import RUN_VARIABLE, Journal
from amlflow.services.directions import direction
from amlflow.workspaces.base import LoggedModel, ModelVersion, Run, RunQuery, Workspace

# The folder of a workspace's state that holds what has not been sent to it yet.
JOURNAL_FOLDER = "journal"
_RUN_ID = re.compile(r"[0-9a-f]{32}")
_VERSION = re.compile(r"(?!best:)[^/\\:@]+(?::[^/\\:@]+|@[^/\\:@]+)")
# An address of IPv6 has colons of its own, in brackets.
_IPV6 = r"[A-Za-z][\w+.-]*://(?:[^/@\[]*@)?\["
_ELSEWHERE = re.compile(rf"((?:{_IPV6}[^\]]*\]|(?!{_IPV6}).).*?)::(.*)", re.DOTALL)
_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Choice:
    """How `best:METRIC` chooses: `lower` and `higher` name metrics whose direction their names do not tell, `besides` has the ids
    of runs that are left out, `experiments` the names of those to look in where none is said and one of them is there."""

    lower: Sequence[str] = ()
    higher: Sequence[str] = ()
    besides: Collection[str] = ()
    experiments: Collection[str] = ()


@dataclass(frozen=True, slots=True)
class ModelSource:
    """A model that was found. `label` is how to call it in a message; `uri` what MLflow calls it; `location` the folder
    or URI of its MLmodel file; `version` is set where it is a registered one."""

    label: str
    uri: str
    location: str
    run_id: str = ""
    version: ModelVersion | None = None


def find_run(workspace: Workspace, asked: str = "", experiment: str = "", choice: Choice | None = None) -> Run:
    """The run that is meant by an id, a name, a unique prefix of an id, `last`, `best:METRIC` (`best:-METRIC` for the lowest,
    `best:+METRIC` for the highest) or a registered model (`wine:3`: the run that made it). Nothing asked means `$AMLFLOW_RUN`,
    else `last`. `last` and `best:` look in the experiment alone; of runs with one name those in it come first.

    Raises `NotFound` for no such run, `UsageError` where several fit."""
    asked = asked or run_variable() or "last"
    if is_id(asked):
        return workspace.get_run(_real_id(workspace, asked))
    if asked == "last":
        return _last(workspace, experiment)
    if asked.startswith("best:"):
        return _best(workspace, asked, experiment, choice or Choice())
    if asked.startswith("runs:/"):
        return find_run(workspace, asked.removeprefix("runs:/").split("/")[0], experiment, choice)
    found = workspace.find_run_ids(asked, experiment_id=_id_if_there(workspace, experiment))
    if len(found) == 1:
        return workspace.get_run(found[0])
    if found:
        shown = ", ".join(found[:_SHOWN]) + (", …" if len(found) > _SHOWN else "")
        raise UsageError(f"{asked!r} fits {len(found)} runs or more: {shown}.", "Name one by its id.")
    where, run = split_workspace(asked)
    if where:
        raise NotFound(
            f"There is no run {asked!r} in workspace {workspace.name!r}.",
            f"If it is run {run!r} of workspace {where!r}, say `-w {where}` and {run!r}; `compare` alone takes WORKSPACE::RUN.",
        )
    version = asked.partition("@" if "@" in asked else ":")[2]
    if version or any(model.name == asked for model in workspace.list_models()):
        made_by = find_version(workspace, asked).run_id
        if not made_by:
            raise NotFound(f"The model {asked!r} was registered from a folder: no run made it.")
        return workspace.get_run(made_by)
    recent = workspace.search_runs(RunQuery(limit=200, with_data=False))
    known = [name for run in recent for name in (run.name, run.id[:8])]
    raise NotFound(
        f"There is no run {asked!r} in workspace {workspace.name!r}.",
        "`amlflow run list` shows them.",
        name=asked,
        known=known,
    )


def split_workspace(asked: str) -> tuple[str, str]:
    """`WORKSPACE::RUN` in its two parts, at the first `::`, but an id at the last: a folder's name may have the sign, too. The
    first part is empty where there is no workspace."""
    if asked.startswith("best:"):
        return "", asked
    where, _, run = asked.rpartition("::")
    if where and is_id(run):
        return where, run
    parts = _ELSEWHERE.fullmatch(asked)
    return (parts[1], parts[2]) if parts else ("", asked)


def run_variable() -> str:
    """The run that this process stands in, where it stands in one."""
    return os.environ.get(RUN_VARIABLE, "")


def is_id(asked: str) -> bool:
    return bool(_RUN_ID.fullmatch(asked))


def find_version(workspace: Workspace, asked: str) -> ModelVersion:
    """The registered version that is meant by `wine:3`, `wine@champion`, `wine` (the latest) or `models:/…`. Raises
    `NotFound`, naming the versions or aliases that exist."""
    name, alias, version = _split_model(asked.removeprefix("models:/"))
    if version not in ("", "latest"):
        return _numbered(workspace, name, version)
    model = workspace.get_model(name)
    if alias:
        if alias not in model.aliases:
            raise NotFound(
                f"The model {name!r} has no alias {alias!r}.",
                f"It has {', '.join(model.aliases) or 'none'}; `amlflow model alias {name}:VERSION {alias}` sets it.",
                name=alias,
                known=model.aliases,
            )
        return _numbered(workspace, name, model.aliases[alias])
    if not model.latest_version:
        raise NotFound(f"The model {name!r} has no version yet.", "`amlflow register` makes one.")
    return _numbered(workspace, name, model.latest_version)


def _numbered(workspace: Workspace, name: str, version: str) -> ModelVersion:
    try:
        return workspace.get_model_version(name, version)
    except NotFound as error:
        workspace.get_model(name)
        versions = [item.version for item in workspace.list_model_versions(name)]
        shown = ", ".join(versions[:_SHOWN]) + (", …" if len(versions) > _SHOWN else "")
        raise NotFound(f"The model {name!r} has no version {version!r}; it has {shown or 'none'}.") from error


def names_version(asked: str) -> bool:
    """Whether it can only be NAME:VERSION or NAME@ALIAS (or a run's name), whatever folders there are."""
    return _VERSION.fullmatch(asked) is not None


def find_model(workspace: Workspace, asked: str) -> ModelSource:
    """Any model: a registered one, `runs:/ID/NAME`, `models:/m-…` or a folder with an MLmodel file."""
    if asked.startswith("runs:/"):
        return _of_run_uri(workspace, asked)
    if asked.startswith("models:/m-"):
        location = str(workspace.fetch(asked))
        return ModelSource(asked.removeprefix("models:/"), asked, location)
    path = Path(asked).expanduser()
    looks_like_path = asked.startswith((".", "/", "~")) or (os.sep in asked and not asked.startswith("models:"))
    if looks_like_path or (not names_version(asked) and (path / "MLmodel").is_file()):
        return _of_folder(path)
    version = find_version(workspace, asked)
    label = f"{version.name}:{version.version}"
    return ModelSource(label, f"models:/{version.name}/{version.version}", version.location, version.run_id, version)


def only_model(workspace: Workspace, run: Run) -> LoggedModel:
    """The model of a run that has one. Raises `NotFound` for none, `UsageError` for several."""
    models = workspace.logged_models(run.id)
    if len(models) == 1:
        return models[0]
    if not models:
        raise NotFound(
            f"Run {run.name!r} ({run.id}) has no model.",
            "Log one in the program with `mlflow.FLAVOR.log_model(model, name='model')`, or choose another run.",
        )
    names = ", ".join(f"runs:/{run.id}/{model.name}" for model in models)
    raise UsageError(f"Run {run.name!r} has {len(models)} models.", f"Name one: {names}.")


def sync_command(workspace: Workspace) -> str:
    """What to type, in any folder, to have the journal of this workspace sent."""
    named = workspace.reference == f"local:{paths.workspaces() / workspace.name}"
    return f"amlflow sync -w {shlex.quote(workspace.name if named else workspace.reference)}"


def _real_id(workspace: Workspace, run_id: str) -> str:
    """The workspace's id of a run that was made offline."""
    journal = Journal(workspace.state_folder() / JOURNAL_FOLDER)
    real = journal.real_id(run_id)
    if real == run_id and (waiting := journal.run(run_id)).exists() and (waiting.base() or {}).get("offline"):
        raise NotFound(
            f"Run {run_id} was made offline and is not in workspace {workspace.name!r} yet.",
            f"`{sync_command(workspace)}` sends it.",
        )
    return real


def _of_run_uri(workspace: Workspace, asked: str) -> ModelSource:
    reference, _, name = asked.removeprefix("runs:/").partition("/")
    run = find_run(workspace, reference)
    if not name:
        model = only_model(workspace, run)
    else:
        models = {model.name: model for model in workspace.logged_models(run.id)}
        if name not in models:
            raise NotFound(
                f"Run {run.name!r} ({run.id}) has no model {name!r}.",
                f"It has {', '.join(models) or 'none'}.",
                name=name,
                known=models,
            )
        model = models[name]
    return ModelSource(f"runs:/{run.id}/{model.name}", f"runs:/{run.id}/{model.name}", model.location, run.id)


def _of_folder(path: Path) -> ModelSource:
    folder = path.absolute()
    if not folder.is_dir():
        raise NotFound(f"There is no folder {str(path)!r}.", "Give a model's folder, name, or runs:/ID/NAME.")
    if not (folder / "MLmodel").is_file():
        raise NotFound(
            f"The folder {str(path)!r} is not an MLflow model: it has no MLmodel file.",
            "Save one with `mlflow.FLAVOR.save_model(model, path)`.",
        )
    return ModelSource(str(path), str(folder), str(folder))


def _split_model(text: str) -> tuple[str, str, str]:
    if "@" in text:
        name, alias = text.rsplit("@", 1)
        return name, alias, ""
    for separator in ("/", ":"):
        if separator in text:
            name, version = text.rsplit(separator, 1)
            return name, "", version
    return text, "", ""


def _best(workspace: Workspace, asked: str, experiment: str, choice: Choice) -> Run:
    signed = asked.removeprefix("best:")
    metric = signed[1:] if signed.startswith(("-", "+")) else signed
    if not metric:
        raise UsageError(
            f"{asked!r} names no metric.",
            "Write for example best:rmse; best:-METRIC is the run with the lowest value, best:+METRIC that with the highest.",
        )
    if signed == metric:
        descending = direction(metric, choice.lower, choice.higher) != "lower"
    else:
        descending = signed.startswith("+")
    within = {name: _id_if_there(workspace, name) for name in ([] if experiment else choice.experiments)}
    names = [experiment] if experiment else [name for name, found in within.items() if found]
    ids = _ids(workspace, experiment) or [within[name] for name in names]
    where = _where(workspace, *names)
    limit = 1 + len(choice.besides)
    runs = workspace.search_runs(
        RunQuery(experiment_ids=ids, order_by=f"metrics.`{metric}`", descending=descending, limit=limit)
    )
    having = [run for run in runs if metric in run.metrics]
    others = [run for run in having if run.id not in choice.besides]
    if others:
        return others[0]
    if having:
        raise NotFound(
            f"{asked!r} is none of the runs that are named, and no other run in {where} has that metric.",
            "Name the run that is meant by its id, or another experiment with -e.",
        )
    known = {key for run in workspace.search_runs(RunQuery(experiment_ids=ids, limit=50)) for key in run.metrics}
    raise NotFound(
        f"No run in {where} has the metric {metric!r}.",
        f"Known metrics: {', '.join(sorted(known)[:20]) or 'none'}.",
        name=metric,
        known=known,
    )


def _ids(workspace: Workspace, experiment: str) -> list[str]:
    return [workspace.find_experiment(experiment).id] if experiment else []


def _id_if_there(workspace: Workspace, experiment: str) -> str:
    """Empty for an experiment that is not there: a name then is looked for in all of them alike."""
    try:
        return "".join(_ids(workspace, experiment))
    except NotFound:
        return ""


def _where(workspace: Workspace, *experiments: str) -> str:
    named = " or ".join(repr(name) for name in experiments if name)
    return f"experiment {named}" if named else f"workspace {workspace.name!r}"


def _last(workspace: Workspace, experiment: str) -> Run:
    runs = workspace.search_runs(RunQuery(experiment_ids=_ids(workspace, experiment), limit=1))
    if not runs:
        raise NotFound(
            f"No run yet in {_where(workspace, experiment)}.", "`amlflow track` and `amlflow run-project` make runs."
        )
    return runs[0]
