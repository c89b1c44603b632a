"""What data are held against: a file, or the training data that a run has logged as an MLflow dataset or an artifact."""

from __future__ import annotations

import contextlib
import glob
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from amlflow.errors import NotFound, UsageError
from amlflow.journal.datasets import FOLDER as KEPT_ROWS
from amlflow.journal.datasets import stem as stem_of_rows
from amlflow.monitoring import frames
from amlflow.monitoring.frames import Source
from amlflow.services import datasets, deployment, references, registry, tracking
from amlflow.workspaces.base import Run, Workspace

# Words of an artifact's path that say it is what the model was trained on, the surest first.
_WORDS = ("baseline", "reference", "training", "train")


@dataclass(frozen=True, slots=True)
class Trained:
    """A run and the model that is meant by it: `name` is what a monitor of it is called after, `inputs` are the columns of the
    model's signature, empty where there is none or it is not on this machine."""

    run: Run
    name: str
    inputs: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Baseline:
    """Where it lies, and what a monitor that names nothing else is called after."""

    source: Source
    name: str
    trained: Trained | None = None


def find(workspace: Workspace, asked: str, endpoint: str, scratch: Path) -> Baseline:
    """The baseline that is asked for: a file or folder of tables, `runs:/RUN/PATH`, a run or a model; without one, the
    training data of the model that the endpoint serves. Raises `NotFound` where a run has logged none."""
    path = Path(asked).expanduser() if asked else Path()
    if names_files(asked):
        return Baseline(Source(tables_in(path), scratch, str(path)), path.stem)
    if asked.startswith("runs:/") and frames.is_table(Path(asked)):
        reference, _, artifact = asked.removeprefix("runs:/").partition("/")
        run = references.find_run(workspace, reference)
        trained = Trained(run, run.experiment_name, _inputs_of_run(workspace, run))
        return Baseline(_of_artifact(workspace, run, artifact, scratch), run.experiment_name, trained)
    trained = find_trained(workspace, asked, endpoint)
    return Baseline(_of_run(workspace, trained.run, scratch), trained.name, trained)


def find_trained(workspace: Workspace, asked: str, endpoint: str) -> Trained:
    """The run that is asked for by itself or by its model, else the one that made the model of the endpoint."""
    if not asked and not endpoint:
        raise UsageError(
            "There is nothing to compare with.",
            "Name a file, a run or a model with --baseline, or an endpoint that serves a model.",
        )
    if asked:
        run = references.find_run(workspace, asked)
        is_model = not references.is_id(asked) and any(
            asked.removeprefix("models:/").startswith(model.name) for model in workspace.list_models()
        )
        name = asked.removeprefix("models:/").split(":")[0].split("@")[0] if is_model else run.experiment_name
        return Trained(run, name, _inputs_of_run(workspace, run))
    _, served = deployment.find_endpoint(workspace, endpoint)
    folder = deployment.model_folder(workspace, served)
    mlmodel = registry.read_mlmodel(folder)
    run_id = str(mlmodel.get("run_id") or "")
    with contextlib.suppress(NotFound):
        # A registered model says which run made it; one that was promoted is of a run elsewhere.
        run_id = references.find_model(workspace, served.model).run_id or run_id
    if not run_id:
        raise NotFound(
            f"Nothing says which run made the model {served.model} of endpoint {endpoint!r}.",
            "Name the training data with --baseline FILE, or the run with --baseline RUN.",
        )
    return Trained(workspace.get_run(run_id), endpoint, _signature_inputs(mlmodel))


def names_files(asked: str) -> bool:
    """Whether it means files of this machine, rather than a run or a model."""
    path = Path(asked).expanduser()
    return bool(asked) and not asked.startswith("runs:/") and (path.exists() or frames.is_table(path))


def tables_in(path: Path) -> list[Path]:
    """The file, every table below the folder, or those that a pattern such as day-*.csv names. Raises `NotFound` for none."""
    if path.is_dir():
        found = sorted(file for file in path.rglob("*") if file.is_file() and frames.is_table(file))
        what = f"The folder {str(path)!r} has no table."
    elif path.exists() or not glob.has_magic(str(path)):
        return [path]
    else:
        named = map(Path, glob.glob(str(path), recursive=True))  # noqa: PTH207
        found = sorted(file for file in named if frames.is_table(file))
        what = f"No table is called like {str(path)!r}."
    if not found:
        raise NotFound(what, f"Tables are {', '.join(frames.SUFFIXES)}, also with .gz.")
    return found


