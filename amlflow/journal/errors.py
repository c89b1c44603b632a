"""The two ways in which a request to what is behind the journal fails."""

from __future__ import annotations


class Refused(Exception):
    """A final refusal by the service: the same request would be refused again.

    `status` is the HTTP status (0 when nothing was sent), `code` MLflow's error code (`RESOURCE_DOES_NOT_EXIST`), or
    one of this package's: `ENDPOINT_NOT_FOUND` (no such route), `NOT_MLFLOW` (a web page or a redirect in place of an
    answer), `INVALID_URL`, `INVALID_CREDENTIALS`. `request_id` is the service's, empty where it gave none.
    """

    def __init__(self, status: int, code: str, message: str, request_id: str = "") -> None:
        super().__init__(status, code, message, request_id)
        self.status, self.code, self.message, self.request_id = status, code, message, request_id

    @property
    def lacks_route(self) -> bool:
        """Whether the service has nothing of what was asked for, such as the logged models of MLflow 3."""
        missing = self.status in (404, 405, 501) and self.code not in ("RESOURCE_DOES_NOT_EXIST", "NOT_FOUND")
        return self.code == "ENDPOINT_NOT_FOUND" or missing

    def __str__(self) -> str:
        named = f"request {self.request_id}" if self.request_id else ""
        facts = ", ".join(fact for fact in (str(self.status or ""), self.code, named) if fact)
        return f"{self.message} ({facts})" if facts else self.message


class Unreachable(Exception):
    """The service did not answer, or answered that it cannot now, after retries.

    `maybe_applied` says that the request may have taken effect all the same: look before sending it again. `status`
    is that of the last answer, 0 without one.
    """

    def __init__(self, reason: str, maybe_applied: bool = False, status: int = 0) -> None:
        super().__init__(reason, maybe_applied, status)
        self.reason, self.maybe_applied, self.status = reason, maybe_applied, status

    def __str__(self) -> str:
        return self.reason
