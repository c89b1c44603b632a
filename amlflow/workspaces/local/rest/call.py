"""What passes between the entrance and the handlers."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias


class Unusual(Exception):
    """The request is not an ordinary one (malformed, or with an option that is not read here): MLflow's own application
    is to answer it. `reason` is shown where that cannot be asked."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """How much one `runs/log-batch` may hold; None is without limit."""

    metrics: int | None = 1000
    params: int | None = 100
    tags: int | None = 100
    together: int | None = 1000


MLFLOW_LIMITS = BatchLimits()
NO_LIMITS = BatchLimits(None, None, None, None)


@dataclass(frozen=True, slots=True)
class Call:
    """One request: the JSON body (or the query of a GET, with text for numbers), and the values of the path's places."""

    body: Mapping[str, Any]
    place: Mapping[str, str]
    artifact_root: str
    limits: BatchLimits
    has_workspaces: bool
    """Whether the tables have a column `workspace` (MLflow 3.10 and later), which experiments show."""


Handler: TypeAlias = Callable[[sqlite3.Connection, Call], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Route:
    """A handler, and the transaction that it needs. `notifies` marks writes of which MLflow tells webhooks: where there
    are any, MLflow's own application does it."""

    handler: Handler
    needs: Literal["read", "write"]
    notifies: bool = False
