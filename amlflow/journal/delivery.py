"""Sends what one run's journal holds, in its order, each write once.

Before anything is sent, `sent.json` is told how far it reaches (`sending`); when it is acknowledged, that becomes `log`. Whoever
finds `sending` set, or got an answer that leaves it open whether the request was applied, reads what the service holds and sends
only what is missing.
"""

from __future__ import annotations

import math
import threading
import time
from bisect import bisect_right
from typing import Any, Callable, Dict, Iterator, List, Optional, TypeVar

from . import creation, records, requests_kept, segments
from .aside import Aside
from .batches import LONG_VALUES, Barrier, Batch, Chunk, Limits, steps
from .errors import Refused, Unreachable
from .folder import GENERAL, RunFolder
from .held import conflicting, missing, read_run
from .identities import Identities
from .ledger import Ledger
from .models import Models
from .rest import Behind
from .retry import RetryPolicy, Transient, persist
from .segments import Cursor
from .stuck import Stopped, Stuck, stuck_by

_API = "/api/2.0/mlflow"
_TERMINAL = frozenset(("FINISHED", "FAILED", "KILLED"))
# How long a request may be on its way that nobody waits for any more.
_SETTLE_S = 1.0
# The fewer records are in memory at once, the less the garbage collector has to look at.
_READ_BYTES = 512 << 10
_Answer = TypeVar("_Answer")


