"""When a monitor runs, as cron and as Azure ML say it."""

from __future__ import annotations

import pytest

from amlflow.errors import UsageError
from amlflow.monitoring import timing


@pytest.mark.parametrize(
    ("every", "expression", "recurrence"),
    [
        ("", "0 0 * * *", ("day", 1)),
        ("1d", "0 0 * * *", ("day", 1)),
        ("24h", "0 0 * * *", ("day", 1)),
        ("1w", "0 0 * * 0", ("week", 1)),
        ("7d", "0 0 * * 0", ("week", 1)),
        ("6h", "0 */6 * * *", ("hour", 6)),
        ("1h", "0 * * * *", ("hour", 1)),
        ("15m", "*/15 * * * *", ("minute", 15)),
        ("1m", "* * * * *", ("minute", 1)),
    ],
)
def test_spans_of_time(every: str, expression: str, recurrence: tuple[str, int]) -> None:
    found = timing.read(every, "")
    assert (found.expression, found.recurrence) == (expression, recurrence)


@pytest.mark.parametrize("every", ["5h", "2d", "7m", "90m", "2w"])
def test_what_cron_cannot_say_a_recurrence_can(every: str) -> None:
    found = timing.read(every, "")
    assert found.recurrence[1] > 1
    with pytest.raises(UsageError, match="Cron cannot say"):
        found.expression  # noqa: B018


@pytest.mark.parametrize("cron", ["0 6 * * *", "*/15 8-17 * * mon-fri", "0 0 1,15 * 7", "30 23 * jan,jul sun"])
def test_expressions(cron: str) -> None:
    assert timing.read("", f"  {cron} ").expression == cron


@pytest.mark.parametrize(
    "cron",
    [
        "0 6 * *",
        "60 * * * *",
        "0 24 * * *",
        "0 0 0 * *",
        "0 0 * 13 *",
        "0 0 * * 8",
        "*/0 * * * *",
        "0 17-8 * * *",
        "x * * * *",
        "0 0 * * mon;ls",
        "0 0 * * * root",
        "\n* * * *",
        "-1 * * * *",
        "1- * * * *",
        "0 0 * * ²",
        f"{'0' * 5000} * * * *",
        f"*/{'9' * 5000} * * * *",
    ],
)
def test_no_expressions(cron: str) -> None:
    with pytest.raises(UsageError, match="--cron"):
        timing.read("", cron)


def test_one_of_both() -> None:
    with pytest.raises(UsageError, match="two ways"):
        timing.read("1d", "0 6 * * *")
    for every in ("often", "30s", "0d"):
        with pytest.raises(UsageError, match="--every"):
            timing.read(every, "")
