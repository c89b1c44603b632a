"""The rows of datasets that a program logs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlflow.data
import numpy as np
import pandas as pd
import pytest
from mlflow.entities import DatasetInput

from amlflow.journal import datasets


@pytest.mark.parametrize("digest", ["../../up", "/up", "a b"])
def test_rows_stay_in_their_folder_whatever_the_digest(tmp_path: Path, digest: str) -> None:
    datasets.remember()
    made = mlflow.data.from_pandas(pd.DataFrame({"a": [1, 2]}), digest=digest)
    artifacts = tmp_path / "artifacts"
    datasets.keep([DatasetInput(made._to_mlflow_entity(), [])], artifacts.as_uri(), 10, pytest.fail)
    (file,) = (artifacts / datasets.FOLDER).iterdir()
    assert file.stem == datasets.stem(digest)
    assert pd.read_parquet(file)["a"].tolist() == [1, 2]


def kept(folder: Path, *made: Any) -> tuple[list[pd.DataFrame], list[str]]:
    """The tables, by digest, and what was said."""
    datasets.remember()
    said: list[str] = []
    inputs = [DatasetInput(dataset._to_mlflow_entity(), []) for dataset in made]
    datasets.keep(inputs, folder.as_uri(), 10, said.append)
    return [pd.read_parquet(file) for file in sorted((folder / datasets.FOLDER).glob("*"))], said


def test_a_column_of_several_kinds_costs_no_rows(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {
            "n": [1.5, 2.5, 3.5, None],
            "mixed": [1, "x", 2.5, None],
            "dicts": [{"a": 1}, {"a": "x"}, None, {}],
            "complex": [1j, 2j, 3j, 4j],
            "broken": ["a\udcffb", "b", "c", None],
            "self": [1, 2, 3, 4],
        }
    )
    before = frame.copy(deep=True)
    (table,), (said,) = kept(tmp_path, mlflow.data.from_pandas(frame, name="wine", digest="1"))
    assert table["n"].tolist()[:3] == [1.5, 2.5, 3.5]
    assert table["self"].tolist() == [1, 2, 3, 4]
    assert table["mixed"].tolist() == ["1", "x", "2.5", None]
    assert table["dicts"].tolist() == ["{'a': 1}", "{'a': 'x'}", None, "{}"]
    assert table["complex"].tolist()[0] == "1j"
    assert table["broken"].tolist()[0] == r"a\udcffb"
    assert said.startswith(
        "The rows of the dataset 'wine' are kept with text in 'mixed', 'dicts', 'complex', 'broken':"
    )
    pd.testing.assert_frame_equal(frame, before)


def test_columns_of_one_name_are_kept_apart(tmp_path: Path) -> None:
    frame = pd.DataFrame([[1, 2, 3, 4, 5]], columns=[1, "1", "a", "a", "a.1"])
    before = list(frame.columns)
    (table,), (said,) = kept(tmp_path, mlflow.data.from_pandas(frame, name="wine", digest="2"))
    assert table.iloc[0].to_dict() == {"1": 1, "1.1": 2, "a": 3, "a.2": 4, "a.1": 5}
    assert said == "The rows of the dataset 'wine' have columns of the same name, which are kept as '1.1', 'a.2'."
    assert list(frame.columns) == before


def test_what_cannot_be_kept_is_named_and_costs_nothing_else(tmp_path: Path) -> None:
    images = mlflow.data.from_numpy(np.zeros((2, 3, 4)), name="images", digest="3")
    table = mlflow.data.from_pandas(pd.DataFrame({"a": [1]}), name="wine", digest="4")
    tables, said = kept(tmp_path, images, table)
    assert [found["a"].tolist() for found in tables] == [[1]]
    assert said == ["The rows of the dataset 'images' are not kept with the run: they are no table."]
    assert kept(tmp_path, images, table)[1] == []
    (tmp_path / "file").write_text("no folder")
    refused = mlflow.data.from_pandas(pd.DataFrame({"a": [1]}), name="other", digest="5")
    datasets.remember()
    datasets.keep([DatasetInput(refused._to_mlflow_entity(), [])], (tmp_path / "file").as_uri(), 10, said.append)
    assert said[1].startswith("The rows of the dataset 'other' are not kept with the run: ")


def test_a_number_of_rows_that_is_none_keeps_none() -> None:
    assert [datasets.most_rows({datasets.ROWS: text}) for text in ("", "x", "-1", "²", "7")] == [0, 0, 0, 0, 7]
