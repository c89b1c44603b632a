"""A new deployment beside the one that answers: brought up at 0 %, asked, compared, and given the traffic step by step. What
fails on the way is taken back."""

from __future__ import annotations

import contextlib
import json
import re
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from amlflow.errors import AmlflowError, NotAllowed, NotFound, UsageError
from amlflow.targets import answers, following, payloads
from amlflow.targets.base import newer
from amlflow.workspaces.azure.endpoints import UNFINISHED, AzureEndpoints, OnlineEndpoint, Scored, gone, named
from amlflow.workspaces.azure.online_deployments import OnlineDeployment

# The tag of an endpoint with the deployment that had its traffic before.
PREVIOUS = "amlflow.previous"
_TAIL_LINES = 12
_SEARCHED_LINES = 300
# The last line of a traceback.
_RAISED = re.compile(r"[A-Za-z_][\w.]*(?:Error|Exception)(?::|$)")
_HEARTBEAT_S = 10.0
_PROBES = 3
_PROBE_PAUSE_S = 1.0
_SETTLE_S = 3600.0
_FIRST_POLL_S = 1.0
_LONGEST_POLL_S = 15.0
_ASKED_AGAIN = (401, 429, 503)


class Rollout:
    """`live` is the deployment that answers now, empty for none; `new` says that the endpoint was made for this, by this deploy
    or by one before that was cut."""

    def __init__(
        self,
        azure: AzureEndpoints,
        endpoint: OnlineEndpoint,
        wanted: OnlineDeployment,
        live: str,
        new: bool,
        say: Callable[[str], None],
    ) -> None:
        self._azure, self._endpoint, self._wanted, self._live, self._say = azure, endpoint, wanted, live, say
        self._new, self._secret = new, ""
        self._made = False
        # A deploy before this one may have been cut on the way.
        self._moved = 0 < endpoint.traffic.get(wanted.name, 0) < 100
        self._mirrored = bool(((endpoint.record.get("properties") or {}).get("mirrorTraffic") or {}).get(wanted.name))

    def bring_up(self, deployments: Sequence[OnlineDeployment], wait: bool) -> bool:
        """Have the deployment, at no traffic. False where it is only begun. Raises `AmlflowError` with the end of its log when it
        fails; it is deleted then."""
        name, before = self._wanted.name, named(deployments, self._wanted.name)
        state = before.state.lower() if before and before.model == self._wanted.model else ""
        if state == "succeeded" and self._wanted.state:
            self._say(f"{name} has {self._wanted.model} already.")
            self._made = self._left_over()
            self._azure.scale(self._endpoint.name, self._wanted)
            return True
        self._made = True
        with self._taking_back():
            if self._wanted.state and state in ("creating", "updating"):
                self._say(f"{name} is being made; waiting for it…")
                if wait:
                    self._settle()
                    self._azure.scale(self._endpoint.name, self._wanted)
                return wait
            if before is not None and self._in_the_way(before):
                self._say(f"Deleting {name}, which is {before.state.lower()} with {before.model}…")
                if self._mirrored:
                    self._mirror_to({})
                gone(lambda: self._azure.delete_deployment(self._endpoint.name, before))
            self._say(f"Making {name} with {self._wanted.model}; Azure takes minutes for it…")
            finish = self._azure.begin_deployment(self._endpoint.name, self._wanted)
            if not wait:
                return False
            with self._heartbeat():
                finish(lambda state: self._say(f"{name}: {state}"))
            self._azure.scale(self._endpoint.name, self._wanted)
        return True

    def mirror(self, share: int, watch_s: float) -> None:
        """Send the new deployment a share in percent of the requests beside the live one for a while, and compare what the logs
        of both say of them. Raises `AmlflowError` where it fails more of them."""
        name, live = self._wanted.name, self._live
        if not live or live == name or self._endpoint.traffic.get(name, 0):
            self._say(f"Nothing is mirrored to {name}: no other deployment has all the traffic.")
            return
        with self._taking_back():
            before = {one: self._log(one) for one in (name, live)}
            self._say(f"Mirroring {share} % of the requests of {live} to {name} for {watch_s:g} s…")
            self._mirror_to({name: share})
            time.sleep(watch_s)
            asked = {one: following.requests_in(newer(before[one], self._log(one))) for one in (name, live)}
            self._mirror_to({})
            new, old = asked[name], asked[live]
            if not new.count:
                self._say("No request came to be mirrored.")
                return
            told = (
                f"{name} failed {new.failed} of {new.count} mirrored requests, {live} {old.failed} of its {old.count}"
            )
            if new.failing > old.failing:
                raise AmlflowError(f"{told}.")
            times = " and ".join(f"{of.median_ms:.0f} ms" for of in (new, old) if of.median_ms is not None)
            self._say(f"{told}{f'; half of them took less than {times}' if times else ''}.")

    def check(self, example: bytes | None, golden: Path | None) -> None:
        """Ask the new deployment, past the traffic. Raises `AmlflowError` where it does not answer as it should."""
        if self._endpoint.traffic.get(self._wanted.name, 0) == 100:
            return
        with self._taking_back():
            if example is None:
                self._say("The model has no input example to ask it with.")
            else:
                scored = self._asked(self._wanted.name, payloads.as_input_data(example, "application/json"))
                _check_answered(self._wanted.name, scored)
                self._say(f"{self._wanted.name} answers the input example in {scored.elapsed_s * 1000:.0f} ms.")
            if golden is not None:
                self._compare(golden)

    def shift(self, steps: Sequence[int], example: bytes | None, watch_s: float) -> None:
        """Move the traffic, and back where the new deployment fails on the way."""
        name, share = self._wanted.name, self._endpoint.traffic.get(self._wanted.name, 0)
        if share == 100:
            self._say(f"{name} has all the traffic already.")
            return
        body = payloads.as_input_data(example, "application/json") if example is not None else None
        with self._taking_back():
            for step in [step for step in steps if step > share]:
                last = step == 100
                traffic = {name: step, **({} if last or not self._live else {self._live: 100 - step})}
                self._say(f"Traffic: {', '.join(f'{key} {value} %' for key, value in traffic.items())}")
                self._moved = True
                # In one request with the last step, so that a deploy is either done or goes on where it is cut.
                tags: dict[str, str | None] = {UNFINISHED: None} if last else {}
                if last and self._live:
                    tags[PREVIOUS] = self._live
                self._azure.set_traffic(self._endpoint, traffic, tags, mirror={})
                if body is not None:
                    self._watch(body, 0.0 if last else watch_s)

    @contextlib.contextmanager
    def _taking_back(self) -> Iterator[None]:
        """A stretch whose failure leaves what there was before. An interruption leaves all as it is, for the next time."""
        try:
            yield
        except AmlflowError as error:
            error.message = f"{error.message} {self._take_back()}"
            raise

    def _take_back(self) -> str:
        """Put things back; returns the sentence that says so, or what could not be put back."""
        name, endpoint = self._wanted.name, self._endpoint
        tail = self._tail()
        shown = f"\nThe end of its log:\n{tail}\n" if tail else ""
        try:
            if self._deleted():
                return f"{shown}The endpoint {endpoint.name} was deleted meanwhile."
            if (self._moved or self._mirrored) and not self._new:
                self._azure.set_traffic(endpoint, self._before(), {}, mirror={})
            if self._new:
                self._azure.unscale(endpoint.name, self._wanted)
                gone(lambda: self._azure.delete(endpoint.name))
                return f"{shown}The endpoint {endpoint.name} is deleted again."
            if self._made:
                gone(lambda: self._azure.delete_deployment(endpoint.name, self._wanted))
        except AmlflowError as error:
            return f"{shown}Taking it back failed as well: {error.message}"
        undone = f"{name} is deleted again" if self._made else f"{name} stays without traffic"
        traffic = self._before()
        if not traffic:
            return f"{shown}{undone}."
        return f"{shown}{undone}; the traffic is {', '.join(f'{key} {value} %' for key, value in traffic.items())}."

    def _deleted(self) -> bool:
        """Whether somebody else has deleted the endpoint: changing its traffic would make it again."""
        try:
            return self._azure.get(self._endpoint.name).state.lower() == "deleting"
        except NotFound:
            return True

    def _before(self) -> dict[str, int]:
        """The traffic before this deploy, or before the one that was cut and that this goes on with."""
        if self._endpoint.traffic.get(self._wanted.name):
            return {self._live: 100} if self._live else {}
        return dict(self._endpoint.traffic)

    def _left_over(self) -> bool:
        """Whether the deployment is there because a deploy was cut: it has never had traffic, and none is to go back to it."""
        name, endpoint = self._wanted.name, self._endpoint
        return self._wanted.ours and not endpoint.traffic.get(name) and endpoint.tags.get(PREVIOUS) != name

    def _in_the_way(self, before: OnlineDeployment) -> bool:
        """Whether the deployment must go first: it failed, or differs in what the service lets nobody change."""
        wanted = self._wanted
        failed = before.state.lower() in ("failed", "canceled", "deleting")
        return failed or (before.instance_type, before.code) != (wanted.instance_type, wanted.code)

    def _mirror_to(self, shares: dict[str, int]) -> None:
        self._azure.set_traffic(self._endpoint, self._endpoint.traffic, {}, mirror=shares)
        self._mirrored = bool(shares)

    def _log(self, deployment: str) -> list[str]:
        return self._azure.logs(self._endpoint.name, deployment, following.MOST_LINES)

    def _tail(self) -> str:
        """The end of the log; where the last error of a program stands before it, the lines up to that."""
        try:
            lines = self._azure.logs(self._endpoint.name, self._wanted.name, _SEARCHED_LINES)
        except AmlflowError:
            return ""
        last = max((number for number, line in enumerate(lines, 1) if _RAISED.match(line)), default=0)
        end = last if 0 < last <= len(lines) - _TAIL_LINES else len(lines)
        return "\n".join(lines[max(0, end - _TAIL_LINES) : end])

    def _settle(self) -> None:
        deadline, wait_s = time.monotonic() + _SETTLE_S, _FIRST_POLL_S
        with self._heartbeat():
            while time.monotonic() < deadline:
                now = self._azure.deployment(self._endpoint.name, self._wanted.name)
                if now.state.lower() == "succeeded":
                    return
                if now.state.lower() in ("failed", "canceled"):
                    raise AmlflowError(f"The deployment {now.name!r} of {self._endpoint.name!r} {now.state.lower()}.")
                time.sleep(wait_s)
                wait_s = min(wait_s * 1.5, _LONGEST_POLL_S)
        raise AmlflowError(f"The deployment {self._wanted.name!r} has not settled after {_SETTLE_S / 60:.0f} minutes.")

    @contextlib.contextmanager
    def _heartbeat(self) -> Iterator[None]:
        """Say from time to time what the deployment's log says last."""
        ended = threading.Event()

        def beat() -> None:
            while not ended.wait(_HEARTBEAT_S):
                with contextlib.suppress(AmlflowError):
                    lines = self._azure.logs(self._endpoint.name, self._wanted.name, 1)
                    if not ended.is_set():
                        self._say(f"{self._wanted.name}: {lines[-1] if lines else 'no log yet'}")

        thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def _watch(self, body: bytes, watch_s: float) -> None:
        """Ask the new deployment a few times, and go on asking for `watch_s`."""
        deadline, count = time.monotonic() + watch_s, 0
        while count < _PROBES or time.monotonic() < deadline:
            _check_answered(self._wanted.name, self._asked(self._wanted.name, body))
            count += 1
            if watch_s and count >= _PROBES:
                time.sleep(min(_PROBE_PAUSE_S, max(0.0, deadline - time.monotonic())))

    def _compare(self, golden: Path) -> None:
        """Replay a file of requests: each answered, as expected where it says so; beside the live deployment's answers."""
        requests, new, old = golden_requests(golden), [], []
        differing, most = 0, 0.0
        for number, (body, expected) in enumerate(requests, 1):
            scored = self._asked(self._wanted.name, body)
            _check_answered(f"{self._wanted.name}, asked request {number} of {golden.name},", scored)
            new.append(scored.elapsed_s)
            answer = _predictions(scored)
            if expected is not None and answers.first_difference(answer, expected):
                raise AmlflowError(
                    f"{self._wanted.name} answers request {number} of {golden.name} with {json.dumps(answer)[:200]}, and "
                    f"{json.dumps(expected)[:200]} was expected."
                )
            if self._live and self._live != self._wanted.name:
                beside = self._asked(self._live, body)
                old.append(beside.elapsed_s)
                if beside.status == 200 and answers.first_difference(answer, _predictions(beside)):
                    differing += 1
                    most = max(most, answers.distance(answer, _predictions(beside)))
        said = f"{len(requests)} golden requests answered, {statistics.median(new) * 1000:.0f} ms each"
        if old:
            differs = f", by {most:g} at most" if most else ""
            said += f" ({statistics.median(old) * 1000:.0f} ms by {self._live}); {differing} answers differ{differs}"
        self._say(f"{said}.")

    def _asked(self, deployment: str, body: bytes) -> Scored:
        self._secret = self._secret or self._azure.secret(self._endpoint)
        scored = self._azure.score(self._endpoint, self._secret, body, deployment)
        if scored.status in _ASKED_AGAIN:
            self._secret = self._azure.secret(self._endpoint, fresh=True)
            scored = self._azure.score(self._endpoint, self._secret, body, deployment)
        if scored.status == 403 and self._endpoint.private:
            raise NotAllowed(
                f"The endpoint {self._endpoint.name} is private, and cannot be asked from here.",
                "Deploy from a machine within its network.",
            )
        return scored


