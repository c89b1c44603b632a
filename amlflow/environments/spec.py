"""Which Python and which packages a project or model asks for, read from its files.

A conda file of Python and pip packages alone needs no conda: an entry of its `dependencies` counts as a PyPI package of the
same name unless it is one that PyPI does not have (`NEEDS_CONDA` and the prefixes below) or comes with a build string.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from amlflow import documents
from amlflow.errors import NotFound, UsageError

# Packages of conda's main channels that are not Python packages, or that PyPI has under that name as something else.
NEEDS_CONDA = frozenset(
    "r-base rpy2 cudatoolkit cudnn nccl cuda gcc gxx gfortran clang cmake make libgcc libgcc-ng libstdcxx-ng libgomp "
    "libgfortran mkl openblas libopenblas blas lapack openjdk maven nodejs go rust ffmpeg gdal geos proj hdf5 netcdf4 "
    "libnetcdf openmpi mpich openssl libxml2 git graphviz poppler tesseract postgresql sqlite zlib bzip2 xz r sysroot_linux-64 "
    "pytorch-cuda cupti libblas liblapack libcblas compilers c-compiler cxx-compiler fortran-compiler ninja perl".split()
)
_CONDA_PREFIXES = ("r-", "lib", "cuda-", "gcc_", "gxx_", "_")
# Conda's names of packages that PyPI has under another.
_RENAMED = {"pytorch": "torch", "pytorch-cpu": "torch", "tensorflow-base": "tensorflow", "py-xgboost": "xgboost"}
_PYTHON_ENV_KEYS = ("python", "build_dependencies", "dependencies")
_CONDA_KEYS = ("name", "channels", "dependencies", "prefix", "variables")
_CONDA_ENTRY = re.compile(
    r"(?:(?P<channel>[\w./-]+)::)?(?P<name>[\w.-]+)(?:\[(?P<extra>[^\]]*)\])?\s*(?P<version>.*)", re.DOTALL
)
_MLFLOW = re.compile(r"mlflow(-skinny)?\b(?!-)", re.IGNORECASE)
_FILE_REFERENCE = re.compile(r"(?P<flag>-r|--requirement|-c|--constraint)[ =]*(?P<file>.+)")


@dataclass(frozen=True, slots=True)
class EnvironmentSpec:
    """`python` is a version ("3.11", "3.11.7") or empty for the interpreter that runs amlflow; `requirements` are lines as pip
    takes them. `conda_file` is set only where conda itself is needed. `source` is the file, for messages."""

    source: str
    python: str = ""
    requirements: tuple[str, ...] = ()
    build_requirements: tuple[str, ...] = ()
    conda_file: Path | None = None

    def digest(self) -> str:
        """A hash of the content, of local packages that it refers to as well: another content, another environment."""
        parts = [self.python, *self.requirements, "--", *self.build_requirements]
        if self.conda_file is not None:
            parts.append(self.conda_file.read_text(encoding="utf-8"))
        parts += [_stamp(line) for line in self.requirements if _local_path(line)]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:24]

    def adding(self, *requirements: str) -> EnvironmentSpec:
        return replace(self, requirements=(*self.requirements, *requirements))

    def with_mlflow(self, version: str) -> EnvironmentSpec:
        """The same with MLflow, of this version where it is not empty, unless it is asked for already."""
        if any(_MLFLOW.match(line) for line in self.requirements):
            return self
        return self.adding(f"mlflow=={version}" if version else "mlflow")


def from_python_env(path: Path) -> EnvironmentSpec:
    """MLflow's python_env.yaml. Raises `UsageError` for what it cannot mean."""
    content = documents.read(path, _PYTHON_ENV_KEYS)
    python = content.get("python")
    if python is not None and not isinstance(python, (str, float, int)):
        raise UsageError(f"{path}: 'python' must be a version such as \"3.11\", not {python!r}.")
    return EnvironmentSpec(
        str(path),
        str(python or ""),
        _requirements(path, documents.texts(path, content, "dependencies")),
        _requirements(path, documents.texts(path, content, "build_dependencies")),
    )


def from_requirements(path: Path, python: str = "") -> EnvironmentSpec:
    """A requirements.txt, with the files that it includes."""
    return EnvironmentSpec(str(path), python, _requirements(path, [f"-r {path.name}"]))


