"""Ids that were given while the workspace could not be reached, replaced by the workspace's own."""

from __future__ import annotations

import os
import re
from typing import Any, Dict, Match, Optional

from .folder import Journal

# Of a run, a logged model, and an experiment that was made offline.
_ID = re.compile(r"(?<![0-9A-Za-z])(?:(?:m-)?[0-9a-f]{32}|offline-[0-9a-f]{12})(?![0-9A-Za-z])")


class Identities:
    """Looks the ids up again only where new ones were noted."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._seen: Optional[int] = None
        self._known: Dict[str, str] = {}

    def real(self, local_id: str) -> str:
        return self._mapped().get(local_id, local_id)

    def note(self, local_id: str, real_id: str) -> None:
        self._journal.map_id(local_id, real_id)
        self._seen = None

    def is_mapped(self, local_id: str) -> bool:
        return local_id in self._mapped()

    def replaced(self, value: Any) -> Any:
        """A body or a text with every such id replaced, wherever it stands."""
        known = self._mapped()
        return _replaced(value, known) if known else value

    def _mapped(self) -> Dict[str, str]:
        try:
            changed = os.stat(self._journal.root / "ids").st_mtime_ns
        except OSError:
            return {}
        if changed != self._seen:
            self._known = self._journal.mapped_ids()
            self._seen = changed
        return self._known


def _replaced(value: Any, known: Dict[str, str]) -> Any:
    if isinstance(value, str):
        if value in known:
            return known[value]

        def real(found: Match[str]) -> str:
            return known.get(found.group(), found.group())

        return _ID.sub(real, value)
    if isinstance(value, dict):
        return {key: _replaced(item, known) for key, item in value.items()}
    if isinstance(value, list):
        return [_replaced(item, known) for item in value]
    return value
