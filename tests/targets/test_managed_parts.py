"""What the managed target decides without the service: requests, sizes, options."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from amlflow.errors import AmlflowError, NotFound, UsageError
from amlflow.services.deploy_options import Asked, AskedOnline, AskedRollout, options, shares
from amlflow.targets import payloads
from amlflow.targets.rollout import golden_requests
from amlflow.workspaces.azure import quota
from amlflow.workspaces.azure.quota import MachineSize

TABLE = {"columns": ["a", "b"], "index": [0], "data": [[1, "x"]]}


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ({"dataframe_split": {"columns": ["a", "b"], "data": [[1, "x"]]}}, TABLE),
        ({"dataframe_records": [{"a": 1, "b": "x"}]}, TABLE),
        ({"input_data": {"columns": ["a", "b"], "data": [[1, "x"]]}}, TABLE),
        ({"inputs": [[1, 2], [3, 4]]}, [[1, 2], [3, 4]]),
        ({"instances": {"a": [1], "b": ["x"]}}, TABLE),
    ],
)
def test_every_form_becomes_azures(given: Any, sent: Any) -> None:
    body = payloads.as_input_data(json.dumps({**given, "params": {"k": 1}}).encode(), "application/json")
    assert json.loads(body) == {"input_data": sent, "params": {"k": 1}}


def test_csv_becomes_numbers_where_it_can() -> None:
    body = payloads.as_input_data(b"a,b,c,d\n1,2.5,,word\n", "text/csv")
    assert json.loads(body)["input_data"]["data"] == [[1, 2.5, None, "word"]]
    with pytest.raises(UsageError, match="exactly one"):
        payloads.as_input_data(b'{"inputs": [], "instances": []}', "application/json")


def test_a_size_that_fits_is_named() -> None:
    small = MachineSize("Standard_F4s_v2", "F", 4, 8, 0, 0, 100)
    full = MachineSize("Standard_DS3_v2", "D", 4, 14, 0, 94, 100)
    gpu = MachineSize("Standard_NC6s_v3", "N", 6, 112, 1, 20, 24)
    known = [small, full, gpu]
    with pytest.raises(AmlflowError, match="94 of 100 cores of D are used, and 8 more") as refused:
        quota.check(known, "standard_ds3_v2", 1)
    assert "--instance-type Standard_F4s_v2" in refused.value.mend
    # What is replaced gives its cores back.
    assert quota.check(known, "Standard_DS3_v2", 1, "Standard_DS3_v2", 1) is full
    with pytest.raises(AmlflowError) as none:
        quota.check(known, gpu.name, 1)
    assert "--instance-count" in none.value.mend
    with pytest.raises(NotFound, match="Did you mean 'Standard_DS3_v2'"):
        quota.check(known, "Standard_DS3", 1)


def test_golden_requests_say_which_line_is_wrong(tmp_path: Path) -> None:
    file = tmp_path / "golden.jsonl"
    file.write_text('{"inputs": [[1]]}\n\n{"request": {"inputs": [[2]]}, "predictions": [3]}\n')
    assert golden_requests(file) == [(b'{"input_data": [[1]]}', None), (b'{"input_data": [[2]]}', [3])]
    file.write_text('{"inputs": [[1]]}\n{"inputs": \n')
    with pytest.raises(UsageError, match="Line 2"):
        golden_requests(file)


def test_options_belong_to_their_target(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FROM_HERE", "value")
    made = options("managed", Asked("n", ["A=1=2", "FROM_HERE"]), AskedOnline(AskedRollout(canary="10, 50%,100")))
    assert (dict(made.variables), made.online.canary) == ({"A": "1=2", "FROM_HERE": "value"}, (10, 50, 100))
    for target, given, wrong in (
        ("managed", {"port": 1}, "--port means nothing"),
        ("managed", {"env": ["secret-value"]}, "gives no value"),
    ):
        with pytest.raises(UsageError, match=wrong) as refused:
            options(target, Asked(**given))  # type: ignore[arg-type]
        assert "secret-value" not in refused.value.paragraph()
    with pytest.raises(UsageError, match="--no-wait means nothing to --target local"):
        options("local", Asked(), AskedOnline(AskedRollout(no_wait=True)))
    assert shares(["blue=90", "green=10"]) == {"blue": 90, "green": 10}
    with pytest.raises(UsageError, match="gives no deployment a share"):
        shares(["blue=190"])
