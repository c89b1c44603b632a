"""Tell three cultivars of wine apart by thirteen measurements, on the data that scikit-learn ships."""

import argparse
import logging
import warnings

import mlflow
from mlflow.models import infer_signature
from sklearn.datasets import load_wine
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import accuracy_score, log_loss
from sklearn.model_selection import train_test_split

warnings.filterwarnings("ignore")
logging.getLogger("mlflow").setLevel(logging.ERROR)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--n-estimators", type=float, default=100)
    parser.add_argument("--max-depth", type=float, default=4)
    parser.add_argument("--seed", type=float, default=0)
    options = parser.parse_args()

    data = load_wine(as_frame=True)
    x_train, x_test, y_train, y_test = train_test_split(
        data.data, data.target, test_size=0.4, random_state=1, stratify=data.target
    )
    # The model is logged once, below, with a signature and an example.
    mlflow.sklearn.autolog(log_models=False, log_datasets=False, silent=True)
    with mlflow.start_run():
        model = RandomForestClassifier(
            n_estimators=int(options.n_estimators),
            max_depth=int(options.max_depth),
            random_state=int(options.seed),
        ).fit(x_train, y_train)
        probabilities = model.predict_proba(x_test)
        accuracy = accuracy_score(y_test, model.predict(x_test))
        mlflow.log_metrics({"accuracy": accuracy, "log_loss": log_loss(y_test, probabilities)})
        mlflow.sklearn.log_model(
            model,
            name="model",
            signature=infer_signature(x_train, model.predict(x_train)),
            input_example=x_test.head(3),
            # MLflow's default format refuses the trees of a forest.
            serialization_format="cloudpickle",
        )
    print(f"accuracy {accuracy:.3f}")


if __name__ == "__main__":
    main()
