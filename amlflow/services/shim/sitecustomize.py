"""What amlflow adds to a Python program that it runs. Its folder stands first on PYTHONPATH, so Python imports it at start-up;
it costs nothing until the program imports one of the modules below, and never makes a program fail.

AMLFLOW_AUTOLOG=1: MLflow autologging is turned on as soon as a library is imported that MLflow can autolog.
AMLFLOW_PROJECT=FOLDER: a step of the same project, started by `mlflow.run` without an environment manager, runs in the
environment at hand, which is the project's own; MLflow would make another one with pyenv.
AMLFLOW_EXPERIMENT=ID: `mlflow.set_experiment` of another experiment, before the program opens the run that it is tracked in, is
overruled with a warning; MLflow would refuse to open the run.
"""

from __future__ import annotations

import functools
import importlib.abc
import importlib.machinery
import importlib.util
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    # Importing it for real would cost every program some milliseconds.
    from typing import Any

LIBRARIES = {
    "catboost", "fastai", "keras", "lightgbm", "lightning", "paddle", "prophet", "pyspark", "pytorch_lightning",
    "sklearn", "statsmodels", "tensorflow", "torch", "transformers", "xgboost",
}  # fmt: skip


def _turn_on(_library: Any) -> None:
    try:
        import mlflow

        mlflow.autolog()
    except ImportError:
        sys.stderr.write("Warning: autologging was asked for, but this program's environment has no mlflow.\n")
    except Exception as error:
        sys.stderr.write("Warning: autologging could not be turned on: %s\n" % (error,))


def _share_environment(projects: Any) -> None:
    original, folder = projects.run, os.environ["AMLFLOW_PROJECT"]

    @functools.wraps(original)
    def run(uri: Any, *args: Any, **options: Any) -> Any:
        place = str(uri)
        same = os.path.isdir(place) and os.path.samefile(place, folder)
        if same and options.get("env_manager") is None and options.get("backend", "local") == "local":
            options["env_manager"] = "local"
        return original(uri, *args, **options)

    projects.run = run


def _keep_experiment(fluent: Any) -> None:
    original, own = fluent.set_experiment, os.environ["AMLFLOW_EXPERIMENT"]

    @functools.wraps(original)
    def set_experiment(experiment_name: Any = None, experiment_id: Any = None, *args: Any, **options: Any) -> Any:
        asked = experiment_id if experiment_id is not None else experiment_name
        known = (own, os.environ.get("MLFLOW_EXPERIMENT_NAME"))
        if "MLFLOW_RUN_ID" not in os.environ or asked in known:
            return original(experiment_name, experiment_id, *args, **options)
        sys.stderr.write(
            "Warning: set_experiment(%r) is overruled: this program is tracked in a run of the experiment %r. "
            "Give amlflow -e %s to track it there.\n" % (asked, known[1], asked)
        )
        return original(experiment_id=own)

    fluent.set_experiment = set_experiment


class _AfterImport(importlib.abc.MetaPathFinder):
    """Calls a function once the first of some modules has been imported whole."""

    def __init__(self, names: Any, act: Any) -> None:
        self.names, self.act, self.busy = names, act, False

    def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
        if self.busy or name not in self.names:
            return None
        mlflow = sys.modules.get("mlflow")
        if self.act is _turn_on and getattr(getattr(mlflow, "__spec__", None), "_initializing", False):
            # MLflow itself is being imported and asks for the library: it cannot be called yet.
            return None
        self.busy = True
        try:
            spec = importlib.util.find_spec(name)
        finally:
            self.busy = False
        if spec is None or spec.loader is None:
            return None
        self._act_after(spec.loader)
        return spec

    def _act_after(self, loader: Any) -> None:
        execute = loader.exec_module

        def exec_module(module: Any) -> None:
            execute(module)
            if self in sys.meta_path:
                sys.meta_path.remove(self)
                self.act(module)

        loader.exec_module = exec_module


def _chain() -> None:
    """Run the sitecustomize that this one hides, if the program's environment has one."""
    here = os.path.dirname(os.path.abspath(__file__))
    elsewhere = [entry for entry in sys.path if os.path.abspath(entry or ".") != here]
    spec = importlib.machinery.PathFinder.find_spec("sitecustomize", elsewhere)
    if spec is not None and spec.loader is not None:
        spec.loader.exec_module(importlib.util.module_from_spec(spec))


if os.environ.get("AMLFLOW_AUTOLOG") == "1":
    sys.meta_path.insert(0, _AfterImport(LIBRARIES, _turn_on))
if os.environ.get("AMLFLOW_PROJECT"):
    sys.meta_path.insert(0, _AfterImport({"mlflow.projects"}, _share_environment))
if os.environ.get("AMLFLOW_EXPERIMENT"):
    sys.meta_path.insert(0, _AfterImport({"mlflow.tracking.fluent"}, _keep_experiment))
_chain()
