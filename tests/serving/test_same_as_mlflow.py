"""The way around MLflow gives the answers that MLflow's own scoring server gives."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from amlflow.serving.loader import load
from amlflow.serving.payload import Refused, parse

mlflow = pytest.importorskip("mlflow")


def _regressor(x: Any, y: Any) -> Any:
    from sklearn.linear_model import LinearRegression

    return LinearRegression().fit(x, y)


def _forest(x: Any, y: Any) -> Any:
    from sklearn.ensemble import RandomForestClassifier

    return RandomForestClassifier(n_estimators=5, random_state=0).fit(x, y > y.mean())


def _labels(x: Any, y: Any) -> Any:
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    return make_pipeline(StandardScaler(), SVC()).fit(x, ["high" if value > 150 else "low" for value in y])


def _two_outputs(x: Any, y: Any) -> Any:
    from sklearn.multioutput import MultiOutputRegressor
    from sklearn.tree import DecisionTreeRegressor

    return MultiOutputRegressor(DecisionTreeRegressor(max_depth=3)).fit(x, [[value, -value] for value in y])


def _by_column_name(x: Any, y: Any) -> Any:
    from sklearn.compose import ColumnTransformer
    from sklearn.linear_model import Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(ColumnTransformer([("scale", StandardScaler(), ["bmi", "bp"])]), Ridge()).fit(x, y)


def _transformed(x: Any, y: Any) -> Any:
    from sklearn.linear_model import Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer

    return make_pipeline(FunctionTransformer(lambda frame: frame[["bmi"]]), Ridge()).fit(x, y)


def _with_nan(x: Any, y: Any) -> Any:
    from sklearn.ensemble import HistGradientBoostingRegressor

    return HistGradientBoostingRegressor(max_iter=5).fit(x, y)


BY_ARRAY = [_regressor, _forest, _labels, _two_outputs, _with_nan]
BY_FRAME = [_by_column_name, _transformed]


@pytest.fixture(scope="module")
def data() -> tuple[Any, Any]:
    from sklearn.datasets import load_diabetes

    return load_diabetes(return_X_y=True, as_frame=True)  # type: ignore[no-any-return]


def save(folder: Path, model: Any, x: Any, format: str = "cloudpickle", **options: Any) -> Path:
    import mlflow.sklearn
    from mlflow.models import infer_signature

    mlflow.sklearn.save_model(
        model,
        str(folder / "model"),
        serialization_format=format,
        signature=infer_signature(x, model.predict(x)),
        pip_requirements=[],
        **options,
    )
    return folder / "model"


def theirs(folder: Path, body: bytes, kind: str = "application/json") -> tuple[int, Any]:
    """What MLflow's scoring server answers, by the function behind its route."""
    import mlflow.pyfunc
    from mlflow.pyfunc import scoring_server

    model = mlflow.pyfunc.load_model(str(folder))
    try:
        found = scoring_server.invocations(body, kind, model, model.metadata.get_input_schema())
    except Exception:
        return 400, None
    return found.status, json.loads(found.response)


def ours(folder: Path, body: bytes, kind: str = "application/json") -> tuple[int, Any]:
    try:
        return 200, {"predictions": json.loads(json.dumps(load(folder).predict(parse(body, kind))))}
    except Refused as error:
        return error.status, None


def same(found: tuple[int, Any], expected: tuple[int, Any]) -> bool:
    """Equal but for the last digit of a sum, which depends on the layout that a table has in memory."""
    import numpy

    if found[0] != expected[0] or not isinstance(found[1], dict):
        return found == expected
    one, two = (numpy.array(item["predictions"]) for item in (found[1], expected[1]))
    return bool(numpy.allclose(one, two, rtol=1e-12) if one.dtype.kind == "f" else (one == two).all())


def bodies(x: Any) -> list[tuple[bytes, str]]:
    rows = x.head(4)
    split = {"columns": list(rows.columns), "data": rows.to_numpy().tolist()}
    turned = rows[list(reversed(rows.columns))]
    found = [
        {"dataframe_split": split},
        {"dataframe_records": turned.to_dict(orient="records")},
        {"dataframe_split": {"columns": [*split["columns"], "more"], "data": [[*row, 1] for row in split["data"]]}},
        {"inputs": {name: rows[name].tolist() for name in rows.columns}},
        {"instances": rows.to_dict(orient="records")},
    ]
    return [(json.dumps(body).encode(), "application/json") for body in found] + [
        (rows.to_csv(index=False).encode(), "text/csv")
    ]


