"""A test's environment, pointed at the emulator of Azure ML."""

from __future__ import annotations

import pytest
from emulated import Running


@pytest.fixture
def azure(emulator: Running, clean_env: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Running:
    """The environment of a test, pointed at the emulator."""
    for name, value in emulator.variables.items():
        monkeypatch.setenv(name, value)
        clean_env[name] = value
    return emulator
