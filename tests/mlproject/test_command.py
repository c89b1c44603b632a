from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from amlflow.errors import NotFound, UsageError
from amlflow.mlproject.command import Place, shell_line
from amlflow.mlproject.file import EntryPoint, Parameter

HOSTILE = [
    "$(touch owned)",
    "`touch owned`",
    "; touch owned;",
    "a & touch owned",
    "| touch owned",
    "> owned",
    "a\nb\n touch owned",
    "it's",
    'say "hi"',
    "'\"'\"'",
    "*",
    "~",
    "$HOME ${PATH}",
    "\\",
    "\\n",
    "ünïcødé ✓",
    "",
    " ",
    "-rf",
    "--help",
    "!history",
    "{alpha}",
    "}}{{",
]
TEMPLATES = [
    "{echo} {x}",
    '{echo} "{x}"',
    "{echo} '{x}'",
    "{echo} --name={x}",
    '{echo} --name="{x}"',
    "{echo} pre'{x}'post",
    "{echo} \"a '{x}' b\"",
    "{echo} \\'{x}\\'",
    "{echo} {x}{x}",
]


def argv(template: str, value: str, cwd: Path) -> list[str]:
    """What a program gets when the line is run by a real bash."""
    program = cwd / "echo.py"
    program.write_text("import json, sys; print(json.dumps(sys.argv[1:]))")
    command = template.replace("{echo}", f"{sys.executable} {program}")
    entry_point = EntryPoint("main", command, {"x": Parameter("x")})
    line, _ = shell_line(entry_point, {"x": value})
    done = subprocess.run(["bash", "-c", line], cwd=cwd, capture_output=True, check=True)
    found: list[str] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("value", HOSTILE)
def test_a_parameter_never_becomes_shell_syntax(tmp_path: Path, value: str) -> None:
    expected = {
        "{echo} {x}": [value],
        '{echo} "{x}"': [value],
        "{echo} '{x}'": [value],
        "{echo} --name={x}": [f"--name={value}"],
        '{echo} --name="{x}"': [f"--name={value}"],
        "{echo} pre'{x}'post": [f"pre{value}post"],
        "{echo} \"a '{x}' b\"": [f"a '{value}' b"],
        "{echo} \\'{x}\\'": [f"'{value}'"],
        "{echo} {x}{x}": [value + value],
    }
    for template in TEMPLATES:
        assert argv(template, value, tmp_path) == expected[template], template
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize("value", HOSTILE)
def test_an_undeclared_parameter_is_appended_as_one_word(tmp_path: Path, value: str) -> None:
    program = tmp_path / "echo.py"
    program.write_text("import json, sys; print(json.dumps(sys.argv[1:]))")
    line, params = shell_line(EntryPoint("main", f"{sys.executable} {program}"), {"extra": value})
    done = subprocess.run(["bash", "-c", line], cwd=tmp_path, capture_output=True, check=True)
    assert json.loads(done.stdout) == ["--extra", value]
    assert params == {"extra": value}
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize("name", ["x;touch owned", "a b", "$(x)", "", "-x"])
def test_a_name_that_is_no_option_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="cannot name a parameter"):
        shell_line(EntryPoint("main", "true"), {name: "1"})


def test_nul_is_refused() -> None:
    with pytest.raises(UsageError, match="NUL"):
        shell_line(EntryPoint("main", "true {x}", {"x": Parameter("x")}), {"x": "a\0b"})


def test_double_braces_stand_for_braces() -> None:
    assert shell_line(EntryPoint("main", "awk '{{print}}' ${{HOME}}"), {})[0] == "awk '{print}' ${HOME}"


def test_all_missing_parameters_are_named_at_once() -> None:
    parameters = {name: Parameter(name) for name in ("alpha", "beta")}
    with pytest.raises(UsageError) as caught:
        shell_line(EntryPoint("main", "true", parameters), {"alpa": "1"})
    assert "needs alpha, beta" in caught.value.message
    assert "'alpa' a misspelling" in caught.value.message
    assert "-P alpha=VALUE -P beta=VALUE" in caught.value.mend


def test_a_float_must_be_a_number() -> None:
    entry_point = EntryPoint("main", "true {x}", {"x": Parameter("x", "float")})
    assert shell_line(entry_point, {"x": "1e-3"})[0] == "true 1e-3"
    with pytest.raises(UsageError, match="is a float and cannot be 'abc'"):
        shell_line(entry_point, {"x": "abc"})


def test_a_path_becomes_absolute_and_must_exist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my data.csv").touch()
    for kind in ("path", "uri"):
        entry_point = EntryPoint("main", "true {x}", {"x": Parameter("x", kind)})  # type: ignore[arg-type]
        line, params = shell_line(entry_point, {"x": "my data.csv"})
        assert line == f"true '{tmp_path}/my data.csv'"
        assert params == {"x": "my data.csv"}
        with pytest.raises(NotFound, match=r"there is no file or folder 'none\.csv'"):
            shell_line(entry_point, {"x": "none.csv"})


def test_a_uri_stays_and_a_path_that_is_one_is_downloaded(tmp_path: Path) -> None:
    uri = EntryPoint("main", "true {x}", {"x": Parameter("x", "uri")})
    assert shell_line(uri, {"x": "s3://bucket/key"})[0] == "true s3://bucket/key"
    (tmp_path / "data.txt").write_text("kept")
    path = EntryPoint("main", "true {x}", {"x": Parameter("x", "path")})
    line, _ = shell_line(path, {"x": (tmp_path / "data.txt").as_uri()})
    assert line == f"true {tmp_path}/data.txt"


def test_an_unknown_placeholder_offers_the_nearest() -> None:
    with pytest.raises(UsageError, match="Did you mean 'alpha'"):
        shell_line(EntryPoint("main", "run {alfa}", {"alpha": Parameter("alpha", default="1")}), {})


def test_a_value_is_never_a_place_of_azure_ml() -> None:
    entry_point = EntryPoint("main", "run {a} '{b}'", {"a": Parameter("a"), "b": Parameter("b")})
    line, _ = shell_line(entry_point, {"a": "${{inputs.x}}", "b": Place("${{inputs.b}}")})
    assert "${{inputs.x}}" not in line
    assert "${{inputs.b}}" in line
    assert shlex.split(line) == ["run", "${{inputs.x}}", "${{inputs.b}}"]
