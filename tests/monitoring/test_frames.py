from __future__ import annotations

import gzip
import json
import threading
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from amlflow.errors import AmlflowError, NotFound, UsageError
from amlflow.monitoring import columns, delimited, frames, parts

ROWS = [{"a": 1, "b": 0.5, "c": "x"}, {"a": 2, "b": None, "c": "y, z"}, {"a": 3, "b": 2.5, "c": None}]


def written(folder: Path, name: str) -> Path:
    file, columns = folder / name, {key: [row[key] for row in ROWS] for key in ("a", "b", "c")}
    if name.endswith(".parquet"):
        pq.write_table(pa.table(columns), file)
    elif name.endswith(".jsonl"):
        file.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    elif name.endswith(".json"):
        file.write_text(json.dumps({"columns": list(columns), "data": [list(row.values()) for row in ROWS]}))
    else:
        mark = "\t" if ".tsv" in name else ";" if "semi" in name else ","
        text = (
            mark.join("abc")
            + "\n"
            + "".join(
                mark.join("" if v is None else f'"{v}"' if isinstance(v, str) else str(v) for v in row.values()) + "\n"
                for row in ROWS
            )
        )
        file.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return file


@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "semi.csv", "t.csv.gz", "t.parquet", "t.jsonl", "t.json"])
def test_every_format_gives_the_same_table(tmp_path: Path, name: str) -> None:
    frame = frames.read(frames.Source([written(tmp_path, name)], tmp_path / "scratch", name))
    assert list(frame.names) == ["a", "b", "c"]
    assert frame.rows == 3
    assert [frame.column(column).to_pylist() for column in "abc"] == [[1, 2, 3], [0.5, None, 2.5], ["x", "y, z", None]]


def test_files_of_different_columns_and_types_are_one_table(tmp_path: Path) -> None:
    (tmp_path / "1.csv").write_text("a,b\n1,2020-01-01\n2,2020-01-02\n")
    (tmp_path / "2.csv").write_text("c,a\nyes,1.5\n")
    (tmp_path / "3.csv").write_text("a\noops\n")
    one_and_two = frames.read(frames.Source([tmp_path / "1.csv", tmp_path / "2.csv"], tmp_path / "s1", "both"))
    assert one_and_two.column("a").to_pylist() == [1.0, 2.0, 1.5]
    assert one_and_two.column("c").to_pylist() == [None, None, "yes"]
    everything = frames.read(frames.Source([tmp_path / f"{i}.csv" for i in (1, 2, 3)], tmp_path / "s2", "all"))
    assert everything.column("a").to_pylist() == ["1", "2", "1.5", "oops"]


def test_the_largest_whole_numbers_beside_signed_ones_do_not_turn_negative(tmp_path: Path) -> None:
    large, small = (pa.array([value], pa.uint64()) for value in (2**63 + 2048, 2**60 + 1))
    files = {"signed": pa.array([-1, 7]), "large": large, "small": small}
    for name, values in files.items():
        pq.write_table(pa.table({"v": values}), tmp_path / f"{name}.parquet")

    def read(*names: str) -> pa.ChunkedArray:
        sources = [tmp_path / f"{name}.parquet" for name in names]
        return frames.read(frames.Source(sources, tmp_path / "scratch", "t")).column("v")

    assert read("signed", "large").to_pylist() == [-1.0, 7.0, 2.0**63 + 2048]
    assert read("signed", "small").to_pylist() == [-1, 7, 2**60 + 1]
    assert read("large", "small").to_pylist() == [2**63 + 2048, 2**60 + 1]


def test_a_csv_whose_types_change_far_down_keeps_those_of_other_columns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("_GUESSED_BYTES", "_BLOCK_BYTES"):
        monkeypatch.setattr(delimited, name, 1024)
    lines = [f"{i},{i},{i / 2}," for i in range(2000)] + ["2000,2000.5,1,late", f"broken,1,2,{'long' * 500}"]
    (tmp_path / "t.csv").write_text("n,i,f,s\n" + "\n".join(lines) + "\n")
    frame = frames.read(frames.Source([tmp_path / "t.csv"], tmp_path / "scratch", "t"))
    assert frame.rows == 2002
    assert frame.column("n").to_pylist()[-2:] == ["2000", "broken"]
    assert frame.column("i").to_pylist()[-3:] == [1999.0, 2000.5, 1.0]
    assert frame.column("f").type == pa.float64()
    assert frame.column("s").to_pylist()[-3:] == [None, "late", "long" * 500]


