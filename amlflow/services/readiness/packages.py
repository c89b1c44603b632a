"""The packages that a model asks for: whether they are told, pinned, fit together where it will run, and are known to work."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from amlflow.environments import build, resolution, spec
from amlflow.errors import AmlflowError, Unavailable
from amlflow.services import registry
from amlflow.services.readiness.findings import INFERENCE_SERVER, MONITORING, Finding, Hosting, of_error
from amlflow.targets import image
from amlflow.targets.base import ModelToDeploy

RESOLVE_S = 120.0
# They import azureml.contrib.services, which is in no package that they ask for (azureml-examples 4004, 4009).
BROKEN_SERVERS = ("1.3.0", "1.3.1", "1.3.2", "1.3.3", "1.3.4")
SOUND_SERVER = f"{INFERENCE_SERVER}!=1.3.*"
_MLFLOW = ("mlflow", "mlflow-skinny")
_SHOWN = 6


@dataclass(frozen=True, slots=True)
class Line:
    """A requirement as it is written. `name` is normalized, empty for options, paths and bare addresses; `pinned` says that it
    means one version, or whatever is at one place."""

    text: str
    name: str
    pinned: bool


@dataclass(frozen=True, slots=True)
class Resolved:
    """What uv found: `pins` by normalized name, empty where nothing fits together or it could not be asked."""

    findings: Sequence[Finding]
    pins: Mapping[str, str] = field(default_factory=dict)


def wanted(model: ModelToDeploy, hosting: Hosting) -> spec.EnvironmentSpec:
    """What the target will read. Raises `AmlflowError` for none, or for what cannot be understood."""
    conda = model.folder / conda_name(registry.read_mlmodel(model.folder))
    if hosting.conda and conda.is_file():
        return spec.from_conda(conda)
    return spec.of_model(model.folder)


def conda_name(mlmodel: Mapping[str, Any]) -> str:
    """The name of the model's conda file, as its MLmodel file has it."""
    function = mlmodel["flavors"].get("python_function")
    env = function.get("env") if isinstance(function, dict) else None
    found = env.get("conda") if isinstance(env, dict) else env
    # It is the model's word, and must not lead out of its folder.
    return Path(found).name if isinstance(found, str) and found else "conda.yaml"


def parsed(text: str) -> Line:
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        requirement = Requirement(text)
    except InvalidRequirement:
        return Line(text, "", True)
    exact = any(item.operator in ("==", "===") for item in requirement.specifier)
    return Line(text, resolution.normalized(requirement.name), exact or requirement.url is not None)


def findings(model: ModelToDeploy, hosting: Hosting, asked: spec.EnvironmentSpec) -> Iterator[Finding]:
    """What can be told from the files alone."""
    lines = [parsed(text) for text in asked.requirements]
    yield from _files(model, hosting)
    yield from _for_conda_alone(hosting, asked)
    yield _pinned(lines)
    if hosting.no_code:
        yield _monitoring(lines, asked, hosting)
    yield from _mlflow(registry.read_mlmodel(model.folder), lines, hosting)


def resolved(
    hosting: Hosting,
    asked: spec.EnvironmentSpec,
    python: str,
    report: Callable[[str], None],
    timeout_s: float = RESOLVE_S,
) -> Resolved:
    """Let uv find versions that fit together, on the target's Python and platform, with what the target adds."""
    lines = [*asked.requirements, *(asked.build_requirements if hosting.target == "aci" else ()), *hosting.server]
    place = f"Python {python} on {'Linux' if hosting.platform else 'this machine'}"
    report(f"Looking for versions of {len(lines)} requirements that fit together for {place}…")
    try:
        # Wheels first: a package that has one is then never built here only to learn what it needs.
        first = resolution.compiled(lines, python, hosting.platform, wheels_only=True, timeout_s=timeout_s)
        done = first
        if first.returncode != 0 and not isinstance(build.install_error(asked, first.stderr), Unavailable):
            done = resolution.compiled(lines, python, hosting.platform, timeout_s=timeout_s)
    except subprocess.TimeoutExpired:
        why = f"uv had not found versions that fit together after {timeout_s:.0f} s, for {place}."
        return Resolved([Finding("warning", "packages", why, "Pin more of them: there is less to try then.")])
    if done.returncode != 0:
        return Resolved([_unsatisfied(hosting, asked, done.stderr, place)])
    pins = resolution.pins(done.stdout)
    found = [Finding("ok", "packages", f"{len(pins)} fit together for {place}")]
    if done is not first:
        found = [_built(hosting, asked, first.stderr, place)]
    if pins.get(INFERENCE_SERVER, "") in BROKEN_SERVERS and INFERENCE_SERVER in hosting.server:
        found.append(_broken_server(pins[INFERENCE_SERVER]))
    return Resolved(found, pins)


def _files(model: ModelToDeploy, hosting: Hosting) -> Iterator[Finding]:
    conda = model.folder / conda_name(registry.read_mlmodel(model.folder))
    listed = model.folder / "requirements.txt"
    if hosting.conda and not conda.is_file():
        yield Finding(
            "error",
            "conda file",
            f"The model has no {conda.name}, from which Azure makes its environment.",
            "--mend writes one of the model's other files.",
        )
    elif hosting.conda and listed.is_file():
        sides = (set(spec.from_conda(conda).requirements), set(spec.from_requirements(listed).requirements))
        differing = sorted(sides[0] ^ sides[1])
        if differing:
            yield Finding(
                "warning",
                "conda file",
                f"{conda.name} and requirements.txt differ in {_some(differing)}; this target reads {conda.name}.",
                "Log the model again, with one list of requirements for all targets.",
            )
    if hosting.target == "aci":
        try:
            image.requirements(model)
        except AmlflowError as error:
            yield of_error("image", error)


