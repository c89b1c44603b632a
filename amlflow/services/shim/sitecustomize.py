"""Turns MLflow autologging on in a Python program that does not ask for it.

Its folder stands first on PYTHONPATH, so Python imports it at start-up. It costs nothing until the program imports a
library that MLflow can autolog; only then is MLflow imported. It never makes a program fail: without MLflow it says so once.
"""

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


def _turn_on() -> None:
    try:
        import mlflow

        mlflow.autolog()
    except ImportError:
        sys.stderr.write("Warning: autologging was asked for, but this program's environment has no mlflow.\n")
    except Exception as error:
        sys.stderr.write("Warning: autologging could not be turned on: %s\n" % (error,))


class _AfterImport(importlib.abc.MetaPathFinder):
    """Turns autologging on once the first of the libraries has been imported whole."""

    busy = False

    def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
        if self.busy or name not in LIBRARIES:
            return None
        mlflow = sys.modules.get("mlflow")
        if mlflow is not None and getattr(getattr(mlflow, "__spec__", None), "_initializing", False):
            # MLflow itself is being imported and asks for the library: it cannot be called yet.
            return None
        self.busy = True
        try:
            spec = importlib.util.find_spec(name)
        finally:
            self.busy = False
        if spec is None or spec.loader is None:
            return None
        _run_after(spec.loader, self)
        return spec


def _run_after(loader: Any, finder: Any) -> None:
    execute = loader.exec_module

    def exec_module(module: Any) -> None:
        execute(module)
        if finder in sys.meta_path:
            sys.meta_path.remove(finder)
            _turn_on()

    loader.exec_module = exec_module


def _chain() -> None:
    """Run the sitecustomize that this one hides, if the program's environment has one."""
    here = os.path.dirname(os.path.abspath(__file__))
    elsewhere = [entry for entry in sys.path if os.path.abspath(entry or ".") != here]
    spec = importlib.machinery.PathFinder.find_spec("sitecustomize", elsewhere)
    if spec is not None and spec.loader is not None:
        spec.loader.exec_module(importlib.util.module_from_spec(spec))


if os.environ.get("AMLFLOW_AUTOLOG") == "1":
    sys.meta_path.insert(0, _AfterImport())
_chain()
