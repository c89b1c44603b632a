"""What amlflow adds to a Python program that it runs. Its folder stands first on PYTHONPATH, so Python imports it at start-up;
it costs nothing until the program imports one of the modules below, and never makes a program fail.

AMLFLOW_AUTOLOG=1: MLflow autologging is turned on as soon as a library is imported that MLflow can autolog.
AMLFLOW_PROJECT=FOLDER: a step of the same project, started by `mlflow.run` without an environment manager, runs in the
environment at hand, which is the project's own; MLflow would make another one with pyenv.
"""

import functools
import importlib.abc
import importlib.machinery
import importlib.util
import os
import sys
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


class _AfterImport(importlib.abc.MetaPathFinder):
    """Calls a function once the first of some modules has been imported whole."""

    def __init__(self, names: Any, act: Any) -> None:
        self.names, self.act, self.busy = names, act, False

    def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
        if self.busy or name not in self.names:
            return None
        mlflow = sys.modules.get("mlflow")
        if self.act is not _share_environment and getattr(getattr(mlflow, "__spec__", None), "_initializing", False):
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
_chain()
