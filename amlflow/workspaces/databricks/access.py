"""Which Databricks workspace is meant and how to sign in to it, by the databricks-sdk that MLflow itself signs in with: the
variables DATABRICKS_*, or a profile of ~/.databrickscfg."""

from __future__ import annotations

import configparser
import logging
import os
import re
import sys
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from amlflow.errors import NotAllowed, NotFound, UsageError
from amlflow.workspaces.resolve import without_login

if TYPE_CHECKING:
    from databricks.sdk import WorkspaceClient

# The SDK asks a host what it is before the first request, and waits five minutes for one that is away.
_RETRY_S, _ANSWER_S = 4, 30
_BEFORE_PROFILE = ("host", "token", "client_id", "client_secret", "username", "password")
_HOST = re.compile(r"[A-Za-z0-9._-]+(?::\d+)?|\[[0-9A-Fa-f:]+\](?::\d+)?")
MEND = "Set DATABRICKS_HOST and DATABRICKS_TOKEN, or name a profile of ~/.databrickscfg: `-w databricks://PROFILE`."


class Access:
    """`profile` is empty for the variables, else for the profile DEFAULT. Nothing is read before it is needed."""

    def __init__(self, profile: str = "") -> None:
        self.profile = profile or os.environ.get("DATABRICKS_CONFIG_PROFILE", "")

    @cached_property
    def host(self) -> str:
        """`https://HOST`, without asking anybody. Raises `NotFound` for no such profile, `NotAllowed` for none named,
        `UsageError` for what is no host, and for variables that contradict the profile."""
        given = "" if self.profile else os.environ.get("DATABRICKS_HOST", "")
        section = {} if given else self._of_profile()
        if self.profile:
            _check_variables(self.profile, section)
        found = (given or section.get("host", "")).strip().rstrip("/")
        if not found:
            what = f"The profile {self.profile!r} names no host" if self.profile else "No Databricks host is named"
            raise NotAllowed(f"{what}.", MEND)
        address = found if "://" in found else f"https://{found}"
        parts = urlsplit(address)
        if parts.scheme not in ("http", "https") or not _HOST.fullmatch(parts.netloc):
            raise UsageError(
                f"{without_login(address)!r} is not the address of a Databricks workspace.",
                "It is like https://adb-1234.5.azuredatabricks.net.",
            )
        # What a browser has after it, such as ?o=1234, is no part of the workspace's name.
        return f"{parts.scheme}://{parts.netloc}"

    def headers(self) -> Mapping[str, str]:
        """What a request says of who asks; a token that has run out is replaced."""
        if self._token:
            # As the SDK would, whose import takes longer than most commands.
            return {"Authorization": f"Bearer {self._token}"}
        try:
            return dict(self._config.authenticate())
        except ValueError as error:
            raise NotAllowed(f"Databricks at {self.host} gives no token: {said(error)}.", MEND) from error

    def client(self) -> WorkspaceClient:
        """The SDK's client, for what is not MLflow's."""
        from databricks.sdk import WorkspaceClient

        return WorkspaceClient(config=self._config)

    @cached_property
    def _config(self) -> Any:
        from databricks.sdk.core import Config

        quiet()
        by_variables = not self.profile and os.environ.get("DATABRICKS_HOST")
        chosen: dict[str, Any] = {"host": self.host} if by_variables else {"profile": self.profile or "DEFAULT"}
        try:
            return Config(**chosen, retry_timeout_seconds=_RETRY_S, http_timeout_seconds=_ANSWER_S, product="amlflow")
        except ValueError as error:
            raise NotAllowed(
                f"There is no way to sign in to Databricks at {self.host}: {said(error)}.", MEND
            ) from error

    @cached_property
    def _token(self) -> str:
        """A personal access token, where that is the way to sign in; empty for any other way."""
        names_host = not self.profile and os.environ.get("DATABRICKS_HOST")
        kept = {} if names_host else self._of_profile()

        def said(name: str) -> str:
            return os.environ.get(f"DATABRICKS_{name.upper()}", "") or kept.get(name, "")

        others = any(said(name) for name in ("client_id", "username"))
        return "" if others or said("auth_type") not in ("", "pat") else said("token")

    def _of_profile(self) -> Mapping[str, str]:
        file = Path(os.environ.get("DATABRICKS_CONFIG_FILE") or "~/.databrickscfg").expanduser()
        parser = configparser.ConfigParser(interpolation=None, default_section="")
        try:
            parser.read(file, encoding="utf-8")
        except (configparser.Error, UnicodeError) as error:
            raise NotAllowed(
                f"{file} cannot be read: {said(error)}.", "Write it as `databricks configure` does."
            ) from error
        name = self.profile or "DEFAULT"
        if name in parser:
            return dict(parser[name])
        if self.profile:
            raise NotFound(
                f"{file} has no profile {self.profile!r}.",
                "`databricks configure --profile NAME` makes one.",
                name=self.profile,
                known=parser.sections(),
            )
        return {}


def quiet() -> None:
    """The SDK warns at each client that is made of a host that does not say what it is; MLflow draws its bars into any file."""
    logging.getLogger("databricks.sdk").setLevel(logging.ERROR)
    if not sys.stderr.isatty():
        os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")


def _check_variables(profile: str, section: Mapping[str, str]) -> None:
    """The SDK, and MLflow with it, lets a variable stand before the profile: a token would go to a host that it is not for."""
    for name in _BEFORE_PROFILE:
        value = os.environ.get(f"DATABRICKS_{name.upper()}", "")
        if value and value.rstrip("/") != section.get(name, "").rstrip("/"):
            raise UsageError(
                f"The variable DATABRICKS_{name.upper()} is set, and the profile {profile!r} says something else of it; the "
                "databricks-sdk would take the variable.",
                f"`unset DATABRICKS_{name.upper()}`, or use `-w databricks`.",
            )


def said(error: BaseException) -> str:
    """What the SDK says, without all that it was configured with, which follows."""
    line = " ".join(str(error).split())
    return line.split(". Config:")[0].rstrip(".")[:500] or type(error).__name__
