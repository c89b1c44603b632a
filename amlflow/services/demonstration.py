"""What `amlflow demo` does, step by step."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from amlflow.errors import NotFound

NAME = "wine-demo"


@dataclass(frozen=True, slots=True)
class Step:
    """A command of amlflow, and what it is for."""

    about: str
    arguments: Sequence[str]


def steps(env_manager: str, keep: bool) -> list[Step]:
    project = os.path.relpath(example("wine"))
    train = ["run-project", project, "-e", NAME, "--env-manager", env_manager]
    found = [
        Step("Train a small forest, as a tracked run.", [*train, "-P", "n_estimators=3", "-P", "max_depth=2"]),
        Step("Train a larger one. Its environment is in the cache now.", [*train, "-P", "n_estimators=80"]),
        Step("Which is better?", ["compare", "-e", NAME, "--sort", "log_loss", "--top", "2", "-o", "table"]),
        Step(
            "Register the model of the best run.",
            ["register", "best:-log_loss", "-e", NAME, "--name", NAME, "--alias", "champion"],
        ),
        Step(
            "Serve it as a web service on this machine.",
            ["deploy", f"{NAME}@champion", "--target", "local", "--name", NAME, "--env-manager", env_manager],
        ),
        Step("Ask it about the model's own input example.", ["endpoint", "invoke", NAME, "--example"]),
    ]
    if not keep:
        found.append(Step("Stop the web service.", ["endpoint", "delete", NAME]))
    return found


def example(name: str) -> Path:
    """The folder of a shipped example: in the package when installed from a wheel, beside it in a checkout."""
    package = Path(__file__).parent.parent
    for root in (package / "examples", package.parent / "examples"):
        if (root / name / "MLproject").is_file():
            return root / name
    raise NotFound(f"The example {name!r} is not part of this installation.", "Install amlflow again.")