def test_a_csv_of_which_nothing_stays_as_it_began_is_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_GUESSED_BYTES", "_BLOCK_BYTES"):
        monkeypatch.setattr(delimited, name, 1024)
    names = [f"c{i}" for i in range(12)]
    lines = [",".join(["1"] * 12)] * 200 + [",".join("x" if i == row else "1" for i in range(12)) for row in range(12)]
    (tmp_path / "t.csv").write_text("\n".join([",".join(names), *lines]) + "\n")
    frame = frames.read(frames.Source([tmp_path / "t.csv"], tmp_path / "scratch", "t"))
    assert all(frame.column(name).to_pylist().count("x") == 1 for name in names)


RECORD: dict[str, Any] = {
    "specversion": "1.0",
    "type": "azureml.inference.model_inputs",
    "time": "2026-11-20T10:00:00Z",
    "correlationid": "r1",
    "data": [{"x": 1, "y": "a"}, {"x": 2, "y": "b"}],
}


def collected(tmp_path: Path, *records: dict[str, Any]) -> frames.Frame:
    file = tmp_path / "c.jsonl"
    file.write_text("".join(json.dumps(record) + "\n" for record in records))
    return frames.read(frames.Source([file], tmp_path / "scratch", "c"))


def test_a_collected_record_gives_a_row_for_each_of_its_rows(tmp_path: Path) -> None:
    single = {**RECORD, "correlationid": "r2", "time": "2026-11-20T11:00:00Z", "data": [{"x": 3, "y": None}]}
    frame = collected(tmp_path, RECORD, single)
    assert frame.column("x").to_pylist() == [1, 2, 3]
    assert frame.column("correlationid").to_pylist() == ["r1_0", "r1_1", "r2"]
    assert len(set(frame.column("time").to_pylist())) == 2


def test_collected_values_of_several_kinds_become_text(tmp_path: Path) -> None:
    odd = {**RECORD, "correlationid": "r2", "data": [{"x": "three", "y": 4}]}
    frame = collected(tmp_path, RECORD, odd)
    assert frame.column("x").to_pylist() == ["1", "2", "three"]
    assert frame.column("correlationid").to_pylist() == ["r1_0", "r1_1", "r2"]


def test_a_file_for_each_request_makes_one_table(tmp_path: Path) -> None:
    files = []
    for i in range(30):
        files.append(tmp_path / f"{i}.jsonl")
        files[-1].write_text(json.dumps({**RECORD, "correlationid": f"r{i}", "data": [{"x": i, "y": "a"}]}) + "\n")
    frame = frames.read(frames.Source(files, tmp_path / "scratch", "c"))
    assert frame.rows == 30
    assert len(frame.parts) == 1
    assert sorted(frame.column("x").to_pylist()) == list(range(30))


def test_the_categories_of_pandas_are_their_values(tmp_path: Path) -> None:
    import pandas

    table = pandas.DataFrame({"c": pandas.Categorical(["a", "b", None]), "s": pandas.array(["x", "y", "z"], "string")})
    table.to_parquet(tmp_path / "t.parquet")
    (tmp_path / "t.csv").write_text("c,s\nd,w\n")
    alone = frames.read(frames.Source([tmp_path / "t.parquet"], tmp_path / "s1", "t"))
    assert alone.column("c").to_pylist() == ["a", "b", None]
    both = frames.read(frames.Source([tmp_path / "t.parquet", tmp_path / "t.csv"], tmp_path / "s2", "t"))
    assert [both.column(name).to_pylist() for name in "cs"] == [["a", "b", None, "d"], ["x", "y", "z", "w"]]
    assert columns.kind_of(both.column("s")) == "categorical"


