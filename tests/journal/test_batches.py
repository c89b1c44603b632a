"""From records to requests, without any service."""

from __future__ import annotations

import json
import math
from typing import Any

from amlflow.journal import batches
from amlflow.journal.batches import Barrier, Batch, Chunk, Limits, Step
from amlflow.journal.segments import Cursor


def chunk(*many: list[Any], segment: int = 1) -> Chunk:
    return segment, [10 * (index + 1) for index in range(len(many))], list(many)


def sent(*many: list[Any], limits: Limits = batches.OPEN_SOURCE) -> list[Step]:
    return list(batches.steps([chunk(*many)], {}, limits))


def only(steps: list[Step]) -> Batch:
    (step,) = steps
    assert isinstance(step, Batch)
    return step


def metric(step: int, key: str = "loss", value: float = 0.5) -> list[Any]:
    return ["m", key, value, step, 1000 + step]


def test_records_of_all_kinds_become_one_request_and_the_last_tag_wins() -> None:
    batch = only(
        sent(
            metric(1),
            ["p", "lr", "0.1"],
            ["t", "a", "1"],
            ["b", [["acc", 1, 2, 3]], [["n", "5"]], [["a", "2"]]],
            metric(2),
        )
    )
    assert batch.points == [["loss", 0.5, 1, 1001], ["acc", 1, 2, 3], ["loss", 0.5, 2, 1002]]
    assert (batch.params, batch.tags) == ({"lr": "0.1", "n": "5"}, {"a": "2"})
    assert batch.done == batch.touched == {1: 50}


def test_requests_are_full_and_hold_no_more_than_the_service_takes() -> None:
    many = [metric(step) for step in range(2500)] + [["p", f"p{n}", "v"] for n in range(250)]
    found = [step for step in sent(*many) if isinstance(step, Batch)]
    assert [len(step.points) for step in found] == [1000, 1000, 500, 0, 0]
    assert [len(step.params) for step in found] == [0, 0, 100, 100, 50]
    assert [point[2] for step in found for point in step.points] == list(range(2500))
    assert [key for step in found for key in step.params] == [f"p{n}" for n in range(250)]


def test_a_record_larger_than_a_request_counts_as_sent_with_its_last_part() -> None:
    points = [["loss", 0.5, step, 1] for step in range(25)]
    found = sent(metric(0), ["b", points, [], []], metric(99), limits=Limits(metrics=10, items=10))
    assert all(isinstance(step, Batch) for step in found)
    assert [(len(step), step.done, step.touched) for step in found if isinstance(step, Batch)] == [
        (10, {1: 10}, {1: 20}),
        (10, {1: 10}, {1: 20}),
        (7, {1: 30}, {1: 30}),
    ]


def test_what_cannot_be_merged_stands_alone_in_its_place() -> None:
    found = sent(metric(1), ["d", "a"], metric(2), ["u", {"status": "FINISHED"}], ["n", "a note"])
    assert [step.record[0] if isinstance(step, Barrier) else "batch" for step in found] == [
        "batch",
        "d",
        "batch",
        "u",
        "batch",
    ]
    assert [step.done for step in found] == [{1: 10}, {1: 20}, {1: 30}, {1: 40}, {1: 50}]
    last = found[-1]
    assert isinstance(last, Batch)
    assert not len(last)


def test_the_cursor_goes_over_several_segments_that_are_written_at_once() -> None:
    chunks = [chunk(metric(1), metric(2)), chunk(metric(3), segment=2), chunk(metric(4), segment=3)]
    cursor: Cursor = {1: 5}
    batch = only(list(batches.steps(chunks, cursor, batches.OPEN_SOURCE)))
    assert batch.done == {1: 20, 2: 10, 3: 10}
    assert cursor == {1: 5}


def test_a_param_logged_again_goes_once_and_with_another_value_in_a_request_of_its_own() -> None:
    first, second = sent(["p", "a", "1"], ["p", "a", "1"], ["p", "b", "1"], ["p", "a", "2"])
    assert isinstance(first, Batch)
    assert isinstance(second, Batch)
    assert (first.params, second.params) == ({"a": "1", "b": "1"}, {"a": "2"})


def test_the_same_point_twice_counts_once_also_for_nan_and_models() -> None:
    extra = {"model_id": "m-1"}
    nan = json.loads("[NaN, NaN]")
    batch = only(
        sent(*[["m", "n", value, 1, 1] for value in nan], ["m", "n", 1, 1, 1, extra], ["m", "n", 1, 1, 1, dict(extra)])
    )
    assert len(batch.points) == 2
    assert math.isnan(batch.points[0][1])
    assert len(only(sent(*[["m", "n", value, 1, 1] for value in nan])).points) == 1


def test_no_request_is_larger_than_the_service_reads() -> None:
    wide = [["m", "ü" * 250, step / 3, step, 1700000000000 + step, {"model_id": "m" * 34}] for step in range(2000)]
    long = [["t", f"\u2028{n}", "\x01" * 5000] for n in range(150)]
    found = [step for step in sent(*wide, *long) if isinstance(step, Batch)]
    assert sum(len(step) for step in found) == 2150
    for step in found:
        body = {
            "run_id": "r" * 32,
            "metrics": [
                dict(zip(("key", "value", "step", "timestamp", "extra"), point, strict=True)) for point in step.points
            ],
            "tags": [{"key": key, "value": value} for key, value in step.tags.items()],
        }
        assert len(json.dumps(body)) <= 1_000_000


def test_a_value_that_is_too_long_is_shortened_and_kept_whole_beside() -> None:
    batch = only(
        sent(
            ["p", "prompt", "x" * 7000],
            ["t", "note", "y" * 10_000_000],
            ["t", "note", "short"],
            ["t", "n2", "z" * 8001],
        )
    )
    assert len(batch.params["prompt"]) == 6000
    assert batch.params["prompt"].endswith("below amlflow/]")
    assert batch.tags["note"] == "short"
    assert batch.long == {"params": {"prompt": "x" * 7000}, "tags": {"n2": "z" * 8001}}


def test_halves_hold_everything_once() -> None:
    batch = Batch([["a", 1, 1, 1], ["b", 1, 1, 1]], {"p": "1", "q": "2"}, {"t": "3"})
    low, high = batch.halves()
    assert (low.params, low.points, low.tags) == ({"p": "1", "q": "2"}, [["a", 1, 1, 1]], {})
    assert (high.params, high.points, high.tags) == ({}, [["b", 1, 1, 1]], {"t": "3"})
