"""The workspace that a word of MLflow's command stands for, and amlflow's errors in MLflow's own kind."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

from mlflow.exceptions import MlflowException

from amlflow import config
from amlflow.errors import AmlflowError
from amlflow.workspaces import resolve
from amlflow.workspaces.base import Workspace


def workspace_of(uri: str) -> Workspace:
    """Of `amlflow` or `amlflow:` the one that a command without `-w` would use; of `amlflow://WORKSPACE` the one named."""
    asked = uri.partition(":")[2].removeprefix("//")
    return resolve.open_workspace(resolve.resolve(asked, config.load(config.find())))


@contextlib.contextmanager
def told() -> Iterator[None]:
    """Whatever fails in here raises `MlflowException` with amlflow's own words."""
    try:
        yield
    except AmlflowError as error:
        raise MlflowException(error.paragraph()) from error


def say(line: str) -> None:
    sys.stderr.write(f"{line}\n")
