"""How a journal's records stand in its segments: one line each, a checksum before its JSON.

A line is written by one `write`, begins with a line break and ends with one: what a killed program left half written ends where
the next record begins, and is told by its checksum. Records are lists; the first element is their kind:

    ["m", key, value, step, time_ms, extra?]        a metric; `extra` has what MLflow 3 adds (model_id, dataset_name, …)
    ["b", metrics, params, tags]                     many at once: lists of [key, value, step, time_ms, extra?] and [key, value]
    ["p", key, value], ["t", key, value], ["d", key] a param, a tag, a tag's deletion
    ["c", {…}]                                       the run itself, made while its workspace could not be reached
    ["u", {status, end_time, run_name}]              a change of the run: its end, a new name
    ["a", path, spooled, size_bytes, crc32]          a file of the run, kept in the spool until it is uploaded
    ["l", {…}]                                       a logged model of MLflow 3, as it stands after the change
    ["r", method, path, body]                        any other write, as MLflow's REST API takes it
    ["n", text]                                      what the program's user should be told once
"""

from __future__ import annotations

import json
import zlib
from typing import Any, List, Sequence, Tuple

METRIC, BATCH, PARAM, TAG, DELETED_TAG = "m", "b", "p", "t", "d"
CREATED, UPDATED, FILE, MODEL, REQUEST, NOTE = "c", "u", "a", "l", "r", "n"

# As `json.dumps` writes the beginning of a FILE record: readers that look for files alone parse nothing else.
FILE_PREFIX = b'["a"'

_dumps = json.JSONEncoder(separators=(",", ":")).encode
_crc = zlib.crc32


def encode(record: Sequence[Any]) -> bytes:
    """The line of a record. NaN and infinities stand as `NaN` and `Infinity`, which `json` reads back."""
    payload = _dumps(record).encode("ascii")
    return b"\n%08x %b\n" % (_crc(payload), payload)


def split(data: bytes, start: int) -> Tuple[List[int], List[bytes], int, int]:
    """The whole records in `data`, which begins at the offset `start` of a segment: the offsets after each, and the JSON of each;
    the offset up to which lines are whole; and how many lines were torn."""
    ends: List[int] = []
    payloads: List[bytes] = []
    torn = 0
    whole = data.rfind(b"\n") + 1
    leading = 1 if data[:1] == b"\n" else 0
    position = start + leading
    # Each record has a line break before and after it; only beside a torn one there are fewer.
    for part in data[leading : whole - 1].split(b"\n\n") if whole > leading else ():
        payload = part[9:]
        if part[:8] == b"%08x" % _crc(payload) and b"\n" not in part[:9]:
            position += len(part) + 2
            ends.append(position - 1)
            payloads.append(payload)
            continue
        for line in part.split(b"\n"):
            position += len(line) + 1
            if line and line[:8] == b"%08x" % _crc(line[9:]):
                ends.append(position)
                payloads.append(line[9:])
            elif line:
                torn += 1
        position += 1
    return ends, payloads, start + whole, torn


def decode(payloads: Sequence[bytes]) -> List[List[Any]]:
    """Many records in one call of the JSON parser."""
    records: List[List[Any]] = json.loads(b"[" + b",".join(payloads) + b"]")
    return records