def golden_requests(golden: Path) -> list[tuple[bytes, Any]]:
    """Of each line of a .jsonl file, or of the one request of any other: the request, and the predictions that are expected, None
    where it says nothing of them. Raises `NotFound` and `UsageError`."""
    if not golden.is_file():
        raise NotFound(f"There is no file {str(golden)!r} of golden requests.")
    raw = golden.read_bytes()
    if golden.suffix.lower() == ".csv":
        return [(payloads.as_input_data(raw, "text/csv"), None)]
    lines = [line for line in raw.splitlines() if line.strip()] if golden.suffix.lower() == ".jsonl" else [raw]
    found = []
    for number, line in enumerate(lines, 1):
        try:
            content = json.loads(line)
        except ValueError as error:
            raise UsageError(f"Line {number} of {golden} is not valid JSON: {error}.") from error
        expected = None
        if isinstance(content, dict) and "request" in content:
            content, expected = content["request"], content.get("predictions")
        found.append((payloads.as_input_data(json.dumps(content).encode(), "application/json"), expected))
    if not found:
        raise UsageError(f"{golden} has no request.")
    return found


def _check_answered(who: str, scored: Scored) -> None:
    if scored.status != 200:
        text = " ".join(scored.content.decode("utf-8", "replace").split())[:500]
        raise AmlflowError(f"{who} answered {scored.model_status or scored.status}: {text}")


def _predictions(scored: Scored) -> Any:
    return answers.predictions(json.loads(scored.content))
