"""Running a project that logs nothing, and making environments, beside `mlflow run`."""

from __future__ import annotations

import shutil
import statistics
import tempfile
from pathlib import Path

from timing import AMLFLOW, MLFLOW, Row, medians, show, wall

PACKAGES = "dependencies: [six=={six}, toml==0.10.2, idna==3.10]\n"


def main() -> None:
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        bare, own = root / "bare", root / "own"
        for project in (bare, own):
            project.mkdir()
            (project / "main.py").write_text("")
            (project / "MLproject").write_text("entry_points:\n  main: {command: python main.py}\n")
        (own / "MLproject").write_text(
            "python_env: python_env.yaml\nentry_points:\n  main: {command: python main.py}\n"
        )
        env = {
            "AMLFLOW_HOME": f"{root}/home",
            "AMLFLOW_CACHE_DIR": f"{root}/cache",
            "MLFLOW_TRACKING_URI": f"sqlite:///{root}/mlflow.db",
            "PYTHONWARNINGS": "ignore",
            # MLflow keeps its environments there; those of an earlier run must not pass for cold ones.
            "MLFLOW_ENV_ROOT": f"{root}/envs",
        }
        ours, theirs = medians(
            [
                [AMLFLOW, "run-project", str(bare), "--env-manager", "local"],
                [MLFLOW, "run", str(bare), "--env-manager", "local"],
            ],
            5,
            env,
        )
        cold: dict[str, list[float]] = {"ours": [], "theirs": []}
        warm: dict[str, list[float]] = {"ours": [], "theirs": []}
        manager = "virtualenv" if shutil.which("pyenv") else "uv"
        for six in ("1.14.0", "1.15.0", "1.16.0"):
            # Another version, another environment: cold for both, with each tool's own download cache warm.
            (own / "python_env.yaml").write_text(PACKAGES.format(six=six))
            for times in (cold, warm):
                times["ours"].append(wall([AMLFLOW, "run-project", str(own)], env))
                times["theirs"].append(wall([MLFLOW, "run", str(own), "--env-manager", manager], env))
        rows = [Row("run-project --env-manager local / mlflow run", ours, theirs, 1 / 6)]
        for name, times in (("cold", cold), ("warm", warm)):
            rows.append(
                Row(
                    f"environment of three packages, {name} / mlflow run ({manager})",
                    statistics.median(times["ours"]),
                    statistics.median(times["theirs"]),
                    0.2,
                )
            )
        show("Projects, whole processes", rows)


if __name__ == "__main__":
    main()
