"""What MLflow itself answers: `pyfunc.predict` of a model's folder on requests, read and written as its scoring server does.

It runs in a model's environment, which has MLflow: `python -I reference.py FOLDER REQUESTS ANSWERS`. REQUESTS is a JSON list of
{"body", "content_type"}; ANSWERS will be the list of MLflow's answers.
"""

from __future__ import annotations

import json
import sys


def main(folder: str, requests: str, answers: str) -> None:
    from mlflow.pyfunc import load_model, scoring_server

    model = load_model(folder)
    schema = model.metadata.get_input_schema()
    with open(requests, encoding="utf-8") as source:
        asked = json.load(source)
    given = []
    for request in asked:
        answer = scoring_server.invocations(request["body"], request["content_type"], model, schema)
        if answer.status != 200:
            raise SystemExit(f"MLflow refuses the request ({answer.status}): {answer.response}")
        given.append(json.loads(answer.response))
    with open(answers, "w", encoding="utf-8") as sink:
        json.dump(given, sink)


if __name__ == "__main__":
    main(*sys.argv[1:])
