"""Where the rows of a logged dataset may be, whatever address a program gave it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from amlflow.services.datasets import Logged, file_of, shown


def logged(address: str, kind: str = "local") -> Logged:
    return Logged("wine", "abc", kind, json.dumps({"uri": address}), True)


@pytest.mark.parametrize(
    "address",
    ["http://[x/a.csv", "file://", "file://host", "file://%00a.csv", "/" + "a" * 300, "file:///" + "a" * 300 + ".csv"],
)
def test_an_address_that_can_be_no_file_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.chdir(tmp_path)
    assert file_of(logged(address), tmp_path / "scratch") is None
    assert "no table to be had" in shown(logged(address))


@pytest.mark.parametrize("name", ["a.csv", "a b.CSV.gz", "ä%.parquet"])
def test_a_table_on_this_machine_is_where_it_lies(tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    file.write_bytes(b"a\n1\n")
    assert file_of(logged(str(file)), tmp_path / "scratch") == file
    assert file_of(logged(file.as_uri()), tmp_path / "scratch") == file
    assert file_of(logged(str(tmp_path)), tmp_path / "scratch") == tmp_path


def test_a_login_within_an_address_that_cannot_be_read_is_not_shown() -> None:
    assert "s3cret" not in shown(logged("https://me:s3cret@[x/a.csv", "http"))
