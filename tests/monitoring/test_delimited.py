"""What of a CSV is a number: zeros before it, and commas in it."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from amlflow.monitoring import columns, delimited, frames


@pytest.fixture(name="small")
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few rows are a block."""
    for name in ("_GUESSED_BYTES", "_BLOCK_BYTES"):
        monkeypatch.setattr(delimited, name, 1024)


def frame(tmp_path: Path, text: str, name: str = "t.csv") -> frames.Frame:
    (tmp_path / name).write_text(text)
    return frames.read(frames.Source([tmp_path / name], tmp_path / "scratch" / name, name))


def lines(heading: str, rows: list[Any]) -> str:
    return "\n".join([heading, *map(str, rows)]) + "\n"


def test_numbers_with_zeros_before_them_are_text(tmp_path: Path) -> None:
    found = frame(tmp_path, "zip,n,f\n01000,0,007.5\n 02000,-5,1\n,0,2\n99999, 7 ,3\n")
    assert found.column("zip").to_pylist() == ["01000", " 02000", None, "99999"]
    assert found.column("n").to_pylist() == [0, -5, 0, 7]
    assert found.column("n").type == pa.int64()
    assert found.column("f").to_pylist() == [7.5, 1, 2, 3]


@pytest.mark.usefixtures("small")
def test_a_zero_far_down_makes_text_of_the_whole_column(tmp_path: Path) -> None:
    rows = [f"{i},{i}" for i in range(1, 3000)]
    found = frame(tmp_path, lines("code,n", [*rows, "05,7", *rows, "9,8"]))
    codes = found.column("code")
    assert codes.to_pylist() == [*map(str, range(1, 3000)), "05", *map(str, range(1, 3000)), "9"]
    # One that was padded by chance makes no names of all.
    assert columns.kind_of(codes) == "numeric"
    assert found.column("n").type == pa.int64()
    assert found.column("n").to_pylist()[-1] == 8


def test_text_of_numbers_with_zeros_before_them_holds_categories_where_they_repeat() -> None:
    def kind(values: list[str]) -> str:
        return columns.kind_of(pa.chunked_array([pa.array(values, pa.string())]))

    assert kind(["01000", "20000"] * 100) == "categorical"
    assert kind(["1000", "20000"] * 100) == "numeric"
    assert kind(["0", "-07", "10"]) == "numeric"
    assert kind(["007.5", "01", "2"]) == "numeric"
    # Amounts of one width, hardly any of which comes twice.
    assert kind([f"{i:06}" for i in range(3000)]) == "numeric"
    assert kind([f"{i:06}" for i in range(300)] * 10) == "categorical"
    assert kind([*map(str, range(1000, 1200)), "0999"] * 2 + ["1000"] * 200) == "numeric"


def test_postcodes_of_csv_and_json_are_the_same_categories(tmp_path: Path) -> None:
    found = frame(tmp_path, lines("zip", ["01000", "10000"] * 60))
    other = frame(tmp_path, lines('{"zip": "01000"}', ['{"zip": "10000"}'] * 9), "t.jsonl")
    assert columns.values(found.column("zip"), columns.kind_of(found.column("zip"))).labels == ["01000", "10000"]
    assert columns.values(other.column("zip"), "categorical").labels == ["01000", "10000"]