def test_nested_values_become_their_json(tmp_path: Path) -> None:
    (tmp_path / "n.jsonl").write_text('{"a": [1, 2]}\n{"a": [3]}\n')
    pq.write_table(pa.table({"a": [[1, 2], [3]]}), tmp_path / "n.parquet")
    for name in ("n.jsonl", "n.parquet"):
        frame = frames.read(frames.Source([tmp_path / name], tmp_path / "s", "n"))
        assert frame.column("a").to_pylist() == ["[1, 2]", "[3]"]


@pytest.mark.parametrize(
    ("values", "kind", "read"),
    [
        ([b"ab", b"\xff"], pa.binary(), ["ab", "\\xff"]),
        ([b"ab", b"\xff\xfe"], pa.binary(2), ["ab", "\\xff\\xfe"]),
        (["x", None], pa.string_view(), ["x", None]),
        ([1500, None], pa.duration("ms"), [1.5, None]),
        ([0.5, 2.0], pa.float16(), [0.5, 2.0]),
        ([{"a": 1, "b": None}, None], pa.struct({"a": pa.int64(), "b": pa.null()}), ['{"a": 1, "b": null}', None]),
        ([[("k", 1)], []], pa.map_(pa.string(), pa.int64()), ['[["k", 1]]', "[]"]),
    ],
)
def test_types_of_parquet_become_such_as_can_be_compared(
    tmp_path: Path, values: list[Any], kind: pa.DataType, read: list[Any]
) -> None:
    pq.write_table(pa.table({"a": pa.array(values, kind)}), tmp_path / "t.parquet")
    found = frames.read(frames.Source([tmp_path / "t.parquet"], tmp_path / "s", "t")).column("a")
    assert found.to_pylist() == read
    for of in columns.KINDS:
        columns.values(found, of).sample()


