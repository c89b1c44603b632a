"""Every command that the README or an error names exists, with the options that are named."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from amlflow.cli.app import ENTRIES, app

ROOT = Path(__file__).parent.parent.parent
NAMED = re.compile(r"(?:`|^|\$\()amlflow ([^`\n\")]+)", re.MULTILINE)


def named() -> Iterator[tuple[str, str]]:
    for file in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "amlflow").rglob("*.py"))]:
        for match in NAMED.finditer(file.read_text(encoding="utf-8")):
            yield file.name, match[1].split("   ")[0].strip()


def commands_of(name: str) -> Any:
    root: Any = typer.main.get_command(app)
    return root.get_command(None, name)


@pytest.mark.parametrize(("file", "line"), sorted(set(named())))
def test_a_named_command_exists(file: str, line: str) -> None:
    words = line.split(" -- ")[0].split()
    while words and words[0].startswith("-"):
        words = words[2:] if words[0] == "-w" else words[1:]
    if not words or "{" in words[0]:
        return
    assert words[0] in [entry.name for entry in ENTRIES], line
    command = commands_of(words[0])
    inner = getattr(command, "commands", None)
    if inner:
        if len(words) == 1 or words[1].startswith("-"):
            return
        for alternative in words[1].split("|"):
            assert alternative in inner, line
        command = inner[words[1].split("|")[0]]
    known = {option for param in command.params for option in param.opts} | {"--help"}
    for word in words[1:]:
        if re.fullmatch(r"--?[a-z][a-z-]*", word) and "|" not in line:
            assert word in known, line


def test_the_readme_and_the_errors_name_commands() -> None:
    assert len(set(named())) > 40
