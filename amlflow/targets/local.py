"""The local target: the scoring app in the background of this machine, on a port of the loopback address."""

from __future__ import annotations

import json
import re
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from amlflow import processes
from amlflow.environments import build, spec
from amlflow.errors import AmlflowError, NotFound, NotSupported, Unavailable, UsageError
from amlflow.locks import locked
from amlflow.targets.base import CURRENT, DeployOptions, Endpoint, EndpointState, ModelToDeploy, Plan, PlanStep
from amlflow.targets.local_folder import HOST, EndpointFolder

# What the scoring app needs beside the model's own requirements.
SERVER_REQUIREMENTS = ("uvicorn>=0.30", "httptools>=0.6", "uvloop>=0.19", "pyyaml>=6")
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,60}[a-z0-9])?")
_POLL_S = 0.05


class LocalTarget:
    """Endpoints below `root/endpoints`."""

    def __init__(self, root: Path) -> None:
        self._root = root / "endpoints"

    def plan(self, model: ModelToDeploy, options: DeployOptions) -> Plan:
        if not _NAME.fullmatch(options.name):
            raise UsageError(
                f"{options.name!r} cannot name an endpoint.",
                "A name has up to 62 lower-case letters, digits and '-', and starts and ends with a letter or digit.",
            )
        if options.env_manager not in ("uv", "local", "conda"):
            raise UsageError(f"There is no environment manager {options.env_manager!r}.", "It is uv, local or conda.")
        folder = EndpointFolder(self._root / options.name)
        steps = [self._environment_step(model, options)]
        if folder.alive():
            now = folder.spec()
            if options.port not in (None, now["port"]):
                raise AmlflowError(
                    f"Endpoint {options.name!r} runs on port {now['port']} and cannot move to {options.port}.",
                    f"Delete it first with `amlflow endpoint delete {options.name}`, or leave out --port.",
                )
            steps.append(PlanStep("keep", "address", f"http://{HOST}:{now['port']}"))
            steps.append(PlanStep("keep", "key", ""))
            steps.append(PlanStep("change", f"endpoint {options.name}", f"{now['label']} -> {model.label}"))
        else:
            port = str(options.port) if options.port else "a free one"
            steps.append(PlanStep("create", "key", ""))
            steps.append(PlanStep("create", f"endpoint {options.name}", f"{model.label} on {HOST}, port {port}"))
        if options.collect is not None:
            steps.append(PlanStep("create", "collection", f"{options.collect.rate:.0%} of the requests and answers"))
        return Plan("local", options.name, model, options, steps, fresh=not folder.exists)

    def apply(self, plan: Plan, report: Callable[[str], None]) -> Endpoint:
        options, folder = plan.options, EndpointFolder(self._root / plan.endpoint)
        environment = build.ensure(self._requirements(plan.model, options), _manager(options), report)
        for place in (self._root.parent, self._root):
            place.mkdir(parents=True, exist_ok=True, mode=0o700)
        with locked(self._root / f".{plan.endpoint}.lock"):
            fresh = not folder.alive()
            try:
                with processes.uninterrupted():
                    wanted = self._spec(folder, plan, environment)
                    generation = folder.start(wanted, options.port) if fresh else folder.reload(wanted)
                report(f"Waiting for {plan.model.label} to answer…")
                self._wait(folder, generation, options.timeout_s, plan)
            except BaseException:
                if fresh:
                    folder.remove()
                raise
        return self.status(plan.endpoint)

    def list(self) -> list[Endpoint]:
        if not self._root.is_dir():
            return []
        names = sorted(entry.name for entry in self._root.iterdir() if (entry / "spec.json").is_file())
        return [self.status(name) for name in names]

    def status(self, name: str) -> Endpoint:
        folder = self._folder(name)
        wanted, state, served, alive = folder.spec(), folder.state(), folder.served(), folder.alive()
        url = f"http://{HOST}:{wanted['port']}"
        return Endpoint(
            name,
            "local",
            _state(alive, state),
            served.get("label", wanted["label"]),
            served.get("model_folder", wanted["model_folder"]),
            url,
            f"{url}/invocations",
            wanted["port"],
            state.get("pid", 0) if alive else 0,
            wanted["started_ms"],
            str(folder.log),
            {CURRENT: 100},
        )

    def invoke(self, name: str, body: bytes, content_type: str) -> Any:
        import http.client

        endpoint = self.status(name)
        if endpoint.state in ("stopped", "failed"):
            raise Unavailable(
                f"Endpoint {name!r} is {endpoint.state}.",
                f"Deploy it again: `amlflow deploy {endpoint.model} --name {name}`.",
            )
        connection = http.client.HTTPConnection(HOST, endpoint.port, timeout=300)
        headers = {"content-type": content_type, "authorization": f"Bearer {self.keys(name)[0]}"}
        try:
            connection.request("POST", "/invocations", body, headers)
            answer = connection.getresponse()
            content = answer.read()
        except OSError as error:
            raise Unavailable(
                f"Endpoint {name!r} did not answer at {endpoint.scoring_url}: {error}.",
                f"See `amlflow endpoint logs {name}`.",
            ) from error
        finally:
            connection.close()
        parsed = json.loads(content)
        if answer.status >= 500:
            raise AmlflowError(
                f"Endpoint {name!r} failed ({answer.status}): {parsed['error']['message']}",
                f"See `amlflow endpoint logs {name}`.",
            )
        if answer.status >= 400:
            raise AmlflowError(f"Endpoint {name!r} refused the request ({answer.status}): {parsed['error']['message']}")
        return parsed

    def logs(self, name: str, follow: bool = False, lines: int = 100, deployment: str = "") -> Iterator[str]:
        if deployment:
            raise NotSupported(f"The local endpoint {name!r} has one deployment alone.", "Leave out --deployment.")
        log = self._folder(name).log
        with log.open(encoding="utf-8", errors="replace") as source:
            yield from deque(source, lines)
            while follow:
                line = source.readline()
                if line:
                    yield line
                elif not log.exists():
                    return
                else:
                    if log.stat().st_size < source.tell():
                        source.seek(0)
                    time.sleep(_POLL_S * 4)

    def keys(self, name: str, rotate: bool = False) -> Sequence[str]:
        folder = self._folder(name)
        if rotate:
            folder.renew_key()
        return folder.keys()

    def set_traffic(self, name: str, traffic: Mapping[str, int]) -> Endpoint:
        raise NotSupported(
            "The local target serves one model an endpoint: it has no traffic to split.", "Use two endpoints."
        )

    def rollback(self, name: str) -> Endpoint:
        raise NotSupported(
            "The local target keeps no deployment before.",
            "Deploy the earlier version again: `amlflow deploy NAME:VERSION`.",
        )

    def collected(self, name: str, since_ms: int | None, until_ms: int | None) -> Path:
        """It outlives the endpoint."""
        if not _NAME.fullmatch(name):
            raise NotFound(f"There is no endpoint {name!r}.", "`amlflow endpoint list` shows them.")
        return self._root.parent / "collected" / name

    def delete(self, name: str) -> None:
        folder = self._folder(name)
        with locked(self._root / f".{name}.lock"):
            folder.remove()
        (self._root / f".{name}.lock").unlink(missing_ok=True)

    def _environment_step(self, model: ModelToDeploy, options: DeployOptions) -> PlanStep:
        if options.env_manager == "local":
            return PlanStep("keep", "environment", str(Path(sys.executable)))
        wanted = self._requirements(model, options)
        return PlanStep(
            "create", "environment", f"{len(wanted.requirements)} requirements of {wanted.source}, or cached"
        )

    def _requirements(self, model: ModelToDeploy, options: DeployOptions) -> spec.EnvironmentSpec:
        if options.env_manager == "local":
            return spec.EnvironmentSpec("")
        return spec.of_model(model.folder).adding(*SERVER_REQUIREMENTS)

    def _spec(self, folder: EndpointFolder, plan: Plan, environment: build.Environment) -> dict[str, Any]:
        """As the supervisor takes it, but for the port and the generation."""
        return {
            "label": plan.model.label,
            "model_folder": str(plan.model.folder),
            "python": str(environment.python),
            "variables": {**({} if environment.prefix is None else environment.variables()), **plan.options.variables},
            "key_file": str(folder.key_file),
            "started_ms": time.time_ns() // 1_000_000,
            "collect": self._rules(plan),
        }

    def _rules(self, plan: Plan) -> dict[str, Any] | None:
        """As the scoring app's collector takes them."""
        collect = plan.options.collect
        if collect is None:
            return None
        return {
            "folder": str(self.collected(plan.endpoint, None, None)),
            "source": f"amlflow:{plan.endpoint}/{plan.model.label}",
            "rate": collect.rate,
            "dropped": [*collect.dropped],
            "hashed": [*collect.hashed],
        }

    def _wait(self, folder: EndpointFolder, generation: int, timeout_s: float, plan: Plan) -> None:
        deadline = time.monotonic() + timeout_s
        while True:
            state = folder.state()
            if state.get("generation") == generation:
                return
            alive = folder.alive()
            if state.get("failed") == generation or not alive:
                kept = "" if generation == 1 else " What ran before goes on."
                raise AmlflowError(
                    f"The model {plan.model.label} did not start: {state.get('error') or 'its process ended'}.{kept}",
                    f"The end of its log:\n{folder.tail()}",
                )
            if time.monotonic() > deadline:
                raise AmlflowError(
                    f"The model {plan.model.label} did not answer within {timeout_s:.0f} s.",
                    f"Give it longer with --timeout. The end of its log:\n{folder.tail()}",
                )
            time.sleep(_POLL_S)

    def _folder(self, name: str) -> EndpointFolder:
        folder = EndpointFolder(self._root / name)
        if not _NAME.fullmatch(name) or not folder.exists:
            raise NotFound(f"There is no endpoint {name!r}.", "`amlflow endpoint list` shows them.")
        return folder


def _state(alive: bool, state: Mapping[str, Any]) -> EndpointState:
    if not alive:
        return "stopped"
    if state.get("restarting"):
        return "restarting"
    return "running" if state.get("generation") else "starting"


def _manager(options: DeployOptions) -> build.Manager:
    return "local" if options.env_manager == "local" else "conda" if options.env_manager == "conda" else "uv"
