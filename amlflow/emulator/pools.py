"""The nodes of the computes: clusters grow from nothing when jobs wait, and shrink when nothing runs on them."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

NodeState = Literal["preparing", "idle", "running", "leaving"]


@dataclass(slots=True)
class Node:
    """`since` is when it came into its state, in monotonic seconds; `run_id` is the job that it runs."""

    id: str
    state: NodeState
    since: float
    run_id: str = ""


@dataclass(frozen=True, slots=True)
class PoolSize:
    """How many nodes a pool may have, and how long one idles before it leaves."""

    minimum: int
    maximum: int
    idle_s: float


@dataclass(slots=True)
class _Pool:
    limits: PoolSize
    nodes: list[Node] = field(default_factory=list)
    waiting: dict[str, int] = field(default_factory=dict)


class Pools:
    """Pools by compute id. `pace_s` is how long a node prepares, and leaves. Safe from every thread."""

    def __init__(self, pace_s: float) -> None:
        self._pace_s = pace_s
        self._lock = threading.Lock()
        self._pools: dict[str, _Pool] = {}

    def define(self, compute: str, limits: PoolSize) -> None:
        with self._lock:
            pool = self._pools.setdefault(compute.lower(), _Pool(limits))
            pool.limits = limits
            self._settle(pool)

    def forget(self, compute: str) -> None:
        with self._lock:
            self._pools.pop(compute.lower(), None)

    def nodes(self, compute: str) -> list[Node]:
        """The nodes as they are now."""
        with self._lock:
            pool = self._pools.get(compute.lower())
            if pool is None:
                return []
            self._settle(pool)
            return [Node(node.id, node.state, node.since, node.run_id) for node in pool.nodes]

    def take(self, compute: str, run_id: str, count: int) -> list[str]:
        """The ids of `count` nodes for the run, which are its own from now on; empty while there are not as many free. The run
        counts as waiting, so that the cluster grows, until it has got them or `release` is called."""
        with self._lock:
            pool = self._pools.get(compute.lower())
            if pool is None:
                return []
            pool.waiting[run_id] = count
            self._settle(pool)
            # Who came first is served first: a later, smaller run must not starve a larger one.
            if next(iter(pool.waiting)) != run_id:
                return []
            idle = [node for node in pool.nodes if node.state == "idle"]
            if len(idle) < count:
                return []
            del pool.waiting[run_id]
            for node in idle[:count]:
                node.state, node.since, node.run_id = "running", time.monotonic(), run_id
            return [node.id for node in idle[:count]]

    def release(self, compute: str, run_id: str) -> None:
        """The run has ended or waits no longer."""
        with self._lock:
            pool = self._pools.get(compute.lower())
            if pool is None:
                return
            pool.waiting.pop(run_id, None)
            for node in pool.nodes:
                if node.run_id == run_id:
                    node.state, node.since, node.run_id = "idle", time.monotonic(), ""
            self._settle(pool)

    def waiting(self) -> Mapping[str, int]:
        with self._lock:
            return {compute: len(pool.waiting) for compute, pool in self._pools.items()}

    def target(self, compute: str) -> int:
        """How many nodes the pool is on its way to."""
        with self._lock:
            pool = self._pools.get(compute.lower())
            return _wanted(pool) if pool else 0

    def _settle(self, pool: _Pool) -> None:
        now = time.monotonic()
        for node in list(pool.nodes):
            if node.state == "preparing" and now - node.since >= self._pace_s:
                node.state, node.since = "idle", now
            elif node.state == "leaving" and now - node.since >= self._pace_s:
                pool.nodes.remove(node)
        wanted = _wanted(pool)
        staying = [node for node in pool.nodes if node.state != "leaving"]
        for _ in range(wanted - len(staying)):
            pool.nodes.append(Node(f"tvmps_{uuid.uuid4().hex}_d", "preparing", now))
        for node in staying:
            if len(staying) <= wanted:
                break
            if node.state == "idle" and now - node.since >= pool.limits.idle_s:
                node.state, node.since = "leaving", now
                staying = [item for item in staying if item is not node]


def _wanted(pool: _Pool) -> int:
    busy = sum(node.state == "running" for node in pool.nodes)
    demand = busy + sum(pool.waiting.values())
    return max(pool.limits.minimum, min(pool.limits.maximum, demand))
