"""Ids of predictions and truths, as the formats of files have them."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from amlflow.errors import AmlflowError
from amlflow.monitoring import frames, performance
from amlflow.monitoring.performance import Joined, Names

Join = Callable[..., Joined]


def written(folder: Path, suffix: str, ids: Sequence[Any]) -> Path:
    """Each id with its place as the value."""
    file = folder / f"t.{suffix}"
    file.parent.mkdir(parents=True)
    if suffix == "parquet":
        pq.write_table(pa.table({"id": ids, "v": [float(i) for i in range(len(ids))]}), file)
    elif suffix == "jsonl":
        file.write_text("".join(json.dumps({"id": value, "v": i + 0.0}) + "\n" for i, value in enumerate(ids)))
    else:
        file.write_text("id,v\n" + "".join(f"{value},{i}.0\n" for i, value in enumerate(ids)))
    return file


@pytest.fixture(name="join")
def _join(tmp_path: Path) -> Join:
    made = iter(range(100))

    def run(suffix: str, ids: Sequence[Any], truth_suffix: str, truth_ids: Sequence[Any]) -> Joined:
        sides = []
        for kind, values in ((suffix, ids), (truth_suffix, truth_ids)):
            folder = tmp_path / str(next(made))
            source = frames.Source([written(folder, kind, values)], folder / "scratch", f"{kind} {folder.name}", ["id"])
            sides.append(frames.read(source))
        return performance.join(sides[0], sides[1], Names("id", "id", "v", "v"), "regression")

    return run


DAY, NEXT = dt.datetime(2026, 1, 1), dt.datetime(2026, 1, 2)
BIG = [2**63 + 1024 * i for i in range(4)]


@pytest.mark.parametrize(
    ("suffix", "ids", "truth_suffix", "truth_ids"),
    [
        ("csv", ["050", "007", "123"], "jsonl", ["050", "007", "123"]),
        ("csv", ["050", "007", "123"], "csv", ["050", "007", "123"]),
        ("csv", ["050", "007", "123"], "parquet", [50, 7, 123]),
        ("jsonl", ["050", "007", "123"], "csv", ["50", "7", "123"]),
        ("csv", ["7", "8"], "parquet", [7.0, 8.0]),
        ("csv", ["7.0", "8.0"], "parquet", [7, 8]),
        ("csv", ["7", "8"], "jsonl", ["7", "8"]),
        ("csv", BIG, "csv", BIG),
        ("csv", BIG, "parquet", pa.array(BIG, pa.uint64())),
        ("csv", [10**22 + i for i in range(3)], "jsonl", [str(10**22 + i) for i in range(3)]),
        ("csv", ["2026-01-01", "2026-01-02"], "jsonl", ["2026-01-01", "2026-01-02"]),
        ("csv", ["2026-01-01", "2026-01-02"], "csv", ["2026-01-01 00:00:00", "2026-01-02 00:00:00.000000000"]),
        ("csv", ["2026-01-01", "2026-01-02"], "parquet", pa.array([DAY, NEXT], pa.timestamp("ns"))),
        ("csv", ["2026-01-01T01:00:00+00:00", "2026-01-02"], "parquet",
         pa.array([DAY.replace(hour=1), NEXT], pa.timestamp("us", "Europe/Berlin"))),
        ("jsonl", ["2026-01-01T00:00:00.5Z", "x"], "csv", ["2026-01-01 00:00:00.500000", "x"]),
        ("csv", ["7", "8.0", "9.00"], "jsonl", ["7", "8", "9"]),
        ("csv", ["7.0", "8"], "parquet", [7.0, 8.0]),
        ("csv", ["7.0", "8.0", "9.0"], "jsonl", ["7", "8", "9"]),
        ("csv", ["1", "1.0", "1.5"], "jsonl", ["1", "1.0", "1.5"]),
        ("csv", ["1.10", "1.1"], "csv", ["1.10", "1.1"]),
        ("csv", ["1.50", "2.0"], "parquet", [1.5, 2.0]),
        ("csv", ["  1", " 20 ", "300"], "jsonl", ["1", "20", "300"]),
        ("csv", [" a", "b"], "parquet", ["a ", "b"]),
        ("csv", ["2026-01-01T02:00:00+02:00", "2025-12-31 19:30:00.50-0430", "x"], "csv",
         ["2026-01-01", "2026-01-01T00:00:00.5Z", "x"]),
        ("csv", ["2026-01-01T02:00+02", "2026-01-01 02:00", "2026-01-01T03:00Z"], "csv",
         ["2026-01-01T00:00Z", "2026-01-01 02:00:00", "2026-01-01 03:00"]),
        ("csv", ["2026-13-01T02:00:00+02:00", "0001-01-01T00:00:00+02:00"], "csv",
         ["2026-13-01T02:00:00+02:00", "0001-01-01T00:00:00+02:00"]),
    ],
)  # fmt: skip
def test_the_same_ids_join_row_by_row(join: Join, suffix: str, ids: Any, truth_suffix: str, truth_ids: Any) -> None:
    for found in (join(suffix, ids, truth_suffix, truth_ids), join(truth_suffix, truth_ids, suffix, ids)):
        assert found.predicted.tolist() == found.truth.tolist() == [float(i) for i in range(len(ids))]


def test_a_point_in_one_file_of_several_tells_no_ids_apart(tmp_path: Path) -> None:
    """Of a column with a missing value pandas writes 101.0."""
    files = [written(tmp_path / "1", "csv", range(1, 101)), written(tmp_path / "2", "csv", [101.0, 102.0, ""])]
    data = frames.read(frames.Source(files, tmp_path / "s", "data", ["id"]))
    truth = frames.read(frames.Source([written(tmp_path / "3", "csv", range(1, 103))], tmp_path / "t", "truth", ["id"]))
    found = performance.join(data, truth, Names("id", "id", "v", "v"), "regression")
    assert found.truth.tolist() == [float(i) for i in range(102)]
    assert found.notes[0] == "102 of 103 predictions have a truth."


def test_an_id_that_is_no_number_leaves_the_others_numbers(join: Join) -> None:
    found = join("csv", ["7.0", "8", "9.0"], "csv", ["7", "8", "unknown"])
    assert (found.predicted.tolist(), found.truth.tolist()) == ([0.0, 1.0], [0.0, 1.0])


def test_blank_ids_join_nothing(join: Join) -> None:
    assert join("jsonl", ["a", " ", ""], "jsonl", ["a", "", " "]).truth.tolist() == [0.0]


def test_ids_beyond_64_bits_join_no_other_rows(join: Join) -> None:
    found = join("csv", [*BIG, "0"], "csv", [2**64 + 5, "0"])
    assert (found.predicted.tolist(), found.truth.tolist()) == ([4.0], [1.0])
    with pytest.raises(AmlflowError, match="No row"):
        join("csv", BIG, "csv", [value + 1 for value in BIG])


def test_doubles_that_no_longer_tell_ids_apart_are_refused(join: Join) -> None:
    with pytest.raises(AmlflowError, match=r"floating-point numbers.*9007199254740992"):
        join("parquet", [1.0, 2.0**53], "csv", ["1", str(2**53)])
    assert join("parquet", [1.0, 2.0**53 - 1], "csv", ["1", str(2**53 - 1)]).truth.tolist() == [0.0, 1.0]
    # As pandas writes ids of which one is missing.
    assert join("parquet", [1.0, float("nan"), 3.0], "csv", ["3", "1"]).truth.tolist() == [1.0, 0.0]


def test_zeros_that_tell_ids_apart_stay(join: Join) -> None:
    found = join("csv", ["01", "1", "2"], "csv", ["1", "01", "2"])
    assert found.truth.tolist() == [1.0, 0.0, 2.0]
    padded = join("csv", ["01", "1", "2"], "parquet", [1, 2])
    assert padded.predicted.tolist() == [1.0, 2.0]
    noted = join("csv", ["01", "02"], "parquet", [1, 2])
    assert any("begin with zeros" in note for note in noted.notes)


def test_a_64_bit_id_is_no_negative_one_among_smaller_ids(tmp_path: Path) -> None:
    files = [tmp_path / "1.parquet", tmp_path / "2.parquet"]
    for file, kind, value in zip(files, (pa.uint64(), pa.int64()), (2**63, 1), strict=True):
        pq.write_table(pa.table({"id": pa.array([value], kind)}), file)
    assert frames.read(frames.Source(files, tmp_path / "s", "t")).column("id").to_pylist() == [2.0**63, 1.0]
