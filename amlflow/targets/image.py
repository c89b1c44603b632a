"""What builds a container image that serves a model: a Dockerfile, locked requirements, the scoring app and the model.

The image has two layers of its own: the app with the model, and the environment. It holds no compiler and no second web server,
runs as a user without rights, and answers on `PORT`. The key is not in it: the scoring app takes it from the environment variable
`AMLFLOW_ENDPOINT_KEY`, and without one refuses every request but the health probes.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from amlflow import serving
from amlflow.environments import build, resolution, spec
from amlflow.errors import AmlflowError, NotSupported, UsageError
from amlflow.targets.base import ModelToDeploy, plain_name
from amlflow.targets.local import SERVER_REQUIREMENTS

if TYPE_CHECKING:
    from amlflow.workspaces.azure.registries import AzureRegistry

PORT = 5001
BASE = "mcr.microsoft.com/azurelinux/base/python:3.12"
# uv brings any Python that the base has not. Of wheels it takes those that fit the base's C library.
_UV = "uv>=0.5.20,<1"
PLATFORM = "x86_64-manylinux_2_28"
PYTHONS = ("3.12", "3.11", "3.13", "3.10", "3.14", "3.9")
# The base trusts few authorities, and that of the storage need not be among them.
_AUTHORITIES = "certifi"
_SERVING = ("__init__", "app", "boot", "collector", "loader", "payload", "shipping", "signature", "worker")
# Above every user of the base image; a number needs no entry in /etc/passwd, and lets a cluster see that it is not root.
_USER = "10001:10001"
_DOCKERFILE = f"""\
FROM {BASE}
COPY app /app
RUN python3 -m pip install --no-cache-dir --target /opt/uv "{_UV}" \\
 && UV_PYTHON_INSTALL_DIR=/opt/python /opt/uv/bin/uv venv --no-cache --python @PYTHON@ /opt/environment \\
 && /opt/uv/bin/uv pip install --no-cache --compile-bytecode --python /opt/environment/bin/python -r /app/requirements.txt \\
 && rm -rf /opt/uv
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HOME=/tmp
USER {_USER}
EXPOSE {PORT}
HEALTHCHECK --start-period=60s CMD ["/opt/environment/bin/python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:{PORT}/health')"]
CMD ["/opt/environment/bin/python", "/app/serving/boot.py", "worker", "--spec", "/app/spec.json", "--port", "{PORT}"]
"""


@dataclass(frozen=True, slots=True)
class Image:
    """What an image will hold. `tag` stands for its content: of the same model, requirements and scoring app it is the same
    everywhere. `python` is a minor version such as "3.11"."""

    model: ModelToDeploy
    requirements: spec.EnvironmentSpec
    python: str
    tag: str


def of_model(model: ModelToDeploy) -> Image:
    """Raises `NotSupported` for a model that needs conda, `UsageError` for requirements that an image cannot or must not hold."""
    wanted = requirements(model)
    python = minor(wanted.python)
    return Image(model, wanted, python, _tag(model, wanted, python))


def requirements(model: ModelToDeploy) -> spec.EnvironmentSpec:
    """What is installed into the image. Raises as `of_model` does."""
    wanted = spec.of_model(model.folder)
    if wanted.conda_file is not None:
        raise NotSupported(
            f"The model {model.label} needs packages that only conda has, and the image is made with uv.",
            "Serve it with `amlflow deploy MODEL --env-manager conda`.",
        )
    for line in (*wanted.requirements, *wanted.build_requirements):
        check_line(line, wanted.source)
    return wanted.adding(*wanted.build_requirements, *SERVER_REQUIREMENTS, _AUTHORITIES)


def repository(model: ModelToDeploy) -> str:
    """Where in a registry the images of the model are."""
    return f"amlflow-{plain_name(model.registered.rpartition(':')[0] or model.label)}"


def write(image: Image, folder: Path, report: Callable[[str], None]) -> None:
    """Lock the requirements and write the build context into the folder, which must be new or empty. Raises `AmlflowError` for
    requirements that cannot be met; then nothing is written."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise AmlflowError(f"{str(folder)!r} exists and is not empty.", "Choose another folder.")
    report(f"Locking {len(image.requirements.requirements)} requirements for Python {image.python} on Linux…")
    locked = _locked(image)
    app = folder / "app"
    app.mkdir(parents=True)
    (folder / "Dockerfile").write_text(_dockerfile(image.python), encoding="utf-8")
    (app / "requirements.txt").write_text(locked, encoding="utf-8")
    (app / "spec.json").write_text(_spec(image.model), encoding="utf-8")
    for relative, source in files(image.model):
        target = app / relative
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)


