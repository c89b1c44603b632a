from __future__ import annotations

import math
from typing import Any

import pytest

from amlflow.errors import UsageError
from amlflow.services.expression_parser import parse
from amlflow.services.expressions import Name, Undecided

VALUES: dict[str, float | str] = {
    "rmse": 0.5,
    "auc": 0.9,
    "val/acc": 0.75,
    "system.cpu": 3.0,
    "nan": math.nan,
    "inf": math.inf,
    "baseline.rmse": 0.4,
    "baseline.auc": 0.95,
    "params.opt": "adam",
    "params.lr": "0.10",
    "baseline.params.lr": "0.1",
    "params.the rate": "3",
    "größe": 2.0,
}


def value_of(name: Name) -> float | str:
    kind = "params." if name.kind == "params" else ""
    return VALUES[f"{'baseline.' if name.baseline else ''}{kind}{name.key}"]


def holds(text: str) -> bool:
    return parse(text).holds(value_of)


@pytest.mark.parametrize(
    ("text", "truth"),
    [
        ("rmse > 0.4", True),
        ("rmse>=.5 and auc<=9e-1", True),
        ("rmse > baseline", True),
        ("rmse > baseline*1.02", True),
        ("rmse > (baseline + 0.2)", False),
        ("baseline * 1.5 < rmse", False),
        ("abs(rmse - baseline) > 0.05", True),
        ("auc < baseline.auc", True),
        ("metrics.rmse == 0.5", True),
        ("`val/acc` < 0.8", True),
        ("metrics.'val/acc' < 0.8", True),
        ('metrics."val/acc" > 0.8', False),
        ("baseline.`rmse` == 0.4", True),
        ("system.cpu == 3", True),
        ("params.opt == 'adam'", True),
        ('params.opt != "sgd"', True),
        ("params.lr == 0.1", True),
        ("params.lr == baseline.params.lr", True),
        ("params.lr == baseline", True),
        ("params.`the rate` + 1 == 4", True),
        ("größe == 2", True),
        ("1 + 2 * 3 == 7", True),
        ("(1 + 2) * 3 == 9", True),
        ("10 - 3 - 2 == 5", True),
        ("16 / 4 / 2 == 2", True),
        ("2 ** 3 ** 2 == 512", True),
        ("-2 ** 2 == -4", True),
        ("2 ** -1 == 0.5", True),
        ("min(rmse, auc, 2) == 0.5 and max(1, auc) == 1", True),
        ("rmse < 0 or auc > 0.8 and rmse > 0.4", True),
        ("(rmse < 0 or auc > 0.8) and rmse > 0.9", False),
        ("not rmse < 0", True),
        ("not (rmse > 0 and auc > 0)", False),
        ("NOT rmse < 0 AND auc > 0", True),
        ("inf > 1e308", True),
        ("rmse\n  > 0.4", True),
    ],
)
def test_an_expression_is_true_or_false(text: str, truth: bool) -> None:
    assert holds(text) is truth


@pytest.mark.parametrize(
    ("text", "place", "why"),
    [
        ("", 0, "not the end"),
        ("rmse >", 6, "not the end"),
        ("rmse > )", 7, "not ')'"),
        ("rmse", 0, "compares nothing"),
        ("1 < rmse < 2", 9, "do not chain"),
        ("rmse = 1", 5, "write '=='"),
        ("rmse > 1 && auc > 1", 9, "write 'and'"),
        ("rmse > 1 || auc > 1", 9, "write 'or'"),
        ("!rmse > 1", 0, "write 'not'"),
        ("val loss > 1", 4, "backticks"),
        ("(rmse > 1", 0, "never closed"),
        ("`rmse > 1", 0, "never closed"),
        ("rmse > 'x'", 5, "== or !="),
        ("rmse + 'x' > 1", 7, "this is text"),
        ("(rmse > 1) + 1 > 2", 0, "this is a comparison"),
        ("(rmse > 1) == (auc > 1)", 0, "cannot be compared"),
        ("rmse > 1 and auc", 13, "this is a value"),
        ("not rmse", 4, "this is a value"),
        ("abs(rmse, auc) > 1", 0, "one value"),
        ("min() > 1", 4, "not ')'"),
        ("baseline > 1", 0, "baseline.NAME"),
        ("rmse / auc > baseline", 13, "baseline.NAME"),
        ("1.2.3 > rmse", 0, "no number"),
        ("rmse > 1; rmse", 8, "no meaning"),
        ("__import__('os')", 10, "not expected"),
        ("rmse.__class__() > 1", 14, "not expected"),
        ("測定 > #", 7, "no meaning"),
        ("`e\u0301e\u0301` > #", 7, "no meaning"),
        ("rmse > 1e400", 7, "too large"),
    ],
)
def test_what_is_no_expression_has_a_caret_at_the_place(text: str, place: int, why: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(text)
    lines = caught.value.message.split("\n")
    assert lines[0].startswith("--fail-if cannot be read: ")
    assert why in lines[0]
    assert lines[1] == f"  {text}"
    assert lines[2] == " " * (2 + place) + "^"


def test_of_a_long_expression_the_place_is_shown_and_nothing_that_commands_a_terminal() -> None:
    with pytest.raises(UsageError) as caught:
        parse(f"{'rmse > 1 and ' * 12}'\x1b[2J' == `\u202e`{' ' * 40}# {'or rmse > 1 ' * 500}")
    _, line, caret, _ = caught.value.message.split("\n")
    assert line[caret.index("^")] == "#"
    assert line.startswith("  …")
    assert line.endswith("…")
    assert len(line) < 130
    assert "\N{REPLACEMENT CHARACTER}[2J" in line
    assert line.isprintable()


def test_no_expression_is_too_deep_or_too_long_for_the_parser() -> None:
    for text in (
        "(" * 5_000 + "rmse > 1",
        "-" * 5_000 + "rmse > 1",
        "not " * 5_000 + "rmse > 1",
        "2 ** " * 5_000 + "1 > 1",
    ):
        with pytest.raises(UsageError, match=r"deep|words"):
            parse(text)
    with pytest.raises(UsageError, match="words"):
        parse(" + ".join(["rmse"] * 5_000) + " > 1")
    assert parse(" + ".join(["rmse"] * 90) + " > 1").holds(value_of)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("nan > 1", "NaN"),
        ("nan != nan", "NaN"),
        ("not nan < 1", "NaN"),
        ("max(nan, 1) > 0", "NaN"),
        ("rmse > 0 or nan > 1", "NaN"),
        ("rmse < 0 and nan > 1", "NaN"),
        ("inf - inf > 0", "NaN"),
        ("1 / (rmse - 0.5) > 1", "divides by zero"),
        ("10 ** 400 > 1", "too large"),
        ("rmse > 1e308 * 100", "too large"),
        ("rmse > -1e308 - 1e308", "too large"),
        ("(0 - rmse) ** 0.5 > 1", "root of a negative"),
        ("params.opt > 1", "no number"),
        ("params.opt == 1", "no number"),
        ("rmse == 'x'", "no number"),
    ],
)
def test_what_cannot_be_decided_says_why(text: str, why: str) -> None:
    with pytest.raises(Undecided, match=why):
        holds(text)


def test_the_names_are_told_once_and_as_they_are_written() -> None:
    names: Any = parse("rmse > baseline and rmse > 1 and params.`a b` == 'x'").names
    assert [name.shown() for name in names] == ["rmse", "baseline.rmse", "params.`a b`"]
