"""Fit a ridge regression on the prepared data."""

import argparse
import logging
import warnings
from pathlib import Path

import mlflow
import pandas as pd
from mlflow.models import infer_signature
from sklearn.linear_model import Ridge
from sklearn.metrics import root_mean_squared_error

warnings.filterwarnings("ignore")
logging.getLogger("mlflow").setLevel(logging.ERROR)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--alpha", type=float, default=0.5)
    options = parser.parse_args()
    train, test = (pd.read_csv(options.data / f"{part}.csv") for part in ("train", "test"))
    x_train, y_train = train.drop(columns="target"), train["target"]
    x_test, y_test = test.drop(columns="target"), test["target"]
    with mlflow.start_run():
        model = Ridge(alpha=options.alpha).fit(x_train, y_train)
        mlflow.log_metric("rmse", root_mean_squared_error(y_test, model.predict(x_test)))
        mlflow.sklearn.log_model(
            model,
            name="model",
            signature=infer_signature(x_train, model.predict(x_train)),
            input_example=x_test.head(2),
            serialization_format="cloudpickle",
        )


if __name__ == "__main__":
    main()
