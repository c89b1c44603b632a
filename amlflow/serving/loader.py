"""A model, ready to be asked.

A scikit-learn model is loaded as MLflow saved it but without MLflow, whose import takes two seconds and 200 MB, and is asked by a
NumPy array where that gives the same answer as a DataFrame. Every other model is MLflow's `pyfunc`.
"""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from typing import Any, Callable, Optional

from .payload import Payload, Refused
from .signature import Signature, enforce, read

# An estimator that holds one of these looks at column names or types.
_NAMED_COLUMNS = ("ColumnTransformer", "FunctionTransformer", "make_column_selector", "FeatureUnion")


class Model:
    """`predict` takes a payload and gives what JSON can hold. `how` says which of the ways is used."""

    def __init__(self, predict: Callable[[Payload], Any], how: str, metadata: dict[str, Any], folder: Path) -> None:
        self.predict, self.how, self.metadata, self.folder = predict, how, metadata, folder

    def example(self) -> Optional[Payload]:
        """The model's own input example, if it has one that reads as a request."""
        from .payload import parse

        info = self.metadata.get("saved_input_example_info") or {}
        path = self.folder / str(info.get("serving_input_path") or "serving_input_example.json")
        try:
            return parse(path.read_bytes(), "application/json")
        except (OSError, Refused):
            return None


def load(folder: Path) -> Model:
    """Raises whatever the model's own code raises; the log then tells."""
    metadata = _read_mlmodel(folder)
    flavors = metadata["flavors"]
    signature = read(metadata.get("signature"))
    function = flavors.get("python_function", {})
    if signature is not None and "sklearn" in flavors and function.get("loader_module") == "mlflow.sklearn":
        estimator = _load_sklearn(folder, flavors["sklearn"], function)
        if estimator is not None:
            return _sklearn_model(estimator, function, signature, metadata, folder)
    return _pyfunc_model(folder, metadata)


def jsonable(value: Any) -> Any:
    """What a model returned, as plain values; NaN and the infinities, which JSON has not, become null."""
    kind = type(value).__module__
    if kind.startswith("pandas"):
        frame = value if hasattr(value, "columns") else value.to_frame() if hasattr(value, "to_frame") else None
        return jsonable(value.tolist() if frame is None else frame.to_dict(orient="records"))
    if hasattr(value, "toarray"):
        value = value.toarray()
    if kind.startswith("numpy"):
        return _finite(value.tolist()) if getattr(value, "dtype", None) is not None else value
    if isinstance(value, dict):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [jsonable(item) for item in value]
    return _finite(value)


def _finite(value: Any) -> Any:
    if isinstance(value, list):
        return [_finite(item) for item in value]
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return None
    if isinstance(value, bytes):
        import base64

        return base64.b64encode(value).decode()
    return value if isinstance(value, (int, float, str, bool)) or value is None else str(value)


def _read_mlmodel(folder: Path) -> dict[str, Any]:
    import yaml

    content: dict[str, Any] = yaml.safe_load((folder / "MLmodel").read_text(encoding="utf-8"))
    return content


def _load_sklearn(folder: Path, flavor: dict[str, Any], function: dict[str, Any]) -> Any:
    """The estimator, by the format that the MLmodel file names; None for a format that only MLflow knows."""
    code = flavor.get("code") or function.get("code")
    if code:
        sys.path.insert(0, str(folder / code))
    file = folder / (flavor.get("pickled_model") or function.get("model_path") or "model.pkl")
    kind = flavor.get("serialization_format")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if kind == "skops":
            import skops.io

            return skops.io.load(file, trusted=list(flavor.get("skops_trusted_types") or []))
        if kind in ("cloudpickle", "pickle"):
            import pickle

            if kind == "cloudpickle":
                import cloudpickle  # noqa: F401
            with file.open("rb") as source:
                return pickle.load(source)  # noqa: S301
    return None


def _sklearn_model(
    estimator: Any, function: dict[str, Any], signature: Signature, metadata: dict[str, Any], folder: Path
) -> Model:
    ask = getattr(estimator, function.get("predict_fn") or "predict")
    to_array = _array_maker(signature) if _knows_no_names(estimator, signature) else None
    if to_array is not None:
        _forget_names(estimator)
    frame = _frame_maker(signature)

    def predict(payload: Payload) -> Any:
        if payload.params:
            raise Refused("The model takes no params.")
        rows = enforce(signature, payload)
        return jsonable(ask(to_array(rows) if to_array is not None else frame(rows)))

    return Model(predict, "scikit-learn by array" if to_array is not None else "scikit-learn", metadata, folder)


def _pyfunc_model(folder: Path, metadata: dict[str, Any]) -> Model:
    import mlflow.pyfunc
    from mlflow.exceptions import MlflowException

    loaded = mlflow.pyfunc.load_model(str(folder))
    signature = read(metadata.get("signature"))
    with_params = bool((metadata.get("signature") or {}).get("params"))

    def predict(payload: Payload) -> Any:
        if payload.params and not with_params:
            raise Refused("The model takes no params.")
        data = (
            _frame_maker(signature)(enforce(signature, payload)) if signature is not None else _loose(loaded, payload)
        )
        try:
            result = loaded.predict(data, params=payload.params) if with_params else loaded.predict(data)
        except MlflowException as error:
            if error.error_code in ("BAD_REQUEST", "INVALID_PARAMETER_VALUE"):
                raise Refused(" ".join(str(error).split())[:1000]) from error
            raise
        return jsonable(result)

    return Model(predict, "mlflow.pyfunc", metadata, folder)


