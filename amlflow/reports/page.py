"""One HTML file that needs nothing else: its style, scripts, plotly and data are in it, and it may load nothing from anywhere."""

from __future__ import annotations

import base64
import functools
import gzip
import hashlib
import html
import importlib.util
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from amlflow.errors import AmlflowError

# What the scripts may do at most, whatever the data says: run as they are written here, draw images out of the file itself.
_POLICY = (
    "default-src 'none'; script-src {scripts}; style-src 'unsafe-inline'; img-src data: blob:; "
    "base-uri 'none'; form-action 'none'"
)
_HEAD = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="referrer" content="no-referrer">
<title>{title}</title>
<style>
{style}</style>
</head>
<body>
"""


def page(
    title: str, name: str, scripts: Sequence[str], data: Mapping[str, Any], packed: Mapping[str, str]
) -> Iterator[str]:
    """The pieces of the file. The assets `NAME.html` (the body) and `NAME.css`, and the scripts, which run as one in the order
    given; they find `data` as JSON in the element `data`, and each of `packed` (base64 of gzip) and plotly under its name."""
    script = f"(() => {{\n'use strict';\n{''.join(asset(file) for file in scripts)}}})();\n"
    plots = plotly()
    allowed = " ".join(f"'sha256-{_digest(text)}'" for text in (script, plots.decode()))
    yield _HEAD.format(
        policy=html.escape(_POLICY.format(scripts=allowed)), title=html.escape(title), style=asset(f"{name}.css")
    )
    yield asset(f"{name}.html")
    yield f'<script type="application/json" id="data">{contained(data)}</script>\n'
    everything = {**packed, "plotly": plotly_text()}
    for key, text in everything.items():
        yield f'<script type="application/octet-stream" id="{html.escape(key)}">{text}</script>\n'
    yield f"<script>{script}</script>\n</body>\n</html>\n"


def contained(data: Any) -> str:
    """JSON that cannot end the element it stands in, whatever it holds: no `<`, `>` or `&`, and no line ends that JavaScript
    knows and JSON does not. NaN and infinities become the strings of those names, lone surrogates U+FFFD."""
    text = json.dumps(_plain(data), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text.encode("utf-8", "replace").decode()


def asset(name: str) -> str:
    return (resources.files("amlflow.reports") / "assets" / name).read_text(encoding="utf-8")


def plotly() -> bytes:
    """plotly.js as the Python package ships it, found without importing that. Raises `AmlflowError` where it is not."""
    found = importlib.util.find_spec("plotly")
    for place in (found.submodule_search_locations or []) if found else []:
        file = Path(place) / "package_data" / "plotly.min.js"
        if file.is_file():
            return file.read_bytes()
    raise AmlflowError("The package plotly, which draws the page, is not installed.", "Run `pip install plotly`.")


@functools.cache
def plotly_text() -> str:
    """Base64 of gzip, as it stands in a page."""
    return base64.b64encode(gzip.compress(plotly(), 9, mtime=0)).decode()


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value