def _for_conda_alone(hosting: Hosting, asked: spec.EnvironmentSpec) -> Iterator[Finding]:
    if asked.conda_file is not None and hosting.target == "local":
        yield Finding(
            "warning",
            "conda packages",
            f"{asked.conda_file.name} has packages that only conda has, so that a conda is needed on this machine.",
            "Give --env-manager conda when you deploy.",
        )


def _pinned(lines: Sequence[Line]) -> Finding:
    loose = [line.text for line in lines if not line.pinned]
    if not loose:
        return Finding("ok", "pins", f"each of {len(lines)} requirements means one version")
    return Finding(
        "warning",
        "pins",
        f"{_some(loose)} may be another version each time that the environment is made.",
        "--mend pins them to what fits together now.",
    )


def _monitoring(lines: Sequence[Line], asked: spec.EnvironmentSpec, hosting: Hosting) -> Finding:
    if any(line.name == MONITORING for line in lines):
        return Finding("ok", "monitoring", f"{MONITORING} is among the requirements")
    if hosting.falls_back:
        return Finding(
            "ok",
            "monitoring",
            f"{MONITORING} is not among the requirements: amlflow's own scoring script will ask the model",
        )
    return Finding(
        "error",
        "monitoring",
        f"{Path(asked.source).name} lacks {MONITORING}, which Azure's scoring script for MLflow models has imported since May "
        "2026: the deployment ends with a liveness 502.",
        f"--mend adds it; or log the model with `extra_pip_requirements=['{MONITORING}']`.",
    )


def _mlflow(mlmodel: Mapping[str, Any], lines: Sequence[Line], hosting: Hosting) -> Iterator[Finding]:
    logged = str(mlmodel.get("mlflow_version") or "")
    own = next((line for line in lines if line.name in _MLFLOW), None)
    if own is None:
        yield Finding(
            "warning",
            "MLflow",
            "MLflow is not among the requirements, and a model of most flavors cannot be loaded without it.",
            f"--mend adds mlflow=={logged}." if logged else "Add mlflow to the model's requirements.",
        )
    elif logged and own.pinned and "==" in own.text and not _allows(own.text, logged):
        yield Finding(
            "warning",
            "MLflow",
            f"The model was saved by MLflow {logged} and will be loaded by {own.text}.",
            f"Log it again, or require mlflow=={logged}.",
        )
    else:
        yield Finding("ok", "MLflow", f"{own.text}{f', as it was saved by {logged}' if logged else ''}")
    if hosting.no_code and not hosting.falls_back and re.match(r"[3-9]\.", logged):
        yield Finding(
            "warning",
            "MLflow on the target",
            f"The model was saved by MLflow {logged}, and Azure's own scoring script was reported to fail with those of MLflow "
            "3 (azureml-examples 3873, 4051).",
            "Try it at no traffic first; `amlflow model image MODEL` makes an image with a scoring app of its own.",
        )


def _allows(text: str, version: str) -> bool:
    from packaging.requirements import Requirement

    return Requirement(text).specifier.contains(version, prereleases=True)


def _unsatisfied(hosting: Hosting, asked: spec.EnvironmentSpec, stderr: str, place: str) -> Finding:
    error = build.install_error(asked, stderr)
    if isinstance(error, Unavailable):
        return of_error("packages", error, "warning")
    _, _, cause = error.message.partition(": ")
    at_fault = _named(asked.requirements, stderr)
    own = {parsed(line).name for line in at_fault}
    added = [line for line in _named(hosting.server, stderr) if parsed(line).name not in own]
    lines = f" The lines at fault: {_some(at_fault)}." if at_fault else ""
    lines += f" The target adds {', '.join(added)} to them." if added else ""
    return Finding(
        "error",
        "packages",
        f"No versions of the packages fit together for {place}: {cause.rstrip('.')}.{lines}",
        f"Correct {_some(at_fault) or 'the requirements'} in {Path(asked.source).name}, by logging the model again.",
    )


def _built(hosting: Hosting, asked: spec.EnvironmentSpec, stderr: str, place: str) -> Finding:
    names = _named([line for line in asked.requirements if "://" not in line], stderr)
    compiler = " and the image has no compiler" if hosting.target == "aci" else ""
    return Finding(
        "warning",
        "packages",
        f"{_some(names) or 'A package'} has no wheel for {place}: it is built from its source each time{compiler}.",
        "Require a version that has one.",
    )


def _broken_server(version: str) -> Finding:
    return Finding(
        "error",
        "inference server",
        f"The requirements lead to {INFERENCE_SERVER} {version}, which fails on its start: it imports what is not there.",
        f"--mend requires {SOUND_SERVER}.",
    )


def _named(lines: Sequence[str], text: str) -> list[str]:
    """Those of the lines whose package the text speaks of."""
    found = []
    for line in lines:
        name = parsed(line).name
        if name and re.search(rf"(?<![\w.-]){re.escape(name)}(?![\w-])", text):
            found.append(line)
    return found


def _some(lines: Sequence[str]) -> str:
    return ", ".join(lines[:_SHOWN]) + (f" and {len(lines) - _SHOWN} more" if len(lines) > _SHOWN else "")