def from_conda(path: Path) -> EnvironmentSpec:
    """A conda.yaml; with `conda_file` set where it has packages that only conda has."""
    content = documents.read(path, _CONDA_KEYS)
    entries = content.get("dependencies") or []
    if not isinstance(entries, list):
        raise UsageError(f"{path}: 'dependencies' must be a list, not {entries!r}.")
    python, found, needs_conda = "", [], False
    for entry in entries:
        if isinstance(entry, dict):
            if set(entry) != {"pip"} or not isinstance(entry["pip"], list):
                raise UsageError(f"{path}: {entry!r} under 'dependencies' is neither a package nor a list 'pip:'.")
            found += [str(line) for line in entry["pip"]]
            continue
        if not isinstance(entry, str) or not (match := _CONDA_ENTRY.fullmatch(entry.strip())):
            raise UsageError(f"{path}: {entry!r} under 'dependencies' is not a package.")
        name, version = match["name"].lower(), match["version"].strip()
        if name == "python":
            python = _python_version(path, version)
        elif name in ("pip", "setuptools", "wheel"):
            continue
        elif (
            name in NEEDS_CONDA or name.startswith(_CONDA_PREFIXES) or (version.count("=") == 2 and "==" not in version)
        ):
            needs_conda = True
        else:
            extra = f"[{match['extra']}]" if match["extra"] else ""
            found.append(f"{_RENAMED.get(name, match['name'])}{extra}{_pip_version(version)}")
    return EnvironmentSpec(str(path), python, _requirements(path, found), conda_file=path if needs_conda else None)


def of_model(folder: Path) -> EnvironmentSpec:
    """What a logged model needs: python_env.yaml with its requirements, else conda.yaml, else requirements.txt. Raises
    `NotFound` for none."""
    if (folder / "python_env.yaml").is_file():
        return from_python_env(folder / "python_env.yaml")
    if (folder / "conda.yaml").is_file():
        return from_conda(folder / "conda.yaml")
    if (folder / "requirements.txt").is_file():
        return from_requirements(folder / "requirements.txt")
    raise NotFound(
        f"The model in {folder} says nothing of the packages that it needs.",
        "Use --env-manager local to serve it in the environment at hand.",
    )


def _requirements(path: Path, lines: Sequence[str], _within: tuple[Path, ...] = ()) -> tuple[str, ...]:
    """The lines with `-r` files put in place and local paths made absolute, so that they mean the same from anywhere."""
    found: list[str] = []
    for raw in lines:
        line = re.sub(r"(?:^|\s)#.*$", "", raw).strip()
        if not line:
            continue
        match = _FILE_REFERENCE.fullmatch(line)
        if match is None:
            local = _local_path(line)
            found.append(str((path.parent / local).resolve()) if local else line)
            continue
        file = path.parent / match["file"].strip()
        if not file.is_file():
            raise NotFound(f"{path} refers to {match['file'].strip()!r}, and there is no such file.")
        if match["flag"] in ("-c", "--constraint"):
            found.append(f"-c {file.resolve()}")
            continue
        if file.resolve() in _within:
            raise UsageError(f"{file} includes itself.")
        text = file.read_text(encoding="utf-8").replace("\\\n", " ")
        found += _requirements(file, text.splitlines(), (*_within, file.resolve()))
    return tuple(found)


def _local_path(line: str) -> str:
    """The path of a requirement that is a file or folder of this machine."""
    if line.startswith(("./", "../", "/")) or (
        line.endswith((".whl", ".tar.gz")) and "://" not in line and " @ " not in line
    ):
        return line
    return ""


def _stamp(line: str) -> str:
    path = Path(line)
    files = [path] if path.is_file() else sorted(item for item in path.rglob("*") if item.is_file())
    return "\n".join(f"{item} {item.stat().st_size} {item.stat().st_mtime_ns}" for item in files)


def _python_version(path: Path, version: str) -> str:
    text = version.replace(" ", "").split(",")[0].lstrip("=<>~!")
    text = text.removesuffix(".*").split("=")[0]
    if version and not re.fullmatch(r"\d+(\.\d+){0,2}", text):
        raise UsageError(f"{path}: Python {version!r} is not a version such as 3.11.")
    if re.search(r"[<>~]", version):
        return version.replace(" ", "")
    return text


def _pip_version(version: str) -> str:
    """Conda's pins as pip writes them: `=1.2` is any 1.2.x, `==1.2` and a bare number exactly that."""
    version = version.strip()
    if not version or version == "*":
        return ""
    if re.match(r"[<>~!]|==", version):
        return version
    number = version.lstrip("=").split("=")[0].strip()
    return f"=={number}" if number.endswith("*") else f"=={number}.*"
