"""The process that answers: it puts the parts together, and takes them down in the right order."""

from __future__ import annotations

import contextlib
import json
import logging
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from amlflow.emulator import azurite, certificates, faults, settings
from amlflow.emulator.app import App
from amlflow.emulator.arm.assets import DATA, ENVIRONMENT, Assets, Codes
from amlflow.emulator.arm.autoscale import Autoscale
from amlflow.emulator.arm.batch import BatchDeployments, BatchEndpoints
from amlflow.emulator.arm.computes import Computes
from amlflow.emulator.arm.containers import ContainerGroups
from amlflow.emulator.arm.datastores import Datastores
from amlflow.emulator.arm.deployments import OnlineDeployments
from amlflow.emulator.arm.endpoints import OnlineEndpoints
from amlflow.emulator.arm.identities import Identities
from amlflow.emulator.arm.jobs import JobResources
from amlflow.emulator.arm.models import Models
from amlflow.emulator.arm.quotas import Quotas
from amlflow.emulator.arm.quotas import workspaces as all_workspaces
from amlflow.emulator.arm.registries import Registries
from amlflow.emulator.arm.registry_tokens import RegistryTokens
from amlflow.emulator.arm.resources import Arm
from amlflow.emulator.arm.rights import Rights
from amlflow.emulator.arm.roles import Roles
from amlflow.emulator.arm.schedules import Schedules
from amlflow.emulator.arm.workspaces import Workspaces
from amlflow.emulator.artifacts import Artifacts
from amlflow.emulator.batch_scoring import BatchScoring
from amlflow.emulator.blobs import Blobs
from amlflow.emulator.control import Control
from amlflow.emulator.fronts import Fronts
from amlflow.emulator.history import History
from amlflow.emulator.identity import Identity
from amlflow.emulator.lifecycle import OPTIONS_FILE
from amlflow.emulator.metadata import Metadata
from amlflow.emulator.places import Places
from amlflow.emulator.pools import Pools
from amlflow.emulator.recording import Recorder
from amlflow.emulator.running.batch import BatchRuns
from amlflow.emulator.running.data import Data
from amlflow.emulator.running.execution import Scene
from amlflow.emulator.running.monitors import MonitorRuns
from amlflow.emulator.running.pipelines import Pipelines
from amlflow.emulator.running.scheduler import Scheduler
from amlflow.emulator.running.serving import Servers
from amlflow.emulator.running.state import Jobs
from amlflow.emulator.scoring import Scoring
from amlflow.emulator.settings import HOST
from amlflow.emulator.storage_access import StorageAccess
from amlflow.emulator.store import Store
from amlflow.emulator.tokens import Tokens
from amlflow.emulator.tracking.plane import Tracking
from amlflow.errors import AmlflowError


def serve(place: Path) -> None:
    """Answer until a signal ends it."""
    import uvicorn

    options = json.loads((place / OPTIONS_FILE).read_text(encoding="utf-8"))
    try:
        with _assembled(place, options) as app:
            known = settings.read(place)
            assert known is not None
            config = uvicorn.Config(
                app,
                host=HOST,
                port=known.port,
                ssl_certfile=str(place / certificates.CERTIFICATE),
                ssl_keyfile=str(place / certificates.KEY),
                lifespan="off",
                proxy_headers=False,
                server_header=False,
                access_log=False,
                log_level=logging.WARNING,
                timeout_graceful_shutdown=3,
            )
            # uvicorn sends the signal that has ended it to itself once more; what is below must come down in order all the same.
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, lambda *_: None)
            uvicorn.Server(config).run()
    except AmlflowError as error:
        raise SystemExit(error.paragraph()) from error


@contextlib.contextmanager
def _assembled(place: Path, options: dict[str, Any]) -> Iterator[App]:
    known = settings.read(place)
    if known is None:
        raise AmlflowError(f"There are no settings in {place}.", "Start the emulator with `amlflow emulator start`.")
    with contextlib.ExitStack() as stack:
        store = Store(place / "resources.db")
        stack.callback(store.close)
        recorder = Recorder(Path(options["record"])) if options["record"] else None
        if recorder is not None:
            stack.callback(recorder.close)
        if options["blobs"]:
            storage = azurite.Azurite(azurite.ensure(lambda line: None), place, known)
            stack.callback(storage.stop)
        tokens = Tokens(place, known)
        struck = faults.Faults()
        for spec in options["faults"]:
            struck.add(faults.parse(spec))
        identity = Identity(known, tokens, options["token_lifetime_s"])
        arm = Arm(known, store, place)
        blobs, pools = Blobs(known, place, options["blobs"]), Pools(arm.pace_s)
        quotas = Quotas(arm, pools)
        workspaces, computes = Workspaces(arm), Computes(arm, pools, quotas)
        workspaces.ensure(known.group, known.workspace, known.principals[0].client_id)
        computes.restore()
        datastores, places = Datastores(arm, blobs), Places(place)
        for workspace in all_workspaces(arm):
            # Its database may have to be made, for which no client would wait.
            places.of(workspace)
        jobs = Jobs(arm, places)
        data = Data(arm, blobs, datastores)
        scene = Scene(known, place, jobs, data, datastores)
        scheduler = Scheduler(arm, pools, scene, identity)
        stack.callback(scheduler.close)
        resources = JobResources(arm, jobs, scheduler)
        scheduler.resume(resources.all())
        assets = (Codes(arm, blobs), Assets(arm, ENVIRONMENT), Assets(arm, DATA))
        history = History(arm, blobs, datastores, places)
        tracking = Tracking(arm, blobs, datastores, places, options["aliases"])
        stack.callback(tracking.close)
        servers = Servers(place, places, data)
        stack.callback(servers.close)
        deployments = OnlineDeployments(arm, quotas, servers)
        deployments.resume(list(all_workspaces(arm)))
        scoring = Scoring(arm, servers, tokens)
        stack.callback(scoring.close)
        pipelines = Pipelines(arm, jobs, data, datastores, scheduler)
        batch = BatchRuns(pipelines, servers)
        control = Control(known, struck, identity, resources.preempt)
        registry = Models(arm, blobs, places, tracking)
        registries = Registries(arm, blobs)
        registries.resume()
        rights = Rights(arm)
        identities, registry_tokens = Identities(arm), RegistryTokens(arm, registries)
        roles = Roles(arm, registries)
        metadata = Metadata(arm, identity, identities)
        groups = ContainerGroups(arm, registries, identities, roles, registry_tokens, metadata)
        stack.callback(groups.close)
        groups.resume()
        schedules = Schedules(arm, resources, MonitorRuns(pipelines))
        stack.callback(schedules.close)
        artifacts = Artifacts(arm, blobs, datastores, places)
        parts = (
            *(identity, control, workspaces, computes, datastores, *assets),
            *(registry, resources, schedules, history, artifacts, tracking),
            *(OnlineEndpoints(arm, servers), deployments, scoring, registries, rights, Autoscale(arm)),
            *(BatchEndpoints(arm), BatchDeployments(arm, servers), BatchScoring(arm, batch)),
            *(identities, roles, registry_tokens, groups, Fronts(groups)),
            *(metadata, StorageAccess(known, tokens, roles)),
        )
        schedules.start()
        yield App(known, tokens, [route for part in parts for route in part.routes()], struck, recorder)
