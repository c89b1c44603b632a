"""Signing in: one chain in a fixed order, one winner with a name, and a sentence for each way that failed."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from amlflow.errors import AmlflowError, NotAllowed, Unavailable, UsageError, nearest
from amlflow.workspaces.azure import ways
from amlflow.workspaces.azure.clouds import Cloud
from amlflow.workspaces.azure.tokens import Token, TokenCache
from amlflow.workspaces.azure.ways import Way

VARIABLE = "AMLFLOW_AUTH"
# Seconds by which this machine's clock may differ before tokens are refused for it.
CLOCK_TOLERANCE_S = 300.0
_MENDS = {
    "AADSTS7000215": "The secret is wrong: correct AZURE_CLIENT_SECRET (its value, not its id).",
    "AADSTS7000222": "The secret has expired: make a new one with `az ad app credential reset`.",
    "AADSTS700016": "Correct AZURE_CLIENT_ID, or the tenant that it is looked for in, AZURE_TENANT_ID.",
    "AADSTS90002": "Correct AZURE_TENANT_ID.",
    "AADSTS70021": "Add a federated credential for this issuer and subject to the application.",
    "AADSTS700213": "Add a federated credential for this issuer and subject to the application.",
    "AADSTS700024": "The assertion is outside its time: check this machine's clock.",
}


class AccessToken(NamedTuple):
    """What Azure's SDKs take as a token; `expires_on` is in epoch seconds."""

    token: str
    expires_on: int


@dataclass(frozen=True, slots=True)
class Attempt:
    """What became of one way: `reason` is why it did not win, `refused` whether it was set up here and turned away."""

    way: Way
    reason: str
    refused: bool