class Delivery:
    """One run; use it while `RunFolder.draining`. `wait_for_files(cursor)` returns when all files recorded up to it are
    uploaded, and `put_aside` uploads what the service cannot hold otherwise."""

    def __init__(
        self,
        folder: RunFolder,
        behind: Behind,
        limits: Limits,
        ledger: Ledger,
        aside: Aside,
        identities: Identities,
        *,
        wait_for_files: Callable[[Cursor], None],
        put_aside: Callable[[], None],
        policy: RetryPolicy,
        stop: threading.Event,
    ) -> None:
        self._folder, self._behind, self._limits = folder, behind, limits
        self._ledger, self._aside, self._identities = ledger, aside, identities
        self._wait_for_files, self._put_aside = wait_for_files, put_aside
        self._policy, self._stop = policy, stop
        self._models = Models(folder, behind, identities, aside, self._insist)

    @property
    def run_id(self) -> str:
        """The run's id in the workspace."""
        return self._identities.real(self._folder.id)

    def deliver(self) -> bool:
        """Send all that is there. False where it has to wait for another run. Raises `Stuck`, `Unreachable` or `Stopped`."""
        if self._ledger.sending is not None:
            self._settle()
            if not self._send_from(self._ledger.log, self._ledger.sending):
                return False
        return self._send_from(self._ledger.log, None)

    def _settle(self) -> None:
        """What the service was asked a moment ago, by a process that died since, it may still be doing: it is not yet to be seen
        then."""
        age_s = time.time() - self._ledger.written_s()
        if 0 <= age_s < _SETTLE_S and self._stop.wait(_SETTLE_S - age_s):
            raise Stopped

    def _send_from(self, start: Cursor, until: Optional[Cursor]) -> bool:
        """Send what lies between the cursors. With `until`, some of it may have arrived already."""
        reader = segments.Reader(self._folder.path, start)
        unsure = until is not None
        for step in steps(_chunks(reader, until), start, self._limits):
            if self._stop.is_set():
                raise Stopped
            if isinstance(step, Batch):
                self._batch(step, unsure)
            elif self._has_to_wait(step):
                self._ledger.write()
                return False
            else:
                self._barrier(step, unsure)
        # Beyond the last whole record there may be torn ones.
        passed = until if until is not None else segments.passed_torn(self._folder.path, reader.cursor)
        self._ledger.acknowledge({**self._ledger.log, **passed}, whole=True)
        self._ledger.write()
        return True

    # ------------------------------------------------------------------ batches

    def _batch(self, batch: Batch, unsure: bool) -> None:
        if len(batch):
            if batch.long:
                self._keep_long(batch)
            # Of a recovered range all stays in doubt until all of it was looked at.
            if not unsure:
                self._ledger.send(batch.touched)
            try:
                self._insist(lambda look: self._log(batch, look), unsure)
            except Refused as refused:
                self._single_out(batch, refused)
        self._ledger.acknowledge(batch.done, whole=not unsure and batch.done == batch.touched)

    def _log(self, batch: Batch, look: bool) -> None:
        if look:
            batch = missing(self._behind, self._limits, self.run_id, self._real(batch), self._run())
        # A workspace of this machine takes points as they are, without a request around them.
        directly = getattr(self._behind, "log_points", None)
        if directly is not None and batch.points and all(len(point) == 4 for point in batch.points):
            directly(self.run_id, batch.points)
            batch = batch.holding([], batch.params, batch.tags)
        if len(batch):
            self._behind.request("POST", f"{_API}/runs/log-batch", self._body(batch), retry=False)

    def _single_out(self, batch: Batch, refused: Refused) -> None:
        """Find what of a refused batch the service refuses, keep that aside, and send the rest."""
        stuck = stuck_by(refused)
        if stuck:
            raise stuck from refused
        # What was refused may have been applied in part; and the run may be the one that is refused.
        run = self._run()
        batch = missing(self._behind, self._limits, self.run_id, self._real(batch), run)
        for key, value in conflicting(batch, run).items():
            reason = f"The param {key!r} has the value {value!r} and cannot become another: params never change."
            self._aside.refuse([records.PARAM, key, batch.params[key]], reason)
            batch.params.pop(key)
        if self._limits.params_per_run is not None:
            self._spare_params(batch, self._limits.params_per_run - len(run.get("data", {}).get("params", [])))
        self._halve(batch, refused)

    def _halve(self, batch: Batch, refused: Refused) -> None:
        if not len(batch):
            return
        if len(batch) == 1:
            self._aside.refuse(_record(batch), refused.message)
            return
        for half in batch.halves():
            try:
                self._insist(lambda look, half=half: self._log(half, look), False)  # type: ignore[misc]
            except Refused as again:
                stuck = stuck_by(again)
                if stuck:
                    raise stuck from again
                self._halve(missing(self._behind, self._limits, self.run_id, half, self._run()), again)

    def _spare_params(self, batch: Batch, room: int) -> None:
        """Params beyond those that the service lets a run have go into the run's artifacts."""
        beyond = list(batch.params)[max(0, room) :]
        if beyond:
            sentence = (
                f"The workspace takes {self._limits.params_per_run} params a run; those of run {self._folder.id} beyond that "
                f"are in its artifact {LONG_VALUES}."
            )
            self._aside.merge(LONG_VALUES, {"params": {key: batch.params.pop(key) for key in beyond}}, sentence)

    def _keep_long(self, batch: Batch) -> None:
        names = ", ".join(sorted({key for values in batch.long.values() for key in values})[:5])
        sentence = (
            f"The workspace takes no values as long as those of {names} in run {self._folder.id}: it has their beginning, and "
            f"the run's artifact {LONG_VALUES} the whole."
        )
        self._aside.merge(LONG_VALUES, batch.long, sentence)

    def _real(self, batch: Batch) -> Batch:
        tags = self._identities.replaced(batch.tags)
        return batch if tags is batch.tags else batch.holding(batch.points, batch.params, tags)

    def _body(self, batch: Batch) -> Dict[str, Any]:
        return {
            "run_id": self.run_id,
            "metrics": [self._metric(point) if len(point) > 4 else _plain(point) for point in batch.points],
            "params": [{"key": key, "value": value} for key, value in batch.params.items()],
            "tags": [{"key": key, "value": value} for key, value in self._identities.replaced(batch.tags).items()],
        }

    def _metric(self, point: List[Any]) -> Dict[str, Any]:
        extra: Dict[str, Any] = point[4]
        model_id = extra.get("model_id", "")
        if model_id and self._folder.journal.model(model_id) and not self._identities.is_mapped(model_id):
            # A model that the workspace does not know cannot have metrics there.
            extra = {name: value for name, value in extra.items() if name != "model_id"}
        return {**_plain(point), **self._identities.replaced(extra)}

    # ------------------------------------------------------------------ what stands alone

    def _has_to_wait(self, barrier: Barrier) -> bool:
        made = barrier.record[0] == records.CREATED
        return made and creation.waits_for_parent(self._folder, barrier.record[1], self._identities)

    def _barrier(self, barrier: Barrier, unsure: bool) -> None:
        record = barrier.record
        # Files that it waits for may themselves wait until the log has passed them.
        self._ledger.acknowledge(barrier.before, whole=not unsure)
        if not unsure:
            self._ledger.send(barrier.done)
        try:
            self._one(record, barrier.done, unsure)
        except Refused as refused:
            stuck = stuck_by(refused)
            if stuck:
                raise stuck from refused
            if record[0] == records.CREATED:
                raise Stuck("gone", f"The workspace refused to make the run: {refused}") from refused
            self._run()
            self._aside.refuse(record, refused.message)
        self._ledger.acknowledge(barrier.done, whole=not unsure)

    def _one(self, record: List[Any], done: Cursor, unsure: bool) -> None:
        kind = record[0]
        if kind == records.CREATED:
            creation.create(
                self._folder, record[1], self._behind, self._identities, lambda send: self._insist(send, unsure)
            )
        elif kind == records.UPDATED:
            if record[1].get("status") in _TERMINAL:
                self._wait_for_files(done)
                self._put_aside()
            change = {name: value for name, value in record[1].items() if value is not None}
            self._behind.request("POST", f"{_API}/runs/update", {"run_id": self.run_id, **change})
        elif kind == records.DELETED_TAG:
            self._delete_tag(record[1])
        elif kind == records.MODEL:
            self._models.send(record[1], unsure, lambda: self._wait_for_files(done))
        else:
            requests_kept.send(self._request_place(), record, self._insist, unsure)

    def _delete_tag(self, key: str) -> None:
        try:
            self._behind.request("POST", f"{_API}/runs/delete-tag", {"run_id": self.run_id, "key": key})
        except Refused as refused:
            # It is gone already, by an earlier attempt or by somebody else; unless it is the run that is gone.
            if refused.code != "RESOURCE_DOES_NOT_EXIST":
                raise
            self._run()

    def _request_place(self) -> requests_kept.Place:
        return requests_kept.Place(self._folder, self.run_id, self._behind, self._identities, self._aside)

    # ------------------------------------------------------------------ insisting

    def _run(self) -> Dict[str, Any]:
        return read_run(self._behind, self.run_id) if self._folder.id != GENERAL else {"info": {}}

    def _insist(self, send: Callable[[bool], _Answer], unsure: bool) -> _Answer:
        """Call `send(unsure)` until it returns; `unsure` says whether an earlier attempt may have been applied."""
        doubt = [unsure]

        def attempt(remaining_s: float) -> _Answer:
            if self._stop.is_set():
                raise Stopped
            try:
                return send(doubt[0])
            except Unreachable as failure:
                doubt[0] = doubt[0] or failure.maybe_applied
                # Where nothing was applied, the request itself has been repeated as often as makes sense.
                raise Transient(
                    failure.reason,
                    maybe_applied=failure.maybe_applied,
                    status=failure.status,
                    final=not failure.maybe_applied,
                ) from failure

        try:
            return persist(self._policy, attempt, True, self._stop.wait)
        except Transient as failure:
            raise Unreachable(failure.reason, failure.maybe_applied, failure.status) from failure


def _chunks(reader: segments.Reader, until: Optional[Cursor]) -> Iterator[Chunk]:
    while True:
        columns = reader.read_columns(_READ_BYTES)
        if until is not None:
            # The ends ascend.
            counts = [bisect_right(ends, until.get(number, 0)) for number, ends, _ in columns]
            columns = [(number, ends[:n], texts[:n]) for n, (number, ends, texts) in zip(counts, columns) if n]  # noqa: B905
        if not columns:
            return
        for number, ends, payloads in columns:
            yield number, ends, records.decode(payloads)


def _plain(point: List[Any]) -> Dict[str, Any]:
    return {"key": point[0], "value": float(point[1]), "timestamp": point[3], "step": point[2]}


def _record(batch: Batch) -> List[Any]:
    """The record of the only write in a batch, in a form that every JSON reader takes."""
    for point in batch.points:
        value = point[1] if math.isfinite(point[1]) else str(point[1])
        return [records.METRIC, point[0], value, *point[2:]]
    for key, value in batch.params.items():
        return [records.PARAM, key, batch.long.get("params", {}).get(key, value)]
    return [records.TAG, *next(iter(batch.tags.items()))]