def build_in(image: Image, registry: AzureRegistry, report: Callable[[str], None]) -> None:
    """Build it by the tasks of the registry. Raises `AmlflowError` with the end of the log."""
    with tempfile.TemporaryDirectory() as place:
        context = Path(place) / "context"
        write(image, context, report)
        registry.build(context, repository(image.model), image.tag, report)


def _dockerfile(python: str) -> str:
    return _DOCKERFILE.replace("@PYTHON@", python)


def _spec(model: ModelToDeploy) -> str:
    return json.dumps({"label": model.label, "model_folder": "/app/model", "open_health": True}) + "\n"


def files(model: ModelToDeploy) -> Iterator[tuple[str, Path]]:
    """Of all that is copied as it is, in a fixed order: where it comes to lie below `/app`, and the file. Raises `UsageError` for
    a link that leads out of the model's folder."""
    home = Path(serving.__file__).parent
    for name in _SERVING:
        yield f"serving/{name}.py", home / f"{name}.py"
    for file in sorted(model.folder.rglob("*"), key=lambda item: item.relative_to(model.folder).as_posix()):
        relative = file.relative_to(model.folder)
        if not file.is_file() or "__pycache__" in relative.parts:
            continue
        if not file.resolve().is_relative_to(model.folder.resolve()):
            raise UsageError(
                f"The model {model.label} has a link {relative.as_posix()!r} that leads out of its folder.",
                "Put the file itself in its place.",
            )
        yield f"model/{relative.as_posix()}", file


def _tag(model: ModelToDeploy, wanted: spec.EnvironmentSpec, python: str) -> str:
    """The requirements count as they were asked for, not as they were locked: a release of one of them is no reason to build the
    image of a model anew."""
    total = hashlib.sha256()
    for part in (_dockerfile(python), _spec(model), *wanted.requirements):
        total.update(hashlib.sha256(_content(part)).digest())
    for relative, file in files(model):
        total.update(hashlib.sha256(relative.encode()).digest())
        own = hashlib.sha256()
        with file.open("rb") as source:
            while chunk := source.read(1 << 20):
                own.update(chunk)
        total.update(own.digest())
    return total.hexdigest()[:20]


def _content(part: str) -> bytes:
    file = Path(part.removeprefix("-c ").strip()) if part.startswith("-c ") else None
    return file.read_bytes() if file is not None else part.encode()


def check_line(line: str, source: str) -> None:
    if line.startswith("-c "):
        return
    if line.startswith("-"):
        # The rest of the line may hold the password of an index.
        raise UsageError(
            f"The option {re.split('[ =]', line)[0]} in {source} cannot go into an image.", "Take it out of the file."
        )
    if re.search(r"://[^/\s]*@", line):
        raise UsageError(
            f"A requirement in {source} carries a password in its address, and would carry it into the image.",
            "Publish the package where no password is asked for, or log it with the model by `code_paths`.",
        )
    if line.startswith("/"):
        raise UsageError(
            f"The requirement {line!r} of {source} is a path of this machine, which an image has not.",
            "Publish the package, or log it with the model by `code_paths`.",
        )


def minor(python: str) -> str:
    """The Python that the model asks for, without its patch number; of a range the first that fits, the base's own first."""
    from packaging.specifiers import SpecifierSet

    if not python:
        return f"{sys.version_info[0]}.{sys.version_info[1]}"
    if not re.match(r"[<>~!=]", python):
        return ".".join(python.split(".")[:2])
    allowed = SpecifierSet(python)
    found = next((minor for minor in PYTHONS if f"{minor}.20" in allowed or f"{minor}.0" in allowed), "")
    if not found:
        raise UsageError(f"The model asks for Python {python}, which is none of {', '.join(PYTHONS)}.")
    return found


def _locked(image: Image) -> str:
    lines = image.requirements.requirements
    # A package at an address has no hash in an index, and one line with a hash asks every line for one.
    hashes = not any("://" in line for line in lines)
    done = resolution.compiled(lines, image.python, PLATFORM, hashes=hashes)
    if done.returncode != 0:
        raise build.install_error(image.requirements, done.stderr)
    return done.stdout