def test_bytes_that_are_no_text_are_kept_apart(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(b"c\ncaf\xe9\nplain\n")
    assert frames.read(frames.Source([tmp_path / "t.csv"], tmp_path / "s", "t")).column("c").to_pylist() == [
        "caf\\xe9",
        "plain",
    ]
    (tmp_path / "t.jsonl").write_text('{"c": "\\ud800"}\n{"c": "a"}\n')
    assert frames.read(frames.Source([tmp_path / "t.jsonl"], tmp_path / "s2", "t")).column("c").to_pylist() == [
        "\\ud800",
        "a",
    ]


@pytest.mark.parametrize(
    ("name", "content", "error", "said"),
    [
        ("t.jsonl", b'{"a": 1}\n{"a": \n', AmlflowError, "line 2 is not JSON"),
        ("t.jsonl", b"[1, 2]\n", AmlflowError, "not a record"),
        ("t.jsonl", b"null\n", AmlflowError, "not a record"),
        ("t.jsonl", b'{"a": 1}\n{"a": "\xff"}\n', AmlflowError, "line 2 is not JSON"),
        ("t.csv", b"\na,b\n1,2\n", NotFound, "begins with an empty line"),
        ("t.json", b"{}", AmlflowError, "is no table"),
        ("t.csv", b"", NotFound, "is empty"),
        ("t.csv", b"a,a\n1,2\n", UsageError, "twice"),
        ("t.csv", b"a,b\n1,2\n1,2,3\n", AmlflowError, "cannot be read"),
        ("t.parquet", b"PAR?", AmlflowError, "cannot be read"),
        ("t.xlsx", b"", UsageError, "no table"),
        ("t.csv", b"a" * 200_000 + b"\n1\n", AmlflowError, "cannot be read"),
        ("t.csv.gz", gzip.compress(b"a\n" + b"1\n" * 9999, mtime=0)[:40], AmlflowError, r"t\.csv\.gz' cannot be read"),
        (
            "t.jsonl",
            b'{"a": 1}\n{"a": ' + b"[" * 50_000 + b"]" * 50_000 + b"}\n",
            AmlflowError,
            "line 2 has values within",
        ),
        ("t.jsonl", b'{"a": ' + b'{"]]": ' * 50_000 + b"1" + b"}" * 50_001, AmlflowError, "line 1 has values within"),
        ("t.json", b"[" * 50_000 + b"]" * 50_000, AmlflowError, "cannot be read"),
        ("t.json", b'{"columns": 3, "data": [[1]]}', AmlflowError, "is no table"),
        ("t.json", b'{"columns": ["a"], "data": [1]}', AmlflowError, "is no table"),
        ("t.jsonl", b'{"a\\ud800": 1}\n', AmlflowError, "cannot be read"),
    ],
)
def test_what_cannot_be_read_is_said(tmp_path: Path, name: str, content: bytes, error: type, said: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(error, match=said):
        frames.read(frames.Source([tmp_path / name], tmp_path / "scratch", name))


def test_a_parquet_file_that_is_damaged_inside_is_named(tmp_path: Path) -> None:
    file = tmp_path / "t.parquet"
    pq.write_table(pa.table({"a": [f"text {i}" for i in range(20_000)]}), file, use_dictionary=False)
    content = bytearray(file.read_bytes())
    content[50:5000] = b"\xff" * 4950
    file.write_bytes(content)
    frame = frames.read(frames.Source([file], tmp_path / "s", "t"))
    with pytest.raises(AmlflowError, match=r"t\.parquet' cannot be read"):
        frame.column("a")


def test_values_of_an_extension_type_are_those_that_it_is_stored_as(tmp_path: Path) -> None:
    pq.write_table(pa.table({"id": pa.array([b"0123456789abcdef", None], pa.uuid())}), tmp_path / "t.parquet")
    frame = frames.read(frames.Source([tmp_path / "t.parquet"], tmp_path / "s", "t"))
    assert frame.column("id").to_pylist() == ["0123456789abcdef", None]


def test_brackets_in_text_and_many_rows_nest_nothing(tmp_path: Path) -> None:
    rows = [{"a": "[" * 600 + '\\"{', "b": [[1]]}, {"a": "x", "b": [[i] for i in range(900)]}]
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    frame = frames.read(frames.Source([tmp_path / "t.jsonl"], tmp_path / "s", "t"))
    assert frame.column("a").to_pylist() == [row["a"] for row in rows]


def test_a_whole_number_beyond_a_double_is_infinite(tmp_path: Path) -> None:
    (tmp_path / "t.json").write_text(json.dumps([{"a": 10**400}, {"a": -(10**400)}, {"a": 1}]))
    frame = frames.read(frames.Source([tmp_path / "t.json"], tmp_path / "s", "t"))
    assert frame.column("a").to_pylist() == [float("inf"), float("-inf"), 1.0]


def test_a_missing_file_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"nowhere\.csv"):
        frames.read(frames.Source([tmp_path / "nowhere.csv"], tmp_path / "scratch", "nowhere"))


def test_reading_ends_once_nobody_waits_for_it(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a\n1\n")
    stop = threading.Event()
    stop.set()
    with pytest.raises(parts.Stopped):
        frames.read(frames.Source([tmp_path / "t.csv"], tmp_path / "s", "t"), stop)


def test_several_are_read_at_once_and_the_first_failure_is_said(tmp_path: Path) -> None:
    files = [written(tmp_path, name) for name in ("t.csv", "t.parquet", "t.jsonl")]
    sources = [frames.Source([file], tmp_path / str(i), file.name) for i, file in enumerate(files)]
    assert [frame.label for frame in frames.read_all(sources)] == ["t.csv", "t.parquet", "t.jsonl"]
    with pytest.raises(NotFound, match="nowhere"):
        frames.read_all([sources[0], frames.Source([tmp_path / "nowhere.csv"], tmp_path / "n", "n"), sources[1]])


def test_narrow_columns_of_parquet_are_read_with_their_neighbours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "_READ_BYTES", 1000)
    made = pa.table({f"c.{i}": [float(i)] * 9 for i in range(50)})
    pq.write_table(made, tmp_path / "t.parquet")
    part = parts.ParquetPart(tmp_path / "t.parquet")
    assert 1 < part._at_once < 50
    for name in [*made.column_names, "c.0"]:
        assert part.column(name).equals(made.column(name))
