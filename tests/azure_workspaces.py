"""A test's environment, pointed at the emulator of Azure ML."""

from __future__ import annotations

import time
from typing import Any

import pytest
from emulated import Running

_DEADLINE_S = 180


@pytest.fixture
def azure(emulator: Running, clean_env: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Running:
    """The environment of a test, pointed at the emulator."""
    for name, value in emulator.variables.items():
        monkeypatch.setenv(name, value)
        clean_env[name] = value
    return emulator


def send_all(amlflow: Any, *options: str, **env: str) -> None:
    """Send what waits, as often as it takes: on a busy machine the workspace may be taken for away."""
    deadline = time.monotonic() + _DEADLINE_S
    while (done := amlflow(*options, "sync", **env)).code:
        assert time.monotonic() < deadline, done.err