@pytest.mark.parametrize("train", [*BY_ARRAY, *BY_FRAME])
def test_every_form_gets_mlflows_answer(
    tmp_path: Path, data: tuple[Any, Any], train: Callable[[Any, Any], Any]
) -> None:
    x, y = data
    folder = save(tmp_path, train(x, y), x)
    for body, kind in bodies(x):
        status, expected = theirs(folder, body, kind)
        assert status == 200
        assert same(ours(folder, body, kind), (200, expected))


def test_which_way_is_taken(tmp_path: Path, data: tuple[Any, Any]) -> None:
    x, y = data
    for number, train in enumerate([*BY_ARRAY, *BY_FRAME]):
        (tmp_path / str(number)).mkdir()
        how = load(save(tmp_path / str(number), train(x, y), x)).how
        assert how == ("scikit-learn by array" if train in BY_ARRAY else "scikit-learn"), train


@pytest.mark.parametrize(
    "change",
    [
        lambda rows: [{k: v for k, v in row.items() if k != "bmi"} for row in rows],
        lambda rows: [{**row, "bmi": "text"} for row in rows],
        lambda rows: [{**row, "bmi": [1, 2]} for row in rows],
        lambda rows: [{**row, "bmi": {"a": 1}} for row in rows],
    ],
)
def test_what_mlflow_refuses_is_refused(tmp_path: Path, data: tuple[Any, Any], change: Any) -> None:
    x, y = data
    folder = save(tmp_path, _regressor(x, y), x)
    body = json.dumps({"dataframe_records": change(x.head(2).to_dict(orient="records"))}).encode()
    assert theirs(folder, body)[0] == 400
    assert ours(folder, body)[0] == 400


def test_missing_numbers_reach_a_model_that_takes_them(tmp_path: Path, data: tuple[Any, Any]) -> None:
    x, y = data
    folder = save(tmp_path, _with_nan(x, y), x)
    rows = [{**row, "bmi": None} for row in x.head(2).to_dict(orient="records")]
    body = json.dumps({"dataframe_records": rows}).encode()
    assert same(ours(folder, body), theirs(folder, body))


def test_mixed_whole_and_broken_numbers(tmp_path: Path, data: tuple[Any, Any]) -> None:
    x, y = data
    mixed = x.assign(sex=(x["sex"] > 0).astype("int64"))
    folder = save(tmp_path, _forest(mixed, y), mixed)
    assert load(folder).how == "scikit-learn by array"
    for body, kind in bodies(mixed):
        assert same(ours(folder, body, kind), theirs(folder, body, kind))


def test_predict_proba_and_skops(tmp_path: Path, data: tuple[Any, Any]) -> None:
    from sklearn.linear_model import LogisticRegression

    x, y = data
    folder = save(tmp_path, LogisticRegression().fit(x, y > 150), x, "skops", pyfunc_predict_fn="predict_proba")
    for body, kind in bodies(x):
        assert same(ours(folder, body, kind), theirs(folder, body, kind))


def test_a_pyfunc_model_with_params_goes_through_mlflow(tmp_path: Path) -> None:
    import mlflow.pyfunc
    import pandas as pd
    from mlflow.models import infer_signature

    class Scale(mlflow.pyfunc.PythonModel):
        def predict(self, context: Any, model_input: Any, params: Any = None) -> Any:
            return model_input["a"] * (params or {}).get("factor", 1)

    frame = pd.DataFrame({"a": [1.0, 2.0]})
    folder = tmp_path / "model"
    mlflow.pyfunc.save_model(
        str(folder),
        python_model=Scale(),
        signature=infer_signature(frame, frame["a"], params={"factor": 1.0}),
        pip_requirements=[],
    )
    body = json.dumps(
        {"dataframe_split": {"columns": ["a"], "data": [[1.0], [2.0]]}, "params": {"factor": 3.0}}
    ).encode()
    assert load(folder).how == "mlflow.pyfunc"
    assert ours(folder, body) == (200, {"predictions": [{"a": 3.0}, {"a": 6.0}]}) == theirs(folder, body)


def test_a_tensor_model_goes_through_mlflow(tmp_path: Path, data: tuple[Any, Any]) -> None:
    x, y = data
    array = x.to_numpy()
    folder = save(tmp_path, _regressor(array, y), array)
    body = json.dumps({"inputs": array[:3].tolist()}).encode()
    assert load(folder).how == "mlflow.pyfunc"
    assert same(ours(folder, body), theirs(folder, body))
