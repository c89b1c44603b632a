"""Two steps, each a run of its own below this one: prepare the data, then train on what the first step kept."""

import argparse

import mlflow
from mlflow.artifacts import download_artifacts


def step(entry_point: str, **parameters: object) -> str:
    """Run an entry point of this project; returns its run id. `env_manager` is for `mlflow run`, which would make the
    environment of each step anew."""
    submitted = mlflow.run(".", entry_point, parameters=parameters, env_manager="local")
    return submitted.run_id


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--alpha", type=float, default=0.5)
    options = parser.parse_args()
    with mlflow.start_run() as run:
        prepared = step("prepare")
        data = download_artifacts(run_id=prepared, artifact_path="data")
        trained = step("train", data=data, alpha=options.alpha)
        rmse = mlflow.get_run(trained).data.metrics["rmse"]
        mlflow.log_metric("rmse", rmse)
        mlflow.set_tag("trained_by", trained)
    print(f"run {run.info.run_id}: rmse {rmse:.2f}")


if __name__ == "__main__":
    main()
