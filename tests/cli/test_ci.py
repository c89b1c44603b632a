from __future__ import annotations

import io
import json
from typing import Any

import pytest
from compared import Maker, compare

from amlflow.cli.ci import Inert
from amlflow.cli.output import to_json


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        (["a ##vso[task.complete]x"], "a ## vso[task.complete]x"),
        (["a ##VSO[x] ##[error]y ###[z"], "a ## VSO[x] ## [error]y ### [z"),
        (["::error::x\n", "  ::y::z\r::w::v"], ": :error::x\n  : :y::z\r: :w::v"),
        (["a::b::c ", "::d::e\n", " ", "::f::g"], "a::b::c ::d::e\n : :f::g"),
        (["a", "\n", "::b::c"], "a\n: :b::c"),
    ],
)
def test_what_is_printed_is_no_command(written: list[str], shown: str) -> None:
    plain = io.StringIO()
    stream = Inert(plain)
    for text in written:
        assert stream.write(text) == len(text)
    assert plain.getvalue() == shown


def test_json_stays_what_it_is() -> None:
    value = {"name": "###[x] ##vso[y]"}
    assert json.loads(to_json(value)) == value
    assert "##" not in to_json(value)


@pytest.mark.parametrize("service", [{"TF_BUILD": "True"}, {"GITHUB_ACTIONS": "true"}])
@pytest.mark.parametrize("form", ["table", "tsv", "json", "yaml", "markdown"])
def test_no_name_of_a_run_commands_the_ci_service(
    amlflow: Any, make: Maker, tmp_path: Any, service: dict[str, str], form: str
) -> None:
    make("##vso[task.setvariable variable=x]y", params={"p": "z\n::add-mask::s"}, **{"::error::m": 0.9})
    make("::set-output name=x::y\r::notice::b", **{"::error::m": 0.8})
    shape = ["--markdown"] if form == "markdown" else ["-o", form]
    env = {**service, "AGENT_TEMPDIRECTORY": str(tmp_path), "GITHUB_STEP_SUMMARY": str(tmp_path / "summary.md")}
    result = compare(amlflow, "-e", "wine", "--fail-if", "`::error::m` > 0.5", *shape, **env)
    assert result.code == 6, result.err
    lines = [line.strip() for line in f"{result.out}\n{result.err}".replace("\r", "\n").split("\n")]
    commands = [line for line in lines if "##vso[" in line or "##[" in line or line.startswith("::")]
    own = ("##vso[task.logissue type=error]", "##vso[task.uploadsummary]", "::error title=amlflow::")
    assert [line for line in commands if not line.startswith(own)] == []
    assert sum("gate checks failed" in line for line in commands) == 1
