"""The signature that a model's input example and its answer to it suggest, as MLflow writes it into an MLmodel file.

It runs in a model's environment, which has MLflow: `python -I infer_signature.py FOLDER ANSWER`. ANSWER will be a JSON object
with `inputs`, `outputs` and `params`.
"""

from __future__ import annotations

import json
import sys


def main(folder: str, answer: str) -> None:
    from mlflow.models import Model, infer_signature
    from mlflow.pyfunc import load_model

    example = Model.load(folder).load_input_example(folder)
    if example is None:
        raise SystemExit("MLflow finds no input example in the model.")
    signature = infer_signature(example, load_model(folder).predict(example))
    with open(answer, "w", encoding="utf-8") as sink:
        json.dump(signature.to_dict(), sink)


if __name__ == "__main__":
    main(*sys.argv[1:])
