"""Requests in MLflow's REST API for a workspace: pages, threads, and refusals as errors of amlflow."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from amlflow.errors import AmlflowError, NotAllowed, NotFound, NotSupported, Unavailable, UsageError
from amlflow.journal.errors import Refused, Unreachable
from amlflow.journal.rest import Behind
from amlflow.journal.retry import RetryPolicy, Transient, persist

API = "/api/2.0/mlflow"
NOT_THERE = "RESOURCE_DOES_NOT_EXIST"
NO_ROUTE = "ENDPOINT_NOT_FOUND"
TAKEN = "RESOURCE_ALREADY_EXISTS"
_THREADS = 8
_INSISTING = RetryPolicy(most=8, base_s=0.3, cap_s=5.0, deadline_s=60.0)
_USAGE = ("INVALID_PARAMETER_VALUE", "BAD_REQUEST", "INVALID_STATE", "UserError", "ValidationError")

_Item = TypeVar("_Item")
_Found = TypeVar("_Found")


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """What a service takes in one request, and what it can do.

    `history_page` is the number of points asked for at once; `bulk_history` whether the points of many runs come in one
    answer; `order_by_data` whether runs can be sorted by metrics, params and tags there, or only by attributes;
    `batch_repeatable` whether a batch that is sent twice leaves each point once.
    """

    metrics: int = 1000
    params: int = 100
    tags: int = 100
    batch: int = 1000
    runs_page: int = 1000
    experiments_page: int = 1000
    models_page: int = 1000
    versions_page: int = 10_000
    history_page: int = 25_000
    bulk_history: bool = True
    order_by_data: bool = True
    batch_repeatable: bool = True


class Client:
    """One service: `shown` is its name in a sentence."""

    def __init__(self, behind: Behind, shown: str, limits: ServerLimits | None = None) -> None:
        self.behind, self.shown, self.limits = behind, shown, limits or ServerLimits()

    def ask(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, *, retry: bool = True
    ) -> dict[str, Any]:
        """The answer. Raises `Refused` for a caller that knows what a refusal means, and `Unavailable`."""
        try:
            return self.behind.request(method, path if path.startswith("/") else f"{API}/{path}", body, retry=retry)
        except Unreachable as error:
            raise unavailable(error) from error

    def call(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, *, retry: bool = True
    ) -> dict[str, Any]:
        """The answer, with every refusal as an `AmlflowError`."""
        try:
            return self.ask(method, path, body, retry=retry)
        except Refused as error:
            raise self.refused(error) from error

    def once(self, attempt: Callable[[], _Found], made: Callable[[], _Found | None]) -> _Found:
        """What the attempt returns, which must not be carried out twice: where it broke off and may have been carried out,
        `made` looks for what it left before it is repeated. Raises what the first attempt raised, when none succeeds."""
        first: Unavailable | None = None

        def one(_remaining_s: float) -> _Found:
            nonlocal first
            try:
                found = made() if first else None
                return attempt() if found is None else found
            except Unavailable as error:
                cause = error.__cause__
                unsure = isinstance(cause, Unreachable) and cause.maybe_applied
                if not unsure and first is None:
                    raise
                first = first or error
                raise Transient(error.message, final=not unsure) from error

        try:
            return persist(_INSISTING, one)
        except Transient:
            assert first is not None
            raise first from first.__cause__

    def pages(
        self, method: str, path: str, body: Mapping[str, Any], key: str, page: int, limit: int | None = None
    ) -> list[dict[str, Any]]:
        """Everything that a search finds, at most `limit`. Raises `Refused`."""
        found: list[dict[str, Any]] = []
        token = ""
        while limit is None or len(found) < limit:
            most = page if limit is None else min(page, limit - len(found))
            answer = self.ask(method, path, {**body, "max_results": most, **({"page_token": token} if token else {})})
            found += answer.get(key) or []
            following = str(answer.get("next_page_token") or "")
            if not following or following == token:
                break
            token = following
        return found

    def each(self, work: Callable[[_Item], _Found], items: Iterable[_Item]) -> list[_Found]:
        """The work on every item, some at a time, in the order of the items."""
        known = list(items)
        if len(known) < 2:
            return [work(item) for item in known]
        with ThreadPoolExecutor(min(_THREADS, len(known))) as pool:
            futures = [pool.submit(work, item) for item in known]
            try:
                return [future.result() for future in futures]
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise

    def refused(self, error: Refused) -> AmlflowError:
        """A refusal that no caller knew better, in one paragraph."""
        said = sentence(str(error) if error.request_id else error.message)
        if error.status == 401:
            return NotAllowed(
                f"{self.shown} does not know who you are: {said}",
                "Set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN, to what it knows.",
            )
        if error.status == 403:
            return NotAllowed(
                f"{self.shown} does not let you do this: {said}",
                "Ask its owner for the right, or set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or "
                "MLFLOW_TRACKING_TOKEN, to another account.",
            )
        if error.code == "INVALID_CREDENTIALS":
            return NotAllowed(f"{self.shown} cannot be asked: {said}", "Look at the MLFLOW_TRACKING_* variables.")
        if error.code in ("NOT_MLFLOW", "INVALID_URL"):
            return UsageError(said, "Give a tracking server's address: `-w http://HOST:PORT`.")
        if error.lacks_route:
            return NotSupported(
                f"{self.shown} does not know this request of MLflow's API: {said}",
                "Check that this is a tracking server's address; if it is, its MLflow is too old for this.",
            )
        if error.code == NOT_THERE:
            return NotFound(said)
        if error.code in _USAGE:
            return UsageError(said)
        return AmlflowError(f"{self.shown} refused: {sentence(str(error))}")


def unavailable(error: Unreachable) -> Unavailable:
    again = " It may have done what was asked all the same: look before you repeat it." if error.maybe_applied else ""
    return Unavailable(
        f"{sentence(error.reason)}{again}", "`amlflow workspace show` says whether it answers, and where -w comes from."
    )


def quoted(text: str) -> str:
    """A text as a value in MLflow's filter language, which has no escapes. Raises `UsageError` for one with both
    quotes."""
    for quote in "'\"":
        if quote not in text:
            return f"{quote}{text}{quote}"
    raise UsageError(f"{text!r} holds both kinds of quotes, which a search on a server cannot express.")


def pairs(items: Sequence[Mapping[str, Any]] | None) -> dict[str, str]:
    """`[{"key": …, "value": …}]` as a mapping."""
    return {str(item["key"]): str(item.get("value", "")) for item in items or []}


def named(items: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"key": key, "value": str(value)} for key, value in items.items()]


def sentence(text: str) -> str:
    """One line that ends as a sentence does."""
    line = " ".join(text.split())
    return line if line.endswith((".", "!", "?", "…")) else f"{line}."
