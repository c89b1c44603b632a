"""Split the diabetes data that scikit-learn ships, and keep both parts with the run."""

import argparse
import tempfile
from pathlib import Path

import mlflow
from sklearn.datasets import load_diabetes
from sklearn.model_selection import train_test_split


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--test-share", type=float, default=0.3)
    options = parser.parse_args()
    frame = load_diabetes(as_frame=True).frame
    train, test = train_test_split(frame, test_size=options.test_share, random_state=0)
    with mlflow.start_run(), tempfile.TemporaryDirectory() as folder:
        train.to_csv(Path(folder) / "train.csv", index=False)
        test.to_csv(Path(folder) / "test.csv", index=False)
        mlflow.log_artifacts(folder, "data")
        mlflow.log_metrics({"train_rows": len(train), "test_rows": len(test)})


if __name__ == "__main__":
    main()
