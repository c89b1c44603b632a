from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from amlflow.errors import UsageError
from amlflow.monitoring import collection, windows

HOUR_MS = 3_600_000


def test_spans_and_moments_are_read() -> None:
    assert [windows.duration_ms(text, "--every") for text in ("30m", "24h", "7d", "2w")] == [
        1_800_000,
        24 * HOUR_MS,
        7 * 24 * HOUR_MS,
        14 * 24 * HOUR_MS,
    ]
    for wrong in ("7", "d", "0d", "-1d", "1y", ""):
        with pytest.raises(UsageError):
            windows.duration_ms(wrong, "--every")
    assert windows.moment_ms("1970-01-02", "--until") == 24 * HOUR_MS
    assert windows.moment_ms("1970-01-01T02:00:00+01:00", "--until") == HOUR_MS
    with pytest.raises(UsageError):
        windows.moment_ms("yesterday", "--until")


def test_spans_and_moments_beyond_what_a_calendar_holds_are_refused() -> None:
    assert windows.duration_ms("5200w", "--window") == 5200 * 7 * 24 * HOUR_MS
    for wrong in ("9" * 400 + "d", "40000d", "1" * 50 + "s"):
        with pytest.raises(UsageError, match="longer than 100 years") as refused:
            windows.duration_ms(wrong, "--window")
        assert len(refused.value.paragraph()) < 200
    for wrong in ("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"):
        with pytest.raises(UsageError, match=r"--until .* years 1 to 9999"):
            windows.moment_ms(wrong, "--until")
    for text in ("0001-01-01", "9999-12-31"):
        assert windows.stamp(windows.moment_ms(text, "")) == text
    first = windows.moment_ms("0001-01-02", "")
    assert windows.Window(first - windows.duration_ms("100w", ""), first).label == "0001-01-01 to 0001-01-02"


def test_windows_begin_at_whole_multiples() -> None:
    found = windows.split(HOUR_MS + 5, 3 * HOUR_MS + 1, HOUR_MS)
    assert [window.start_ms for window in found] == [HOUR_MS, 2 * HOUR_MS, 3 * HOUR_MS]
    with pytest.raises(UsageError, match=r"From 1970-01-01, .* to 9999-12-31 there are 2932897 windows, and 1000 is"):
        windows.split(0, windows.moment_ms("9999-12-31", "") + 1, 24 * HOUR_MS)


def test_moments_beyond_the_calendar_are_shown_as_its_ends() -> None:
    (window,) = windows.split(
        *[windows.moment_ms(day, "") for day in ("9999-12-30", "9999-12-31")], 20_000 * 24 * HOUR_MS
    )
    assert window.label == "9964-09-09 to 9999-12-31 23:59Z"
    assert windows.stamp(-(10**15)) == "0001-01-01"


def test_each_row_is_numbered_by_its_window_and_sorted_by_that() -> None:
    parted = windows.split(0, 3 * HOUR_MS, HOUR_MS)
    times = np.array([2 * HOUR_MS, np.nan, 0.0, HOUR_MS - 0.5, -1.0, 3 * HOUR_MS, 2.5 * HOUR_MS, 1.0])
    numbers = windows.numbers(times, parted)
    assert numbers.tolist() == [2, -1, 0, 0, -1, -1, 2, 0]
    order = windows.in_order(numbers, len(times), len(parted))
    assert order.places is not None
    assert [order.places[order.rows(i)].tolist() for i in range(3)] == [[2, 3, 7], [], [0, 6]]
    assert windows.numbers(times, [windows.Window()]).tolist() == [0, -1, 0, 0, 0, 0, 0, 0]
    assert windows.numbers(times, [windows.Window(None, HOUR_MS)]).tolist() == [-1, -1, 0, 0, 0, -1, -1, 0]
    assert windows.in_order(None, 8, 1) == windows.Order(None, [0, 8])


@pytest.fixture(name="root")
def _root(tmp_path: Path) -> Path:
    for name in (
        "blue/model_inputs/2026/11/20/09/a.jsonl",
        "blue/model_inputs/2026/11/20/10/b.jsonl",
        "blue/model_outputs/2026/11/20/10/b.jsonl",
        "green/model_inputs/2026/11/21/c.jsonl",
        "green/model_inputs/loose.jsonl",
        "blue/other/2026/11/20/10/x.jsonl",
    ):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    return tmp_path


def test_a_collection_is_found_by_the_hour_and_by_the_day(root: Path) -> None:
    whole = collection.files(root)
    assert [file.name for file in whole.inputs] == ["a.jsonl", "b.jsonl", "c.jsonl", "loose.jsonl"]
    assert [file.name for file in whole.outputs] == ["b.jsonl"]
    ten = windows.moment_ms("2026-11-20T10:00:00Z", "")
    assert [file.name for file in collection.files(root, ten, ten + HOUR_MS).inputs] == ["b.jsonl", "loose.jsonl"]
    assert [file.name for file in collection.files(root, ten + HOUR_MS).inputs] == ["c.jsonl", "loose.jsonl"]
    assert collection.is_collection(root)
    assert collection.is_collection(root / "blue" / "model_inputs")
    assert not collection.is_collection(root / "blue" / "other")