def _of_run(workspace: Workspace, run: Run, scratch: Path) -> Source:
    """A dataset that the run has logged for training comes first, as it is what the program itself calls its data."""
    looked: list[str] = []
    artifacts = [item.path for item in tracking.artifacts(workspace, run.id)]
    kept = _kept_rows(artifacts)
    for dataset in datasets.of_run(workspace, run):
        if rows := next((path for path in kept if Path(path).stem == stem_of_rows(dataset.digest)), ""):
            return _of_artifact(workspace, run, rows, scratch)
        if (file := datasets.file_of(dataset, scratch)) is not None:
            return Source(tables_in(file), scratch, f"the dataset {dataset.name!r} of run {run.name!r}")
        looked.append(datasets.shown(dataset))
    if chosen := _choose(run, artifacts):
        return _of_artifact(workspace, run, chosen, scratch)
    raise NotFound(
        f"Run {run.name!r} ({run.id}) has no training data to compare with"
        + (f": it has {'; '.join(dict.fromkeys(looked))}." if looked else ": it logged neither a dataset nor a table."),
        "Run the program with `--dataset-rows 100000`, which keeps rows of the datasets that it logs; or log a table with "
        "`mlflow.log_artifact('train.parquet')`, or name a file with --baseline FILE.",
    )


def training_table(workspace: Workspace, run: Run) -> str:
    """The artifact that holds what the run was trained on. Raises `NotFound` for none."""
    chosen = _choose(run, [item.path for item in tracking.artifacts(workspace, run.id)])
    if not chosen:
        raise NotFound(
            f"Run {run.name!r} ({run.id}) has logged no table of its training data.",
            "Log it in the program with `mlflow.log_artifact('train.parquet')`, or name one with --baseline.",
        )
    return chosen


def _of_artifact(workspace: Workspace, run: Run, path: str, scratch: Path) -> Source:
    folder = scratch / "downloaded"
    folder.mkdir(parents=True, exist_ok=True)
    file = workspace.download_artifacts(run.id, path, folder)
    return Source(tables_in(file), scratch, f"{path} of run {run.name!r}")


def _kept_rows(paths: Sequence[str]) -> list[str]:
    """The tables that `--dataset-rows` has kept, of the paths of a run's artifacts."""
    return [path for path in paths if path.startswith(f"{KEPT_ROWS}/")]


def _choose(run: Run, paths: Sequence[str]) -> str:
    """The table among the run's artifacts; of several the one whose name says it is for training. Raises `UsageError` for a
    choice that only the user can make."""
    rows = _kept_rows(paths)
    if len(rows) == 1:
        # Where the workspace has no datasets, their rows are all that tells of them.
        return rows[0]
    tables = rows or [
        path
        for path in paths
        if frames.is_table(Path(path)) and not Path(path).name.startswith(("input_example", "serving_input"))
    ]
    for word in _WORDS:
        hits = [path for path in tables if word in path.lower()]
        if len(hits) == 1:
            return hits[0]
        if hits:
            tables = hits
            break
    # Programs log JSON of all kinds: only a name says that one is a table.
    tables = [path for path in tables if not path.lower().endswith(".json")] or (tables if len(tables) > 1 else [])
    if len(tables) > 1:
        raise UsageError(
            f"Run {run.name!r} has {len(tables)} tables: {', '.join(tables[:10])}.",
            f"Name one: --baseline runs:/{run.id}/{tables[0]}.",
        )
    return tables[0] if tables else ""


def _inputs_of_run(workspace: Workspace, run: Run) -> Sequence[str]:
    """Only of a model that lies on this machine: for the names of columns no model need be downloaded."""
    for model in workspace.logged_models(run.id):
        folder = Path(model.location.removeprefix("file://"))
        if (folder / "MLmodel").is_file():
            return _signature_inputs(registry.read_mlmodel(folder))
    return ()


def _signature_inputs(mlmodel: dict[str, Any]) -> Sequence[str]:
    signature = mlmodel.get("signature") or {}
    try:
        fields = json.loads(signature.get("inputs") or "[]")
    except ValueError:
        return ()
    return [str(field["name"]) for field in fields if isinstance(field, dict) and field.get("name")]
