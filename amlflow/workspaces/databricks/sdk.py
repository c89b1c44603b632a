"""The databricks-sdk of one workspace, its errors as those of amlflow."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

from amlflow.errors import AmlflowError, NotAllowed, NotFound, Unavailable
from amlflow.journal.answers import transient
from amlflow.journal.retry import RetryPolicy, Transient, persist
from amlflow.workspaces.databricks.access import MEND, Access, said

if TYPE_CHECKING:
    from databricks.sdk import WorkspaceClient

_Answer = TypeVar("_Answer")
# Databricks asks for ten minutes of attempts where it answers with a status of 500 and above.
_PATIENT = RetryPolicy(most=1000, base_s=2.0, cap_s=30.0, deadline_s=600.0)
# The SDK waits as long as the service says, and gives up when that was longer than the few seconds it has.
_THROTTLED = RetryPolicy(most=3, base_s=0.5, cap_s=2.0, deadline_s=60.0)


class Sdk:
    def __init__(self, access: Access) -> None:
        self._access = access

    @cached_property
    def client(self) -> WorkspaceClient:
        return self._access.client()

    def ask(self, request: Callable[[], _Answer], *, patient: bool = False) -> _Answer:
        """What the SDK answers to a request that may be sent twice; asked again where the service had too much to do. Who is
        `patient` has minutes, for a service that is away too."""

        def attempt(_remaining_s: float) -> _Answer:
            try:
                return request()
            except passing() as error:
                if patient or isinstance(error, throttled()) or isinstance(error.__cause__, throttled()):
                    raise Transient(str(error)) from error
                raise

        try:
            return persist(_PATIENT if patient else _THROTTLED, attempt)
        except Transient as failure:
            error = failure.__cause__ or failure
            raise error from error.__cause__

    @contextlib.contextmanager
    def explained(self, what: str, *, missing: bool = False) -> Iterator[None]:
        """Raises the SDK's errors as those of amlflow. `missing` where an id that Databricks does not know, which it calls a
        wrong parameter, is what was asked about."""
        from databricks.sdk import errors
        from databricks.sdk.errors.base import DatabricksError

        host = self._access.host
        try:
            yield
        except errors.Unauthenticated as error:
            raise NotAllowed(f"Databricks at {host} does not know who asks: {said(error)}.", MEND) from error
        except errors.PermissionDenied as error:
            raise NotAllowed(
                f"Databricks at {host} does not let this account at {what}: {said(error)}.",
                "Ask for the right, or sign in as somebody else: DATABRICKS_TOKEN, or `-w databricks://PROFILE`.",
            ) from error
        except errors.NotFound as error:
            raise NotFound(f"Databricks at {host} does not find {what}: {said(error)}.") from error
        except passing() as error:
            raise Unavailable(f"Databricks at {host} {_away(error)}.") from error
        except DatabricksError as error:
            if missing and "does not exist" in str(error).lower():
                raise NotFound(f"Databricks at {host} does not find {what}: {said(error)}.") from error
            raise AmlflowError(f"Databricks refuses what was asked of {what}: {said(error)}.") from error


def passing() -> tuple[type[BaseException], ...]:
    """What another attempt may get past."""
    import requests
    from databricks.sdk import errors

    return (
        errors.TemporarilyUnavailable,
        errors.InternalError,
        errors.TooManyRequests,
        errors.DeadlineExceeded,
        TimeoutError,
        requests.RequestException,
    )


def throttled() -> tuple[type[BaseException], ...]:
    from databricks.sdk import errors

    return errors.TooManyRequests, errors.TemporarilyUnavailable


def _away(error: BaseException) -> str:
    """Why there was no answer; of an error that stands for several attempts, why there was none to the last."""
    import requests

    cause = error.__cause__ if isinstance(error, TimeoutError) and error.__cause__ is not None else error
    if isinstance(cause, requests.RequestException):
        return transient(cause).reason
    return f"does not answer now: {said(cause)}"
