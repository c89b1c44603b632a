from __future__ import annotations

import math
import time

import pytest

from amlflow.errors import GateFailed, NotFound, UsageError
from amlflow.services.gates import Subject, check, judge, read

BASE = Subject("b" * 32, "champion", {"rmse": 0.40, "auc": 0.9}, {"lr": "0.1"})
GOOD = Subject("1" * 32, "good", {"rmse": 0.39, "auc": 0.91}, {"lr": "0.1"})
BAD = Subject("2" * 32, "bad", {"rmse": 0.45, "auc": 0.91}, {"lr": "0.2"})
NAN = Subject("3" * 32, "diverged", {"rmse": math.nan, "auc": 0.91}, {})
BARE = Subject("4" * 32, "bare", {"auc": 0.91}, {"rmse_target": "1"})


def outcomes(gate: str, *subjects: Subject) -> list[str]:
    return [found.outcome for found in judge(read([gate], True), [BASE, *subjects], BASE)]


def test_a_gate_fails_for_each_run_that_makes_it_true() -> None:
    assert outcomes("rmse > baseline * 1.02", GOOD, BAD) == ["passed", "failed"]
    assert outcomes("auc < 0.9", GOOD, BAD) == ["passed", "passed"]


def test_the_baseline_is_not_held_to_the_gate() -> None:
    assert outcomes("rmse > 0", GOOD) == ["failed"]
    with pytest.raises(NotFound, match="the baseline itself"):
        judge(read(["rmse > 1"], True), [BASE], BASE)


def test_a_missing_metric_or_nan_is_no_pass() -> None:
    (bare,) = judge(read(["rmse > 0.5 and auc > 2"], False), [BARE], None)
    assert (bare.outcome, bare.reason) == ("error", "it has no metric or param 'rmse'")
    (nan,) = judge(read(["rmse > 0.5"], False), [NAN], None)
    assert (nan.outcome, nan.reason) == ("error", "a side of '>' is NaN")
    (base,) = judge(read(["mse > baseline"], True), [Subject("5", "x", {"mse": 1}, {}), BASE], BASE)
    assert (base.outcome, base.reason) == ("error", "the baseline has no metric or param 'mse' (is 'rmse' meant?)")


def test_a_mean_over_some_runs_of_a_group_is_no_pass() -> None:
    group = Subject("", "lr=0.1", {"auc": 0.9}, {"acc": "0.9"}, 3, {"acc": 1})
    base = Subject("", "lr=0.2", {"auc": 0.9}, {}, 4, {"acc": 2})
    findings = judge(read(["acc < 0.8", "auc < 0.8", "params.acc < 0.8"], False), [group], None)
    assert [found.outcome for found in findings] == ["error", "passed", "passed"]
    assert findings[0].sentence() == "acc < 0.8 cannot be decided: 1 of 3 runs lacks the metric 'acc'"
    (both,) = judge(read(["acc < baseline"], True), [group, base], base)
    assert (
        both.reason
        == "1 of 3 runs lacks the metric 'acc' and 2 of 4 runs of the baseline's group lack the metric 'acc'"
    )


def test_the_values_that_are_told_never_say_the_opposite() -> None:
    def told(gate: str, auc: float, base: float) -> str:
        baseline = Subject("b", "base", {"auc": base}, {})
        (found,) = judge(read([gate], True), [Subject("r", "run", {"auc": auc}, {}), baseline], baseline)
        return found.sentence()

    assert (
        told("auc < baseline", 0.8 - 1e-9, 0.8)
        == "auc < baseline is true (auc = 0.7999999990000001, baseline.auc = 0.8)"
    )
    assert told("auc == baseline", 0.8 - 1e-9, 0.8).startswith("auc == baseline is false (auc = 0.7999999990000001, ")
    assert told("auc < 0.8", 0.8 - 1e-9, 0.5) == "auc < 0.8 is true (auc = 0.7999999990000001)"
    assert told("auc - baseline > 0", 1 / 3 + 1e-12, 1 / 3).startswith(
        "auc - baseline > 0 is true (auc = 0.33333333333433"
    )
    assert told("1 / (auc - baseline) > 0", 1 / 3 + 1e-12, 1 / 3).startswith(
        "1 / (auc - baseline) > 0 is true (auc = 0.333"
    )
    # Where six digits say the same there are no more of them.
    assert told("auc < baseline", 1 / 3, 2 / 3) == "auc < baseline is true (auc = 0.333333, baseline.auc = 0.666667)"


def test_a_metric_that_thousands_of_runs_lack_is_told_in_time() -> None:
    metrics = {f"validation/metric_{number}": 1.0 for number in range(200)}
    subjects = [Subject(str(at), "run", {**metrics, f"own_{at}": 1.0}, {}) for at in range(1_000)]
    started = time.process_time()
    findings = judge(read(["`validation/metrik_100` > 1", "own_77 > 2"], False), subjects, None)
    assert time.process_time() - started < 5, "it took 20 s when the nearest name was looked for in each run"
    assert "validation/metric_100" in findings[0].reason
    assert [found.outcome for found in findings if found.gate.startswith("own")].count("passed") == 1


def test_a_bare_name_is_a_metric_before_it_is_a_param() -> None:
    both = Subject("6", "both", {"lr": 3.0}, {"lr": "0.1", "opt": "adam"})
    (found,) = judge(read(["lr > 1 and params.lr < 1 and opt == 'adam'"], False), [both], None)
    assert found.outcome == "failed"
    assert found.values == {"lr": 3.0, "params.lr": "0.1", "opt": "adam"}
    (metric,) = judge(read(["metrics.opt > 1"], False), [both], None)
    assert metric.reason.startswith("it has no metric 'opt'")


def test_the_error_names_run_expression_and_values() -> None:
    findings = judge(read(["rmse > baseline*1.02", "auc < 0.5"], True), [BASE, GOOD, BAD], BASE)
    with pytest.raises(GateFailed) as caught:
        check(findings)
    assert caught.value.exit_code == 6
    assert caught.value.paragraph() == (
        f"1 of 4 gate checks failed. run 'bad' ({'2' * 32}): rmse > baseline*1.02 is true (rmse = 0.45, baseline.rmse = 0.4)."
    )
    check([found for found in findings if found.subject == "good"])


def test_a_gate_over_the_baseline_needs_one() -> None:
    with pytest.raises(UsageError, match="none is given"):
        read(["rmse > baseline"], False)


def test_of_many_failures_the_first_are_told() -> None:
    findings = judge(read(["rmse > 0"], False), [BAD] * 50, None)
    with pytest.raises(GateFailed, match=r"^50 of 50 gate checks failed\..*; and 45 more\.$"):
        check(findings)


def test_a_gate_that_asks_nothing_of_a_run_is_refused() -> None:
    with pytest.raises(UsageError, match="no metric or param"):
        read(["0.43 > 0.5"], False)
