"""The steps of a deploy to Azure Container Instances: image, what pulls it, group, first answer. What fails is taken back.

Each step looks at what is there before it does anything, so a deploy that was cut goes on when it is run once more.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from amlflow.errors import AmlflowError, NotAllowed, NotFound, UsageError
from amlflow.targets import image
from amlflow.targets.aci_group import APP, HTTPS, HTTPS_IMAGE, OPEN, Collector, Pull, beside, revived
from amlflow.targets.aci_situation import Azure, Situation, crashed, uses_identity
from amlflow.workspaces.azure.containers import ContainerGroup
from amlflow.workspaces.azure.identities import ACR_PULL, BLOB_WRITER, Identity

_EFFECTIVE_S = 300.0
_EFFECTIVE_POLL_S = 3.0
_POLL_S = 1.0
_SAID_S = 15.0
# A container that has ended so often does not come up.
_CRASHES = 2
# A private group cannot be asked from here: it runs when it has run so long.
_STEADY_S = 20.0
_TAIL_LINES = 12

Say = Callable[[str], None]


class Rollout:
    def __init__(self, azure: Azure, now: Situation, say: Say) -> None:
        self._azure, self._now, self._say = azure, now, say
        self._wanted = now.wanted
        self._containers = azure.containers
        self._made = now.identity

    def carry_out(self, example: bytes | None) -> None:
        """Raises `AmlflowError` when it fails: a first deploy then leaves nothing but the image, a later one what ran before."""
        wait = self._wanted.options.wait
        keys = self._azure.keys(self._wanted.name)
        if self._now.same and not self._locked_out(keys):
            self._say(f"The group has {self._wanted.model} already.")
            self._collector()
            if wait:
                self._guarded(lambda: self._answer(keys[0] if keys else "", example), keys, made=False)
            return
        if not self._now.built:
            self._say(f"Building {self._wanted.image}…")
            image.build_in(self._now.image, self._azure.registry, self._say)
        self._guarded(lambda: self._bring_up(keys, example, wait), keys)

    def _locked_out(self, keys: Sequence[str]) -> bool:
        """Whether this machine has no key of the group: it gets one from here then."""
        if self._wanted.container.insecure:
            return False
        group = self._now.group
        if keys and not (group and group.fqdn and self._containers.ask(f"https://{group.fqdn}/", keys[0])[0] == 401):
            return False
        self._say("The key of the group is not on this machine: it gets another…")
        return True

    def _bring_up(self, keys: Sequence[str], example: bytes | None, wait: bool) -> None:
        name, key = self._wanted.name, ""
        if not self._wanted.container.insecure:
            key = keys[0] if keys else secrets.token_urlsafe(32)
            # Before the group has it: a key that only a killed process knew would be lost.
            self._azure.keep_keys(name, [key])
        pull, collector = self._pull(), self._collector()
        if self._now.replaced:
            self._say("Deleting the group, because Azure changes no size, place or name of one…")
            self._containers.delete(name)
        before = self._now.group
        host = (before.fqdn if before and not self._now.replaced else "") or self._wanted.host
        finish = self._put(lambda: self._containers.begin(name, self._wanted.body(key, pull, host, collector)), pull)
        if not wait:
            self._say("The group is begun. The same command again goes on with it.")
            return
        self._finish(finish)
        made = self._containers.get(name).fqdn
        if self._wanted.label and made and made != host:
            self._say(f"Azure calls it {made}: putting it again, with that name for its certificate…")
            self._finish(self._containers.begin(name, self._wanted.body(key, pull, made, collector)))
        self._answer(key, example)
        if collector is None and self._now.may_write and self._now.storage is not None:
            self._azure.identities.withdraw(BLOB_WRITER, beside(name), self._now.storage.id)

    def _collector(self) -> Collector | None:
        """What the group collects by, with the role that it needs; None where it collects nothing."""
        storage, name = self._now.storage, beside(self._wanted.name)
        if self._wanted.options.collect is None or storage is None:
            return None
        identity = self._identity()
        if not self._now.may_write:
            self._say(f"Letting the identity {name} write what is collected…")
            self._azure.identities.grant(BLOB_WRITER, name, identity, storage.id)
        return Collector(storage, identity.id, identity.client)

    def _identity(self) -> Identity:
        if self._made is None:
            name = beside(self._wanted.name)
            self._say(f"Making the identity {name}…")
            tags = {"amlflow.workspace": self._wanted.workspace}
            self._made = self._azure.identities.create(name, self._wanted.location, tags)
        return self._made

    def _pull(self) -> Pull:
        """By an identity with the role AcrPull, or where the account may not assign roles, by a token of the registry."""
        registry, name = self._azure.registry.get(), beside(self._wanted.name)
        if self._now.group is not None and not uses_identity(self._now.group.record):
            return token_pull(self._azure, self._wanted.name, image.repository(self._now.image.model))
        identities = self._azure.identities
        try:
            identity = self._identity()
            if not self._now.may_pull:
                identities.grant(ACR_PULL, name, identity, registry.id)
        except NotAllowed:
            self._say(
                "This account may not assign roles: the group pulls its image by a token of the registry instead."
            )
            if self._made is not None and self._wanted.options.collect is None:
                identities.delete(name)
            try:
                return token_pull(self._azure, self._wanted.name, image.repository(self._now.image.model))
            except NotAllowed as error:
                mend = (
                    "Ask for the role «Contributor» on the registry, or «User Access Administrator» to assign AcrPull."
                )
                raise NotAllowed(error.message, mend) from error
        return Pull(registry.server, identity.id)

    def _put(self, begin: Callable[[], Callable[[Say], None]], pull: Pull) -> Callable[[Say], None]:
        deadline = time.monotonic() + _EFFECTIVE_S
        said = False
        self._say(f"Making the container group {self._wanted.name}; Azure takes a minute or two for it…")
        while True:
            try:
                return begin()
            except AmlflowError as error:
                # A role counts minutes after it was assigned; a deploy that was cut may have left the group in the making.
                late = "InaccessibleImage" in error.message and pull.identity and self._wanted.image in error.message
                busy = "ContainerGroupTransitioning" in error.message
                if not (late or busy) or time.monotonic() > deadline:
                    raise self._explained(error) from error
                if not said:
                    why = "The identity may not pull yet" if late else "Azure is still at work on the group"
                    self._say(f"{why}; trying again…")
                    said = True
                time.sleep(_EFFECTIVE_POLL_S)

    def _finish(self, finish: Callable[[Say], None]) -> None:
        try:
            finish(lambda state: self._say(f"Container group: {state}"))
        except AmlflowError as error:
            raise self._explained(error) from error

    def _explained(self, error: AmlflowError) -> AmlflowError:
        text = error.message.lower()
        if "dns name label" in text and "not available" in text:
            return UsageError(
                f"The DNS label {self._wanted.label!r} is taken in {self._wanted.location!r}. {error.message}",
                "Choose another with --dns-label.",
            )
        if "registryerrorresponse" in text or ("inaccessibleimage" in text and self._wanted.image.lower() not in text):
            own = self._wanted.container.https_image or HTTPS_IMAGE
            return AmlflowError(
                error.message,
                f"Docker Hub bounds how much one may pull. Copy {own} into your own registry (`az acr import`), and name "
                "the copy with --https-image.",
            )
        return error

    def _answer(self, key: str, example: bytes | None) -> None:
        """Wait for the first answer, and ask the model its example."""
        group = self._wait(key)
        if not group.fqdn:
            self._say(f"It runs, with the private address {group.ip}, which cannot be asked from here.")
            return
        if example is None:
            self._say("The model has no input example to ask it with.")
            return
        started = time.monotonic()
        status, content = self._containers.score(f"https://{group.fqdn}/invocations", key, example, "application/json")
        if status != 200:
            said = " ".join(content.decode("utf-8", "replace").split())[:500]
            raise AmlflowError(f"The model does not answer its own input example ({status}): {said}", self._tail(APP))
        self._say(f"It answers the input example in {(time.monotonic() - started) * 1000:.0f} ms.")

    def _wait(self, key: str) -> ContainerGroup:
        name, patience = self._wanted.name, self._wanted.options.timeout_s
        deadline, steady, said, quiet = time.monotonic() + patience, 0.0, "", 0.0
        while True:
            try:
                group = self._containers.get(name)
            except NotFound as error:
                raise NotFound(f"The container group {name!r} was deleted meanwhile.", "Deploy it again.") from error
            app = group.container(APP)
            if group.state.lower() == "failed" or (app.restarts >= _CRASHES and crashed(app)):
                code = "" if app.exit_code is None else f", with exit code {app.exit_code}"
                raise AmlflowError(
                    f"The container with {self._wanted.model} ends when it starts{code}.", self._tail(APP)
                )
            running = app.state.lower() == "running"
            status, why = 0, f"the container is {app.state.lower() or 'not there'}"
            if running and group.fqdn:
                status, why = self._containers.ask(f"https://{group.fqdn}/", key)
            steady = (steady or time.monotonic()) if running else 0.0
            if status == 200 or (steady and not group.fqdn and time.monotonic() - steady > _STEADY_S):
                return group
            if time.monotonic() > deadline:
                events = [event for item in (app, group.container(HTTPS)) for event in item.events[-3:]]
                raise AmlflowError(
                    f"{self._wanted.model} did not answer within {patience:.0f} s: {why}."
                    + (f" Azure notes: {'; '.join(events)}." if events else ""),
                    f"Give it longer with --timeout. {self._tail(APP if not running else HTTPS)}",
                )
            if why != said or time.monotonic() - quiet > _SAID_S:
                said, quiet = why, time.monotonic()
                self._say(f"Waiting for the first answer: {why}…")
            time.sleep(_POLL_S)

    def _tail(self, container: str) -> str:
        try:
            lines = self._containers.logs(self._wanted.name, container, _TAIL_LINES)
        except AmlflowError:
            return ""
        return "The end of its log:\n" + ("\n".join(lines[-_TAIL_LINES:]) or "(nothing)")

    def _guarded(self, act: Callable[[], None], keys: Sequence[str], made: bool = True) -> None:
        """Do it; its failure is taken back, unless nothing was `made` here and the group is not in the making either. An
        interruption leaves all as it is, for the next time."""
        try:
            act()
        except AmlflowError as error:
            gone = isinstance(error, NotFound) and "deleted meanwhile" in error.message
            group = self._now.group
            try:
                if not (made or gone) and group is not None and group.state.lower() == "succeeded":
                    left = f"The group is left as it is: `amlflow endpoint delete {self._wanted.name}` removes it."
                elif self._now.live is None or gone:
                    self._azure.remove(self._wanted.name)
                    left = "What was made for it is deleted again; its image stays in the registry."
                else:
                    self._put_back(self._now.live, keys)
                    left = "What ran before is put back."
            except AmlflowError as second:
                left = f"Taking it back failed as well: {second.message} The same command again goes on from there."
            error.message = f"{error.message} {left}"
            raise

    def _put_back(self, before: ContainerGroup, keys: Sequence[str]) -> None:
        self._say("Putting back what ran before…")
        key = keys[0] if keys else next(iter(self._azure.keys(before.name)), "")
        if before.tags.get(OPEN) != "yes":
            self._azure.keep_keys(before.name, [key])
        put_again(self._azure, before.record, key, self._now.replaced)


def put_again(azure: Azure, record: Mapping[str, Any], key: str, replaced: bool = False) -> None:
    """Put the group as its record says, with that key; `replaced` where another one may have its name now."""
    name = str(record["name"])
    if uses_identity(record):
        server = str(record["properties"]["imageRegistryCredentials"][0]["server"])
        pull = Pull(server, str(record["properties"]["imageRegistryCredentials"][0]["identity"]))
    else:
        app = next(item for item in record["properties"]["containers"] if item["name"] == APP)
        pull = token_pull(azure, name, app["properties"]["image"].partition("/")[2].rpartition(":")[0])
    if replaced:
        azure.containers.delete(name)
    azure.containers.begin(name, revived(record, key, pull))(lambda state: None)


def token_pull(azure: Azure, name: str, repository: str) -> Pull:
    token = azure.registry.make_token(beside(name), repository)
    return Pull(azure.registry.get().server, username=token.username, password=token.password)
