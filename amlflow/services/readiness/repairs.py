"""Changes of a model's files that name its packages: conda.yaml, requirements.txt, python_env.yaml, and of what names these."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from amlflow.environments import spec
from amlflow.services import registry
from amlflow.services.readiness import packages as lint
from amlflow.services.readiness.findings import INFERENCE_SERVER, MONITORING, Hosting
from amlflow.services.readiness.packages import Line
from amlflow.targets import image
from amlflow.targets.base import ModelToDeploy

_LISTED, _PYTHON_ENV = "requirements.txt", "python_env.yaml"


@dataclass(frozen=True, slots=True)
class Edit:
    """`replaced` goes from a line as it is written to what stands in its place; `added` are new lines."""

    replaced: Mapping[str, str]
    added: Sequence[str]

    def of(self, lines: Sequence[str]) -> list[str]:
        """The lines edited. What is added is left out where it is named already."""
        made = [self.replaced.get(_without_comment(line), line) for line in lines]
        names = {lint.parsed(_without_comment(line)).name for line in made}
        return made + [line for line in self.added if lint.parsed(line).name not in names]


def packages(model: ModelToDeploy, hosting: Hosting, report: Callable[[str], None]) -> list[str]:
    """Repair the files in the model's folder, which is the caller's to change; returns what was changed, in sentences. Raises
    `AmlflowError` for files that cannot be read."""
    asked = lint.wanted(model, hosting)
    python = image.minor(asked.python)
    edit, changes = _needed(model, hosting, asked)
    if asked.conda_file is None:
        pins = _resolved(edit, hosting, asked, python, report)
        if pins.get(INFERENCE_SERVER, "") in lint.BROKEN_SERVERS and INFERENCE_SERVER in hosting.server:
            edit = Edit(edit.replaced, [*edit.added, lint.SOUND_SERVER])
            changes.append(f"added {lint.SOUND_SERVER}")
            pins = _resolved(edit, hosting, asked, python, report)
        edit, pinned = _pinned(edit, asked.requirements, pins)
        changes += [f"pinned {line}" for line in pinned]
    if edit.replaced or edit.added:
        _rewrite(model.folder, edit)
    return changes + _completed(model.folder, asked, edit)


def write_mlmodel(folder: Path, content: Mapping[str, Any]) -> None:
    _write_yaml(folder / "MLmodel", content)


def _resolved(
    edit: Edit, hosting: Hosting, asked: spec.EnvironmentSpec, python: str, report: Callable[[str], None]
) -> Mapping[str, str]:
    edited = replace(asked, requirements=tuple(edit.of(asked.requirements)))
    return lint.resolved(hosting, edited, python, report).pins


def _needed(model: ModelToDeploy, hosting: Hosting, asked: spec.EnvironmentSpec) -> tuple[Edit, list[str]]:
    """What is known to be missing or wrong, whatever versions there are."""
    lines = [lint.parsed(text) for text in asked.requirements]
    names = {line.name for line in lines}
    replaced: dict[str, str] = {}
    added: list[str] = []
    changes: list[str] = []
    logged = str(registry.read_mlmodel(model.folder).get("mlflow_version") or "")
    if logged and not names & {"mlflow", "mlflow-skinny"}:
        added.append(f"mlflow=={logged}")
        changes.append(f"added mlflow=={logged}")
    if hosting.no_code and MONITORING not in names:
        added.append(MONITORING)
        changes.append(f"added {MONITORING}")
    for line in lines:
        if line.name == INFERENCE_SERVER and INFERENCE_SERVER in hosting.server and _may_be_broken(line):
            replaced[line.text] = lint.SOUND_SERVER
            changes.append(f"{line.text} is now {lint.SOUND_SERVER}")
    return Edit(replaced, added), changes


def _may_be_broken(line: Line) -> bool:
    from packaging.requirements import Requirement

    return line.pinned and any(Requirement(line.text).specifier.contains(item) for item in lint.BROKEN_SERVERS)


def _pinned(edit: Edit, before: Sequence[str], pins: Mapping[str, str]) -> tuple[Edit, list[str]]:
    """The edit with each line that may mean several versions replaced by the one that was found; and what was pinned."""
    lines = [lint.parsed(line) for line in edit.of(before)]
    exact = {line.text: _exactly(line, pins) for line in lines if not line.pinned and line.name in pins}
    replaced = {line: exact.get(better, better) for line, better in edit.replaced.items()}
    replaced |= {line: exact[line] for line in before if line in exact and line not in replaced}
    return Edit(replaced, [exact.get(line, line) for line in edit.added]), list(exact.values())


def _exactly(line: Line, pins: Mapping[str, str]) -> str:
    from packaging.requirements import Requirement

    requirement = Requirement(line.text)
    extras = f"[{','.join(sorted(requirement.extras))}]" if requirement.extras else ""
    marker = f"; {requirement.marker}" if requirement.marker else ""
    return f"{requirement.name}{extras}=={pins[line.name]}{marker}"


def _rewrite(folder: Path, edit: Edit) -> None:
    """The same edit in each of the files that are there."""
    listed, env = folder / _LISTED, folder / _PYTHON_ENV
    conda = folder / lint.conda_name(registry.read_mlmodel(folder))
    if listed.is_file():
        lines = edit.of(listed.read_text(encoding="utf-8").splitlines())
        listed.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    if env.is_file():
        content = _read_yaml(env)
        given = [str(line) for line in content.get("dependencies") or []]
        # What is added stands in requirements.txt, where that is referred to.
        within = any(_LISTED in line for line in given) and listed.is_file()
        content["dependencies"] = (Edit(edit.replaced, ()) if within else edit).of(given)
        _write_yaml(env, content)
    if conda.is_file():
        content = _read_yaml(conda)
        entries = list(content.get("dependencies") or [])
        lists = [entry["pip"] for entry in entries if isinstance(entry, dict) and "pip" in entry]
        others = [entry for entry in entries if not isinstance(entry, dict)]
        others += ["pip"] if not lists and "pip" not in others else []
        pip = edit.of([str(line) for given in lists for line in given])
        _write_yaml(conda, {**content, "dependencies": [*others, {"pip": pip}]})


def _completed(folder: Path, asked: spec.EnvironmentSpec, edit: Edit) -> list[str]:
    """Write those of the three files that are missing, from what the others say; the names of what was written."""
    mlmodel = registry.read_mlmodel(folder)
    conda, made = lint.conda_name(mlmodel), list[str]()
    lines = [line for line in edit.of(asked.requirements) if not re.match(r"-c |/", line)]
    python = asked.python or image.minor("")
    if asked.conda_file is None and not (folder / conda).is_file():
        entries = [f"python={python}" if python[0].isdigit() else f"python{python}", "pip", {"pip": lines}]
        _write_yaml(folder / conda, {"name": "mlflow-env", "channels": ["conda-forge"], "dependencies": entries})
        made.append(conda)
    if asked.conda_file is None and not (folder / _LISTED).is_file():
        (folder / _LISTED).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        made.append(_LISTED)
    if asked.conda_file is None and not (folder / _PYTHON_ENV).is_file():
        content = {"python": python, "build_dependencies": [], "dependencies": [f"-r {_LISTED}"]}
        _write_yaml(folder / _PYTHON_ENV, content)
        made.append(_PYTHON_ENV)
    function = mlmodel["flavors"].get("python_function")
    if made and isinstance(function, dict):
        function["env"] = {"conda": conda, "virtualenv": _PYTHON_ENV}
        write_mlmodel(folder, mlmodel)
    return [f"wrote {name}" for name in made]


def _without_comment(line: str) -> str:
    return re.sub(r"(?:^|\s)#.*$", "", line).strip()


def _read_yaml(file: Path) -> dict[str, Any]:
    import yaml

    content = yaml.safe_load(file.read_text(encoding="utf-8"))
    return content if isinstance(content, dict) else {}


def _write_yaml(file: Path, content: Mapping[str, Any]) -> None:
    import yaml

    file.write_text(yaml.safe_dump(dict(content), sort_keys=False, allow_unicode=True, width=10_000), encoding="utf-8")