@pytest.mark.parametrize(
    ("name", "text", "read"),
    [
        ("t.csv", "x;y\n1,5;1\n-0,25;2\n3;3\n", [1.5, -0.25, 3.0]),
        ("t.csv", "x;y\n1,500;1\n12,250;2\n", [1.5, 12.25]),
        ("t.csv", "x;y\n1,5e3;1\n;2\n", [1500.0, None]),
        ("t.tsv", "x\ty\n1,5\t1\n2,25\t2\n", [1.5, 2.25]),
        ("t.tsv", "x\ty\n0,500\t1\n12,250\t2\n", [0.5, 12.25]),
        # Names and a list are none.
        ("t.csv", "x;y\n1,5;1\n2,x;2\n", ["1,5", "2,x"]),
        ("t.csv", "x;y\n1,5,7;1\n2,3;2\n", ["1,5,7", "2,3"]),
        ("t.csv", 'x,y\n"1,5",1\n"2,5",2\n', ["1,5", "2,5"]),
    ],
)
def test_a_comma_is_the_decimal_sign_where_it_parts_no_columns(
    tmp_path: Path, name: str, text: str, read: list[Any]
) -> None:
    found = frame(tmp_path, text, name)
    assert found.column("x").to_pylist() == read
    assert found.column("y").to_pylist()[:2] == [1, 2]
    said = [] if isinstance(read[0], str) else [f"{name}: commas in numbers are read as decimal signs."]
    assert list(found.notes) == said


@pytest.mark.parametrize(
    ("name", "rows", "x"),
    [
        # Beside 950, which has no comma, 1,200 is more than a thousand.
        ("t.csv", ["1,200;1.5", "950;2.5"], ["1,200", "950"]),
        ("t.csv", ["950;1.5", "-1,200;2.5", "7;3"], ["950", "-1,200", "7"]),
        ("t.tsv", ["1,200\t1.5", "1,300\t2.5"], ["1,200", "1,300"]),
    ],
)
def test_commas_that_part_thousands_are_no_decimal_signs(tmp_path: Path, name: str, rows: list[str], x: Any) -> None:
    found = frame(tmp_path, lines("x;y".replace(";", "\t" if name == "t.tsv" else ";"), rows), name)
    assert found.column("x").to_pylist() == x
    assert found.column("y").to_pylist()[:2] == [1.5, 2.5]
    assert list(found.notes) == [
        f"{name}: the commas of 'x' may part thousands, and it is read as text: leave them out."
    ]


def test_another_column_tells_what_the_comma_is(tmp_path: Path) -> None:
    found = frame(tmp_path, "x;y\n1,200;0,5\n950;1,25\n")
    assert (found.column("x").to_pylist(), found.column("y").to_pylist()) == ([1.2, 950.0], [0.5, 1.25])
    assert list(found.notes) == ["t.csv: commas in numbers are read as decimal signs."]


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("name", ["t.csv", "t.tsv"])
def test_thousands_may_come_far_down(tmp_path: Path, name: str) -> None:
    by = ";" if name == "t.csv" else "\t"
    found = frame(tmp_path, lines(f"x{by}y", [*(f"{i % 1000}{by}1" for i in range(3000)), f"1,200{by}2"]), name)
    assert found.column("x").to_pylist()[-2:] == ["999", "1,200"]
    assert found.column("y").to_pylist()[-2:] == [1, 2]
    assert "may part thousands" in found.notes[0]


@pytest.mark.usefixtures("small")
def test_a_decimal_comma_may_come_far_down(tmp_path: Path) -> None:
    found = frame(tmp_path, lines("x;y", [*(f"{i};{i}" for i in range(3000)), "0,5;3000", "2;7,25"]))
    assert found.column("x").to_pylist()[-2:] == [0.5, 2.0]
    assert found.column("y").to_pylist()[-2:] == [3000.0, 7.25]
    assert found.notes


def test_one_file_of_several_with_commas_is_counted(tmp_path: Path) -> None:
    rng = random.Random(0)
    (tmp_path / "1.csv").write_text(lines("x;y", [f"{rng.randint(0, 9)},5;1" for _ in range(5)]))
    (tmp_path / "2.csv").write_text(lines("x;y", ["1.5;1"]))
    found = frames.read(frames.Source([tmp_path / "1.csv", tmp_path / "2.csv"], tmp_path / "s", "both"))
    assert found.column("x").type == pa.float64()
    assert list(found.notes) == ["both: commas in numbers are read as decimal signs in 1 of 2 files."]
