"""The scoring script of a batch deployment without code: it runs in the model's environment, once a process of the job.

The processes share the current folder. Each claims the next mini-batch of files that nobody has, asks the model file by file,
and leaves the rows in a file of the mini-batch's own; the first process puts them together in the end.
"""

from __future__ import annotations

import argparse
import csv
import os
import re
import signal
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

TABLES = (".csv", ".parquet", ".pqt")
# What a column of a CSV file is read as, by its type in the model's signature.
COLUMN_TYPES = {
    "string": str,
    "double": "float64",
    "float": "float32",
    "long": "int64",
    "integer": "int32",
    "boolean": "bool",
}
POLL_S = 0.1


class TooLong(Exception):
    pass


def main() -> None:
    options = parsed()
    rank = int(os.environ.get("OMPI_COMM_WORLD_RANK", "0"))
    files = listed(Path(options.data))
    batches = [files[at : at + options.mini_batch_size] for at in range(0, len(files), options.mini_batch_size)]
    parts = Path("parts")
    parts.mkdir(exist_ok=True)
    if rank == 0:
        say(f"{len(files)} files in {len(batches)} mini-batches of at most {options.mini_batch_size}")
    model, types = None, {}
    for number, batch in claimed(batches, parts):
        if model is None:
            model, types = loaded(Path(options.model))
        rows = attempted(model, types, batch, options.max_retries, options.timeout)
        name = f"{number:06d}.{'csv' if rows is not None else 'failed'}"
        written(parts / f"{name}.part", rows or [])
        (parts / f"{name}.part").rename(parts / name)
        say(f"Mini-batch {number + 1} of {len(batches)}: {'done' if rows is not None else 'failed'}")
    if rank == 0:
        put_together(options, parts, batches)


def parsed() -> Any:
    parser = argparse.ArgumentParser()
    for name in ("--model", "--data", "--score", "--output-action", "--output-file", "--timeout"):
        parser.add_argument(name, required=True)
    for name in ("--mini-batch-size", "--error-threshold", "--max-retries"):
        parser.add_argument(name, required=True, type=int)
    options = parser.parse_args()
    options.timeout = seconds(options.timeout)
    return options


def seconds(duration: str) -> float:
    """Of an ISO 8601 duration of days, hours, minutes and seconds."""
    match = re.match(r"P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:([\d.]+)S)?)?$", duration)
    days, hours, minutes, rest = (float(part or 0) for part in match.groups()) if match else (0, 0, 0, 30)
    return ((days * 24 + hours) * 60 + minutes) * 60 + rest


def listed(data: Path) -> list[Path]:
    """The files to score; folders in the folder are not looked into."""
    found = [data] if data.is_file() else sorted(item for item in data.iterdir() if item.is_file())
    if not found:
        raise SystemExit(f"ERROR:azureml:There is no file in the input '{data.name}'.")
    return found


def claimed(batches: list[list[Path]], parts: Path) -> Iterator[Any]:
    for number, batch in enumerate(batches):
        try:
            os.close(os.open(str(parts / f"{number:06d}.claim"), os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            continue
        yield number, batch


def loaded(folder: Path) -> Any:
    """The model, and the types of its input columns by name."""
    from mlflow.pyfunc import load_model

    place = next(file.parent for file in (folder / "MLmodel", *folder.glob("*/MLmodel")) if file.is_file())
    model = load_model(str(place))
    schema = model.metadata.get_input_schema()
    types = {}
    if schema is not None and not schema.is_tensor_spec():
        for column in schema.inputs:
            kind = getattr(getattr(column, "type", None), "name", "")
            if column.name is not None and kind in COLUMN_TYPES:
                types[column.name] = COLUMN_TYPES[kind]
    return model, types


def attempted(model: Any, types: Any, batch: list[Path], retries: int, timeout_s: float) -> list[list[Any]] | None:
    """The rows of a mini-batch; None where every attempt failed."""
    for attempt in range(1 + max(0, retries)):
        signal.signal(signal.SIGALRM, too_long)
        signal.setitimer(signal.ITIMER_REAL, timeout_s)
        try:
            return [row for file in batch for row in scored(model, types, file)]
        except TooLong:
            say(f"ERROR:azureml:A mini-batch took longer than {timeout_s:g} s (attempt {attempt + 1}).")
        except Exception as error:
            traceback.print_exc()
            names = ", ".join(f"'{file.name}'" for file in batch[:3])
            say(f"ERROR:azureml:Error processing input file: {names}. Exception: {error}")
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    return None


def too_long(*_: Any) -> None:
    raise TooLong


def scored(model: Any, types: Any, file: Path) -> Iterator[list[Any]]:
    """For each row of the file its number, the prediction's values, and the file's name."""
    if file.suffix.lower() not in TABLES:
        raise ValueError(f"File type '{file.suffix.lstrip('.')}' is not supported.")
    import pandas

    if file.suffix.lower() == ".csv":
        head = pandas.read_csv(file, nrows=0)
        frame = pandas.read_csv(file, dtype={name: kind for name, kind in types.items() if name in head.columns})
    else:
        frame = pandas.read_parquet(file)
    for number, values in enumerate(flat(model.predict(frame))):
        yield [number, *values, file.name]


def flat(predictions: Any) -> Iterator[list[Any]]:
    if hasattr(predictions, "to_numpy"):
        predictions = predictions.to_numpy()
    for row in predictions.tolist() if hasattr(predictions, "tolist") else predictions:
        yield list(row) if isinstance(row, (list, tuple)) else list(row.values()) if isinstance(row, dict) else [row]


def written(file: Path, rows: list[list[Any]]) -> None:
    with file.open("w", newline="", encoding="utf-8") as sink:
        csv.writer(sink, lineterminator="\n").writerows(rows)


def put_together(options: Any, parts: Path, batches: list[list[Path]]) -> None:
    """Wait for all mini-batches, and make the output of theirs. Ends with an error where more files failed than may."""
    while len(ended(parts, "csv")) + len(ended(parts, "failed")) < len(batches):
        time.sleep(POLL_S)
    lost = sum(len(batches[int(part.stem)]) for part in ended(parts, "failed"))
    done = ended(parts, "csv")
    say(f"Processed mini-batches: {len(done)} of {len(batches)}; failed files: {lost}")
    if not done:
        raise SystemExit("ERROR:azureml:There is no succeeded mini batch item returned from run().")
    if options.error_threshold != -1 and lost > options.error_threshold:
        raise SystemExit(
            f"ERROR:azureml:The error count {lost} exceeds the error threshold {options.error_threshold}: the job is aborted."
        )
    if options.output_action != "AppendRow":
        return
    score = Path(options.score)
    with (score / options.output_file if score.is_dir() else score).open("wb") as sink:
        for part in done:
            sink.write(part.read_bytes())


def ended(parts: Path, kind: str) -> list[Path]:
    return sorted(parts.glob(f"*.{kind}"))


def say(line: str) -> None:
    print(line, flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
