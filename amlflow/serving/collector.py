"""What an endpoint was asked and what it answered, as JSON lines in the layout of Azure ML's data collector.

`FOLDER/model_inputs/YYYY/MM/DD/HH/*.jsonl` and `FOLDER/model_outputs/…`, by the hour in UTC. A line is a CloudEvent (version
1.0) for a request: `data` holds its rows as objects, `time` when it came, `correlationid` is the same for inputs and
outputs. A request only leaves its rows in memory; a thread writes them a moment later, and what goes wrong there costs
records, never an answer.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import math
import os
import random
import re
import secrets
import sys
import threading
import time
import uuid
from collections import deque
from pathlib import Path
from typing import Any, Callable, NamedTuple, Optional, Sequence

from .payload import Payload
from .signature import Column, Signature, from_text, typed

INPUTS, OUTPUTS = "model_inputs", "model_outputs"
ID_HEADER = b"x-request-id"
DEFAULT_LIMIT_BYTES = 1024**3
FILE_LIMIT_BYTES = 64 * 1024**2
# What may wait in memory when the disk does not keep up.
_WAITING_REQUESTS = 20_000
_WAITING_BYTES = 64 * 1024**2
_PAUSE_S = 0.5
_COMPLAIN_S = 60.0
_ID = re.compile(rb"[\w.:-]{1,128}")
_SALT = ".salt"


class Rules(NamedTuple):
    """`rate` is the share of requests that are collected, 0 to 1; `dropped` columns are left out, `hashed` ones replaced by a
    keyed SHA-256 whose key stays in the folder, the same for a value however a client writes it; `limit_bytes` bounds what is
    kept: the oldest files go first."""

    folder: str
    source: str = ""
    rate: float = 1.0
    dropped: Sequence[str] = ()
    hashed: Sequence[str] = ()
    limit_bytes: int = DEFAULT_LIMIT_BYTES


class _Taken(NamedTuple):
    seconds: float
    identifier: str
    payload: Payload
    predictions: Any
    size: int


class Complaints:
    """Sentences to stderr, one a minute at most."""

    def __init__(self) -> None:
        self._said = -_COMPLAIN_S

    def say(self, text: str) -> bool:
        """Whether it was said."""
        now = time.monotonic()
        if now - self._said < _COMPLAIN_S:
            return False
        self._said = now
        print(text, file=sys.stderr, flush=True)  # noqa: T201
        return True


class Collector:
    """`take` is for the thread that answers; all else happens in a thread of the collector's own. `key` gives the key of hashed
    columns where it is not kept in the folder; until it can be had, requests wait."""

    def __init__(self, rules: Rules, signature: Optional[Signature], key: Optional[Callable[[], bytes]] = None) -> None:
        self._rules, self._signature, self._given_key = rules, signature, key
        self._folder = Path(rules.folder)
        self._waiting: deque[_Taken] = deque()
        self._bytes = 0
        self._lost = 0
        self._complaints = Complaints()
        self._name = f"{os.getpid()}-{time.time_ns() // 1_000_000}"
        self._part = 0
        self._kept: Optional[int] = None
        self._key = b""
        self._wake, self._ended = threading.Event(), False
        self._thread = threading.Thread(target=self._run, name="collector", daemon=True)
        self._thread.start()

    def take(self, headers: list[tuple[bytes, bytes]], payload: Payload, predictions: Any, size: int) -> str:
        """The identifier that the answer carries; empty for a request that is not collected. `size` is that of the body."""
        if self._rules.rate < 1 and random.random() >= self._rules.rate:  # noqa: S311
            return ""
        given = next((value for name, value in headers if name == ID_HEADER), b"")
        identifier = given.decode() if _ID.fullmatch(given) else str(uuid.uuid4())
        if len(self._waiting) >= _WAITING_REQUESTS or self._bytes + size > _WAITING_BYTES:
            self._lost += 1
            return ""
        self._bytes += size
        self._waiting.append(_Taken(time.time(), identifier, payload, predictions, size))
        return identifier

    def close(self) -> None:
        """Write what waits."""
        self._ended = True
        self._wake.set()
        self._thread.join(10)

    def _run(self) -> None:
        ended = False
        while not ended:
            self._wake.wait(_PAUSE_S)
            # Read before writing: what came until then is written in this last turn.
            ended = self._ended
            try:
                self._flush()
            except Exception as error:
                if ended:
                    self._lost += len(self._waiting)
                self._complain(f"{type(error).__name__}: {error}")

    def _flush(self) -> None:
        if self._rules.hashed and self._waiting:
            self._salt()
        taken = []
        while self._waiting:
            taken.append(self._waiting.popleft())
        self._bytes -= sum(item.size for item in taken)
        lines: dict[tuple[str, str], list[bytes]] = {}
        try:
            for item in taken:
                hour = time.strftime("%Y/%m/%d/%H", time.gmtime(item.seconds))
                for collection, rows in ((INPUTS, self._inputs(item.payload)), (OUTPUTS, _outputs(item.predictions))):
                    lines.setdefault((collection, hour), []).append(self._line(collection, item, rows))
            for (collection, hour), written in lines.items():
                self._append(self._folder / collection / hour, b"".join(written))
        except Exception:
            self._lost += len(taken)
            raise
        if self._lost:
            self._complain("more came than could be written")

    def _append(self, place: Path, content: bytes) -> None:
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = place / f"{self._name}-{self._part}.jsonl"
        if file.exists() and file.stat().st_size + len(content) > FILE_LIMIT_BYTES:
            self._part += 1
            file = place / f"{self._name}-{self._part}.jsonl"
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab") as target:
            target.write(content)
        self._bound(file, len(content))

    def _bound(self, written: Path, size: int) -> None:
        if self._kept is None:
            self._kept = sum(file.stat().st_size for file in self._folder.rglob("*.jsonl"))
        else:
            self._kept += size
        if self._kept <= self._rules.limit_bytes:
            return
        # By hour, whichever collection: inputs without their outputs are of little use. Some may be gone meanwhile, or go now.
        found = [(file.parts[-5:-1], *_facts(file), file) for file in self._folder.rglob("*.jsonl")]
        self._kept = sum(size for _, _, size, _ in found)
        for _, _, size, file in sorted(found):
            if self._kept <= self._rules.limit_bytes or file == written:
                break
            self._kept -= size
            file.unlink(missing_ok=True)

    def _line(self, collection: str, item: _Taken, rows: list[dict[str, Any]]) -> bytes:
        millis = int(item.seconds * 1000) % 1000
        record = {
            "specversion": "1.0",
            "id": str(uuid.uuid4()),
            "source": self._rules.source,
            "type": f"azureml.inference.{collection}",
            "datacontenttype": "application/json",
            "time": f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(item.seconds))}.{millis:03d}Z",
            "correlationid": item.identifier,
            "xrequestid": item.identifier,
            "data": [self._allowed(row) for row in rows],
        }
        return json.dumps(record, ensure_ascii=False, default=str).encode() + b"\n"

    def _inputs(self, payload: Payload) -> list[dict[str, Any]]:
        columns = payload.columns
        if columns is None and self._signature is not None:
            columns = self._signature.names
        found = _rows(columns, payload.rows)
        for name, column in self._kinds(columns).items() if payload.text or self._rules.hashed else ():
            is_hashed = name in self._rules.hashed
            for row in found if payload.text or is_hashed else ():
                value = row.get(name)
                if payload.text and isinstance(value, str):
                    value = row[name] = from_text(column, value)
                if is_hashed and value is not None:
                    row[name] = typed(column, value)
        return found

    def _kinds(self, columns: Optional[list[str]]) -> dict[str, Column]:
        """The signature's columns by the names that a request gives them; where it has no names, its order counts."""
        if self._signature is None:
            return {}
        unnamed = self._signature.columns[0].name is None
        names = columns if columns is not None and unnamed else self._signature.names
        return dict(zip(names, self._signature.columns))  # noqa: B905 - Python 3.9 has no strict

    def _allowed(self, row: dict[str, Any]) -> dict[str, Any]:
        # JSON has neither NaN nor the infinities.
        kept = {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in row.items()
            if name not in self._rules.dropped
        }
        for name in self._rules.hashed:
            if kept.get(name) is not None:
                text = json.dumps(_one_kind(kept[name]), sort_keys=True, default=str).encode()
                kept[name] = hmac.new(self._salt(), text, hashlib.sha256).hexdigest()[:32]
        return kept

    def _salt(self) -> bytes:
        """The same for all workers of the endpoint, so that a value keeps its hash."""
        if not self._key and self._given_key is not None:
            self._key = self._given_key()
        if not self._key:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            file = self._folder / _SALT
            made = self._folder / f"{_SALT}-{self._name}"
            with os.fdopen(os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as target:
                target.write(secrets.token_bytes(32))
            # Whole or not there, whoever was first.
            with contextlib.suppress(FileExistsError):
                os.link(made, file)
            made.unlink()
            self._key = file.read_bytes()
        return self._key

    def _complain(self, reason: str) -> None:
        what = f"{self._lost} requests were not collected" if self._lost else "What was collected waits"
        if self._complaints.say(f"{what}: {reason}"):
            self._lost = 0


def _facts(file: Path) -> tuple[float, int]:
    """When it was written to, and its size; nothing of one that is gone."""
    with contextlib.suppress(FileNotFoundError):
        facts = file.stat()
        return facts.st_mtime, facts.st_size
    return 0.0, 0


def _one_kind(value: Any) -> Any:
    """JSON has one kind of number: 1.0 is the whole 1, wherever it stands."""
    if type(value) is float and value.is_integer():
        return int(value)
    if isinstance(value, list):
        return [_one_kind(item) for item in value]
    return {name: _one_kind(item) for name, item in value.items()} if isinstance(value, dict) else value


def _outputs(predictions: Any) -> list[dict[str, Any]]:
    if isinstance(predictions, dict):
        lines = list(predictions.values())
        if lines and all(isinstance(line, list) and len(line) == len(lines[0]) for line in lines):
            return [dict(zip(predictions, row)) for row in zip(*lines)]  # noqa: B905 - Python 3.9 has no strict
        return [predictions]
    rows = predictions if isinstance(predictions, list) else [predictions]
    return [row if isinstance(row, dict) else _named(None, row, "output") for row in rows]


def _rows(columns: Optional[list[str]], rows: list[Any]) -> list[dict[str, Any]]:
    return [row if isinstance(row, dict) else _named(columns, row, "value") for row in rows]


def _named(columns: Optional[list[str]], row: Any, alone: str) -> dict[str, Any]:
    if not isinstance(row, list):
        return {columns[0] if columns and len(columns) == 1 else alone: row}
    names = columns if columns and len(columns) == len(row) else [str(index) for index in range(len(row))]
    return dict(zip(names, row))  # noqa: B905 - Python 3.9 has no strict