def _loose(loaded: Any, payload: Payload) -> Any:
    """Data for a model whose signature only MLflow can enforce, or that has none."""
    import numpy
    import pandas

    if payload.columns is not None:
        columns = payload.columns
        schema = loaded.metadata.get_input_schema()
        if schema is not None and schema.is_tensor_spec():
            table = {name: numpy.array([row[index] for row in payload.rows]) for index, name in enumerate(columns)}
            return {name: table[name].astype(spec.type) for name, spec in schema.input_dict().items() if name in table}
        frame = pandas.DataFrame(payload.rows, columns=columns)
        return frame.apply(pandas.to_numeric, errors="ignore") if payload.text else frame
    schema = loaded.metadata.get_input_schema()
    if schema is not None and schema.is_tensor_spec() and not schema.has_input_names():
        try:
            return numpy.array(payload.rows, dtype=schema.input_types()[0])
        except (ValueError, TypeError) as error:
            raise Refused(f"The data is not a tensor of {schema.input_types()[0]}: {error}.") from None
    flat = all(not isinstance(row, (list, dict)) for row in payload.rows)
    if flat:
        return numpy.array(payload.rows) if schema is None else pandas.DataFrame(payload.rows)
    if all(isinstance(row, list) and not any(isinstance(item, list) for item in row) for row in payload.rows):
        return pandas.DataFrame(payload.rows)
    return numpy.array(payload.rows)


def _knows_no_names(estimator: Any, signature: Signature) -> bool:
    """Whether an array gives this estimator what a DataFrame would: scikit-learn's own classes only, none of which picks
    columns by name, fitted on the signature's columns in its order."""
    for part in _parts(estimator):
        kind = type(part)
        if not kind.__module__.startswith("sklearn.") or kind.__name__ in _NAMED_COLUMNS:
            return False
        if getattr(part, "_sklearn_output_config", None):
            return False
    fitted = getattr(estimator, "feature_names_in_", None)
    return fitted is None or list(fitted) == signature.names


def _parts(value: Any, depth: int = 0) -> list[Any]:
    """The estimators within an estimator, itself included."""
    if depth > 10:
        return []
    if isinstance(value, (list, tuple)):
        return [part for item in value for part in _parts(item, depth + 1)]
    if isinstance(value, dict):
        return [part for item in value.values() for part in _parts(item, depth + 1)]
    if hasattr(value, "get_params") and not isinstance(value, type):
        return [value, *(part for item in value.get_params(deep=False).values() for part in _parts(item, depth + 1))]
    return [value] if callable(value) and not isinstance(value, type) else []


def _forget_names(estimator: Any) -> None:
    """The order of columns is the signature's by now; without their names scikit-learn does not warn at each request."""
    for part in _parts(estimator):
        vars(part).pop("feature_names_in_", None)
        for name in ("steps", "estimators_", "estimator_", "best_estimator_", "base_estimator_"):
            for inner in _parts(getattr(part, name, None)):
                vars(inner).pop("feature_names_in_", None)


def _array_maker(signature: Signature) -> Optional[Callable[[list[list[Any]]], Any]]:
    import numpy

    kinds = {column.type for column in signature.columns}
    if not kinds <= {"double", "long", "integer"}:
        return None
    kind: Any = numpy.float64 if "double" in kinds else numpy.int64 if "long" in kinds else numpy.int32
    width = len(signature.columns)

    def make(rows: list[list[Any]]) -> Any:
        # A DataFrame holds its columns one after the other: the same layout gives the same last digit.
        return numpy.array(rows, dtype=kind, order="F").reshape((len(rows), width), order="F")

    return make


def _frame_maker(signature: Signature) -> Callable[[list[list[Any]]], Any]:
    kinds = {
        "double": "float64",
        "float": "float32",
        "long": "int64",
        "integer": "int32",
        "boolean": "bool",
        "string": "object",
    }
    named = signature.columns[0].name is not None

    def make(rows: list[list[Any]]) -> Any:
        import pandas

        columns: dict[Any, Any] = {}
        for index, column in enumerate(signature.columns):
            values = [row[index] for row in rows]
            name = column.name if named else index
            if column.type == "datetime":
                try:
                    columns[name] = pandas.to_datetime(pandas.Series(values, dtype="object"))
                except (ValueError, TypeError) as error:
                    raise Refused(f"Column {name!r} is a datetime: {error}.") from None
            else:
                columns[name] = pandas.Series(values, dtype=kinds[column.type] if None not in values else "object")
        return pandas.DataFrame(columns)

    return make


def describe(model: Model, label: str) -> dict[str, Any]:
    """What `GET /` says."""
    signature = model.metadata.get("signature") or {}
    return {
        "model": label,
        "flavors": list(model.metadata["flavors"]),
        "inputs": json.loads(signature["inputs"]) if signature.get("inputs") else None,
        "outputs": json.loads(signature["outputs"]) if signature.get("outputs") else None,
    }
