"""What a training program does with MLflow, in every version of it; what came of it is printed as one line of JSON."""

import json
import sys

import mlflow
import mlflow.sklearn
import numpy as np
from mlflow import MlflowClient
from sklearn.linear_model import LinearRegression

experiment = sys.argv[1]
major = int(mlflow.__version__.split(".")[0])
mlflow.set_experiment(experiment)
client = MlflowClient()
found = {"mlflow": mlflow.__version__}
with mlflow.start_run(run_name="first") as run:
    run_id = run.info.run_id
    mlflow.log_param("a", 1)
    mlflow.log_params({"b": 2, "ümlaut": "x"} if major > 2 else {"b": 2})
    for step in range(5):
        mlflow.log_metric("loss", 1 / (step + 1), step=step)
    mlflow.log_metrics({"nan": float("nan"), "inf": float("inf")})
    mlflow.set_tag("t", "first")
    mlflow.set_tag("t", "last")
    mlflow.set_tag("gone", "x")
    mlflow.delete_tag("gone")
    mlflow.log_text("hello", "dir/note.txt")
    mlflow.log_dict({"k": 1}, "d.json")
    mlflow.log_input(mlflow.data.from_numpy(np.zeros((2, 2)), name="zeros"))
    with mlflow.start_run(nested=True, run_name="child") as child:
        mlflow.log_metric("inner", 3)
    try:
        mlflow.log_param("a", 2)
        found["conflict"] = "taken"
    except mlflow.exceptions.MlflowException as error:
        found["conflict"] = error.error_code
    try:
        mlflow.log_param("huge", "x" * 10_000_000)
        found["huge"] = "taken"
    except mlflow.exceptions.MlflowException as error:
        found["huge"] = str(error)[:60]
    model = LinearRegression().fit(np.array([[1.0], [2.0]]), [1.0, 2.0])
    options = {"name": "model"} if major >= 3 else {"artifact_path": "model"}
    info = mlflow.sklearn.log_model(model, serialization_format="cloudpickle", **options)
    found["uri"] = info.model_uri
own = mlflow.get_run(run_id)
found["own"] = {
    "status": own.info.status,
    "params": own.data.params,
    "metrics": {key: repr(value) for key, value in own.data.metrics.items()},
    "t": own.data.tags.get("t"),
    "gone": "gone" in own.data.tags,
    "files": sorted(item.path for item in client.list_artifacts(run_id)),
    "history": [(point.step, point.value) for point in client.get_metric_history(run_id, "loss")],
    "inputs": [item.dataset.name for item in own.inputs.dataset_inputs],
}
found["note"] = mlflow.artifacts.load_text(own.info.artifact_uri + "/dir/note.txt")
found["predicted"] = [
    float(mlflow.sklearn.load_model(uri).predict([[5.0]])[0]) for uri in (info.model_uri, f"runs:/{run_id}/model")
]
if len(sys.argv) > 2:
    name = sys.argv[2]
    version = mlflow.register_model(f"runs:/{run_id}/model", name)
    client.set_registered_model_alias(name, "champion", version.version)
    found["alias"] = client.get_model_version_by_alias(name, "champion").version
    found["registered"] = float(mlflow.sklearn.load_model(f"models:/{name}@champion").predict([[5.0]])[0])
    found["searched"] = len(mlflow.search_runs(experiment_names=[experiment]))
found["run_id"], found["child_id"] = run_id, child.info.run_id
print("FOUND " + json.dumps(found))
