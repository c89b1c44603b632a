"""The rows of datasets that a program logs."""

from __future__ import annotations

from pathlib import Path

import mlflow.data
import pandas as pd
import pytest
from mlflow.entities import DatasetInput

from amlflow.journal import datasets


@pytest.mark.parametrize("digest", ["../../up", "/up", "a b"])
def test_rows_stay_in_their_folder_whatever_the_digest(tmp_path: Path, digest: str) -> None:
    datasets.remember()
    made = mlflow.data.from_pandas(pd.DataFrame({"a": [1, 2]}), digest=digest)
    artifacts = tmp_path / "artifacts"
    datasets.keep([DatasetInput(made._to_mlflow_entity(), [])], artifacts.as_uri(), 10)
    (file,) = (artifacts / datasets.FOLDER).iterdir()
    assert file.stem == datasets.stem(digest)
    assert pd.read_parquet(file)["a"].tolist() == [1, 2]


def test_a_number_of_rows_that_is_none_keeps_none() -> None:
    assert [datasets.most_rows({datasets.ROWS: text}) for text in ("", "x", "-1", "²", "7")] == [0, 0, 0, 0, 7]
