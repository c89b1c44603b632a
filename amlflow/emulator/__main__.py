"""The emulator's process: `python -m amlflow.emulator FOLDER`."""

from __future__ import annotations

import sys
from pathlib import Path

from amlflow.emulator.server import serve

serve(Path(sys.argv[1]))