class Credential:
    """Tokens for one cloud. `asked` is the only way to try, or empty for the chain. Safe for many threads; Azure's SDKs take
    it as a credential. Raises `NotAllowed` where no way leads in, `Unavailable` where the authority does not answer."""

    def __init__(
        self,
        cloud: Cloud,
        asked: str = "",
        env: Mapping[str, str] | None = None,
        say: Callable[[str], None] = lambda line: None,
        cache: TokenCache | None = None,
    ) -> None:
        self.cloud = cloud
        self._env = os.environ if env is None else env
        self.asked = checked(asked or self._env.get(VARIABLE, ""))
        self._cache = cache or TokenCache()
        self._say = say
        self._lock = threading.RLock()
        self._held: dict[str, Token] = {}
        self._winner: Way | None = None
        self._maker: Any = None
        self.attempts: list[Attempt] = []
        # Set by whoever talks to a service: how far ahead of the service's clock this machine's is.
        self.clock_ahead_s = 0.0

    @property
    def winner(self) -> str:
        """The way that led in and the identity that it used; empty before the first token."""
        return self._winner.title if self._winner else ""

    def token(self, scope: str = "", fresh: bool = False) -> Token:
        """A token for the scope, ARM's by default. With `fresh`, not one that was held before: for one that was refused."""
        scope = scope or self.cloud.arm_scope
        with self._lock:
            held = self._held.get(scope)
            if held and not fresh and held.expires_s > time.time() + 60:
                return held
            if fresh and self._winner:
                self._cache.drop(self._key(self._winner, scope))
            found = self._again(scope) if self._winner else self._first(scope, fresh)
            self._held[scope] = found
            return found

    def header(self, scope: str = "", fresh: bool = False) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token(scope, fresh).value}"}

    def get_token(self, *scopes: str, **_options: Any) -> AccessToken:
        """The protocol of Azure's SDKs."""
        token = self.token(scopes[0] if scopes else "")
        return AccessToken(token.value, int(token.expires_s))

    def account(self) -> dict[str, str]:
        """Who the token is for, by its own claims: `tenant`, `id` and `name`, empty where it does not say."""
        claims = self.token().claims()
        name = claims.get("upn") or claims.get("unique_name") or claims.get("app_displayname") or claims.get("appid")
        return {
            "tenant": str(claims.get("tid", "")),
            "id": str(claims.get("oid", "")),
            "name": str(name or ""),
        }

    def _first(self, scope: str, fresh: bool) -> Token:
        self.attempts = []
        candidates = [way for way in ways.in_order(self._env, self._say) if self._considered(way)]
        kept = {} if fresh else {way.name: self._cache.get(self._key(way, scope)) for way in candidates}
        for position, way in enumerate(candidates):
            if token := kept.get(way.name):
                self._winner = way
                return token
            if not way.certain and any(kept.get(later.name) for later in candidates[position + 1 :]):
                # An earlier command found that this way leads nowhere; asking again would cost a probe.
                continue
            reason = way.missing()
            if reason and not (way.name == self.asked and way.name == "device"):
                self.attempts.append(Attempt(way, reason, False))
                continue
            found, reason, unavailable = self._try(way, scope)
            if found is not None:
                self._winner = way
                return found
            self.attempts.append(Attempt(way, reason, not unavailable or way.certain))
            if not unavailable:
                # Set up and refused: another identity must not stand in for it unasked.
                break
        raise NotAllowed(*self._failure())

    def _again(self, scope: str) -> Token:
        assert self._winner is not None
        if kept := self._cache.get(self._key(self._winner, scope)):
            return kept
        found, reason, _ = self._try(self._winner, scope)
        if found is None:
            raise NotAllowed(f"Azure gives no token to the {self._winner.title}: {reason}.", self._winner.mend)
        return found

    def _try(self, way: Way, scope: str) -> tuple[Token | None, str, bool]:
        """The token; else the reason, and whether the way is merely not at hand here."""
        from azure.core.exceptions import ClientAuthenticationError, ServiceRequestError, ServiceResponseError
        from azure.identity import CredentialUnavailableError

        with _silenced():
            try:
                if self._maker is None or self._winner is not way:
                    self._maker = way.make(self.cloud)
                given = self._maker.get_token(scope)
            except CredentialUnavailableError as error:
                return None, _sentence(error), True
            except (ServiceRequestError, ServiceResponseError) as error:
                raise Unavailable(
                    f"{self.cloud.authority}, where one signs in, does not answer: {_sentence(error)}.",
                    "Check the network and the proxy (HTTPS_PROXY); REQUESTS_CA_BUNDLE names the authority of a private "
                    "certificate.",
                ) from error
            except ClientAuthenticationError as error:
                return None, _sentence(error), False
            except (ValueError, OSError) as error:
                return None, _sentence(error), False
        token = Token(given.token, float(given.expires_on))
        self._cache.put(self._key(way, scope), token)
        return token, "", False

    def _considered(self, way: Way) -> bool:
        # A code that nobody was asked to enter would only wait: it is for those who ask for it.
        return way.name == self.asked if self.asked else way.name != "device"

    def _key(self, way: Way, scope: str) -> Sequence[str]:
        return (self.cloud.arm, self.cloud.authority, way.name, *way.identity, scope)

    def _failure(self) -> tuple[str, str]:
        refused = [attempt for attempt in self.attempts if attempt.refused]
        sentences = " ".join(f"{_capital(attempt.way.title)}: {attempt.reason}." for attempt in self.attempts)
        if self.asked or refused:
            last = (refused or self.attempts)[-1]
            code = next((code for code in _MENDS if f"{code}:" in last.reason), "")
            mend = _MENDS.get(code, last.way.mend)
        else:
            mend = "Run `az login`, or set AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET."
        return f"Not signed in to {self.cloud.name}. {sentences}", mend


def checked(asked: str) -> str:
    """The way's name, if there is one of that name. Raises `UsageError`."""
    if asked and asked not in ways.NAMES:
        near = nearest(asked, ways.NAMES)
        hint = f" Did you mean {near}?" if near else ""
        raise UsageError(f"There is no way {asked!r} to sign in.{hint}", f"It is one of {', '.join(ways.NAMES)}.")
    return asked


def clock_sentence(ahead_s: float) -> str:
    """What to say of a clock that is off by more than is tolerated; empty for one that is right."""
    if abs(ahead_s) < CLOCK_TOLERANCE_S:
        return ""
    minutes = round(abs(ahead_s) / 60)
    return f"This machine's clock is {minutes} minutes {'ahead of' if ahead_s > 0 else 'behind'} Azure's."


def _sentence(error: BaseException) -> str:
    """The first sentence of an SDK's error, without trace ids and advice."""
    if isinstance(error, AmlflowError):
        return error.message.rstrip(".")
    text = str(getattr(error, "message", "") or error).strip()
    if match := re.search(r"AADSTS\d+:[^\r\n]*", text):
        text = re.split(r"(?<=[^A-Z])\. | Trace ID", match[0])[0]
    elif "CERTIFICATE_VERIFY_FAILED" in text:
        text = "its certificate is not trusted"
    text = text.splitlines()[0] if text else type(error).__name__
    return text[:300].rstrip(". ")


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


@contextlib.contextmanager
def _silenced() -> Iterator[None]:
    """Azure's SDKs log each failure as a warning beside the error that they raise."""
    logger = logging.getLogger("azure")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)
