"""The rows of the datasets that a program logs, kept with its run where that is asked for.

MLflow keeps of a dataset its name, digest, schema and source; one that was made in memory has the program for its source, and is
gone when that ends. Kept rows are what a monitor can hold later data against.
"""

from __future__ import annotations

import itertools
import os
import re
import tempfile
from typing import Any, Callable, Iterable, List, Mapping, Optional, Set, Tuple

# How many rows of each dataset are kept at most; unset for none.
ROWS = "AMLFLOW_KEEP_DATASETS"
FOLDER = "amlflow/datasets"
# What MLflow tells of a dataset's part in a run stands in this tag of it: `training`, or `train` by autologging.
CONTEXT = "mlflow.data.context"
_DATASET = "_amlflow_dataset"

_kept: Set[Tuple[str, str]] = set()


def most_rows(env: Optional[Mapping[str, str]] = None) -> int:
    """0 where nothing is to be kept."""
    text = (os.environ if env is None else env).get(ROWS, "")
    return int(text) if text.isdecimal() else 0


def remember() -> None:
    """From now on each record of a dataset, which has none of its rows, leads to the dataset that has them."""
    from mlflow.data.dataset import Dataset

    original = Dataset._to_mlflow_entity
    if getattr(original, _DATASET, False):
        return

    def entity_of(self: Any) -> Any:
        entity = original(self)
        setattr(entity, _DATASET, self)
        return entity

    setattr(entity_of, _DATASET, True)
    Dataset._to_mlflow_entity = entity_of


def keep(inputs: Iterable[Any], artifact_uri: str, most: int, warn: Callable[[str], Any]) -> None:
    """Put the rows of what was logged for training among the run's artifacts, as `FOLDER/STEM.parquet` with the digest's `stem`;
    of more than `most` rows a random choice, the same each time. `warn` is told of each dataset that cannot be kept, and of
    columns that are kept as something else."""
    for item in inputs:
        context = next((tag.value for tag in item.tags or () if tag.key == CONTEXT), "")
        key = (artifact_uri, item.dataset.digest)
        if key in _kept or not (context or "train").startswith("train"):
            continue
        try:
            said = _keep(getattr(item.dataset, _DATASET, None), stem(item.dataset.digest), artifact_uri, most)
            _kept.add(key)
        except Exception as error:
            said = ["are not kept with the run: %s" % error]
        for sentence in said:
            warn("The rows of the dataset %r %s" % (item.dataset.name, sentence))


def _keep(dataset: Any, stem: str, artifact_uri: str, most: int) -> List[str]:
    """What is to be said of its rows. Raises whatever pandas and the artifacts' store raise."""
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    table = _table(dataset, most)
    if table is None:
        return ["are not kept with the run: they are no table."]
    given = [str(name) for name in table.columns]
    # The data stay the program's.
    table = table.copy(deep=False)
    table.columns = _apart(given)
    with tempfile.TemporaryDirectory(prefix="amlflow-dataset-") as folder:
        file, texts = _written(table, os.path.join(folder, stem))
        get_artifact_repository(artifact_uri).log_artifact(file, FOLDER)
    said = []
    renamed = [name for name in table.columns if name not in given]
    if renamed:
        said.append("have columns of the same name, which are kept as %s." % _some(renamed))
    if texts:
        said.append("are kept with text in %s: Parquet has no type for what is in there." % _some(texts))
    return said


def stem(digest: str) -> str:
    """What a file of the dataset is called; a program may give it any digest."""
    return re.sub(r"[^\w.-]", "_", digest)


def _table(dataset: Any, most: int) -> Any:
    """A pandas frame; None for data that are no table, such as images."""
    if hasattr(dataset, "ds"):
        rows = dataset.ds
        rows = rows.shuffle(seed=0).select(range(most)) if len(rows) > most else rows
        return rows.to_pandas()
    found = getattr(dataset, "df", None)
    if found is None:
        found = _of_arrays(getattr(dataset, "features", None), getattr(dataset, "targets", None))
    elif hasattr(found, "sparkSession"):
        found = found.limit(most).toPandas()
    elif not hasattr(found, "iloc"):
        found = (found.sample(most, seed=0) if len(found) > most else found).to_pandas()
    if found is None:
        return None
    return found.sample(most, random_state=0) if len(found) > most else found


def _of_arrays(features: Any, targets: Any) -> Any:
    """Columns of an array are called by their numbers, as MLflow's scoring server calls them; a single target `target`."""
    import pandas

    named = {}
    for name, part in (("", features), ("target", targets)):
        arrays = part if isinstance(part, dict) else {name: part}
        for key, array in arrays.items():
            if array is None:
                continue
            if not hasattr(array, "ndim") or array.ndim not in (1, 2):
                return None
            if array.ndim == 1 or (array.shape[1] == 1 and key):
                named[str(key or 0)] = array.reshape(-1)
            else:
                named.update({"%s%s" % (key and "%s_" % key, i): array[:, i] for i in range(array.shape[1])})
    return pandas.DataFrame(named) if named else None


def _apart(names: List[str]) -> List[str]:
    """A name that comes again gets a number, as where pandas reads CSV."""
    taken, found = set(names), []
    seen: Set[str] = set()
    for name in names:
        new = name
        if name in seen:
            new = next(
                numbered for i in itertools.count(1) for numbered in ["%s.%d" % (name, i)] if numbered not in taken
            )
        taken.add(new)
        seen.add(name)
        found.append(new)
    return found


def _written(table: Any, stem: str) -> Tuple[str, List[str]]:
    """The file, and the columns that are text in it because Parquet has no type for what is in them."""
    file = stem + ".parquet"
    try:
        table.to_parquet(file, index=False)
        return file, []
    except ImportError:
        table.to_csv(stem + ".csv", index=False)
        return stem + ".csv", []
    except Exception:
        texts = [name for name in table.columns if not _converts(table[[name]], file)]
        changed = table.copy()
        for name in texts:
            changed[name] = _text(table[name])
        changed.to_parquet(file, index=False)
        return file, texts


def _converts(column: Any, file: str) -> bool:
    try:
        column.to_parquet(file, index=False)
    except Exception:
        return False
    return True


def _text(column: Any) -> List[Optional[str]]:
    return [
        None if gone else str(value).encode("utf-8", "backslashreplace").decode()
        for value, gone in zip(column, column.isna())  # noqa: B905 - Python 3.8 has no strict
    ]


def _some(names: List[str]) -> str:
    return ", ".join(map(repr, names[:5])) + (" and %d more" % (len(names) - 5) if len(names) > 5 else "")
