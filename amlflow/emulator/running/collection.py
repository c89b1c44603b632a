"""The data collector of deployments: what they were asked and answered, as lines of JSON in the workspace's blobs.

A scoring script hands its data to a small server beside it, by Azure's own package; for models without a script the front door
does it. The layout is that of the service's documentation («Collect production data from models»)."""

from __future__ import annotations

import contextlib
import json
import random
import threading
import uuid
from collections.abc import Mapping
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from amlflow.emulator.running.data import BadAddress, Data
from amlflow.emulator.settings import HOST
from amlflow.emulator.store import Document

_TYPE = "azureml.inference."
_MOST_BYTES = 4 << 20


class Collection:
    """`instance` stands for the machine that writes: no two of them write into one blob."""

    def __init__(self, data: Data) -> None:
        self._data, self._instance = data, uuid.uuid4().hex
        self._lock = threading.Lock()
        self._begun: set[tuple[str, str]] = set()
        self._servers: dict[str, ThreadingHTTPServer] = {}

    def keep(self, deployment: Document, name: str, data: Any, correlation: str, more: Mapping[str, str]) -> None:
        """Append one line. A storage that takes none is no request's failure."""
        workspace = self._data.resource(deployment.id.rsplit("/", 4)[0])
        wanted = collections(deployment).get(name)
        if workspace is None or wanted is None:
            return
        content = json.dumps(data)
        now = datetime.now(timezone.utc)
        event = {
            "specversion": "1.0",
            "id": str(uuid.uuid4()),
            "source": deployment.id,
            "type": f"{_TYPE}{name}",
            "datacontenttype": "application/json",
            "time": now.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "data": data,
            "contentrange": f"bytes 0-{max(0, len(content) - 1)}/{len(content)}",
            "correlationid": correlation,
            "xrequestid": correlation,
            **more,
        }
        line = json.dumps(event, separators=(",", ":")).encode() + b"\n"
        if len(line) > _MOST_BYTES:
            return
        endpoint, of = deployment.id.split("/")[-3], deployment.name
        uri = f"azureml://datastores/workspaceblobstore/paths/modelDataCollector/{endpoint}/{of}/{name}"
        with contextlib.suppress(BadAddress), self._lock:
            blob = self._data.locate(workspace, uri)
            path = f"{blob.path}/{now:%Y/%m/%d/%H}/{self._instance}.jsonl"
            if (blob.container, path) not in self._begun:
                self._data.blobs.ensure_container(blob.container)
                self._data.blobs.begin_log(blob.container, path)
                self._begun.add((blob.container, path))
            self._data.blobs.append_log(blob.container, path, line)

    def keep_request(self, deployment: Document, inputs: Any, outputs: Any) -> None:
        """Both sides of a request, each as often as its sampling says."""
        correlation = str(uuid.uuid4())
        for name, data in (("model_inputs", inputs), ("model_outputs", outputs)):
            rate = collections(deployment).get(name, 0.0)
            if random.random() < rate:  # noqa: S311
                self.keep(deployment, name, data, correlation, {})

    def listen(self, deployment: Document, port: int = 0) -> int:
        """Take what the deployment's script collects, on a port of this machine, which is returned."""
        self.silence(deployment.id)
        keep = self.keep

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                name = str(self.headers.get("ce-type") or "").removeprefix(_TYPE)
                request = str(self.headers.get("ce-x-request-id") or uuid.uuid4())
                named = (("collectdatatype", "ce-collect-data-type"), ("agent", "ce-agent"))
                more = {key: str(self.headers[header]) for key, header in named if self.headers.get(header)}
                try:
                    keep(deployment, name, json.loads(body), request, more)
                except ValueError:
                    self.send_error(400)
                    return
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                return

        server = ThreadingHTTPServer((HOST, port), Handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, name=f"collector {deployment.name}", daemon=True).start()
        with self._lock:
            self._servers[deployment.id.lower()] = server
        return int(server.server_address[1])

    def silence(self, id: str) -> None:
        with self._lock:
            server = self._servers.pop(id.lower(), None)
        if server is not None:
            server.shutdown()
            server.server_close()

    def close(self) -> None:
        for id in list(self._servers):
            self.silence(id)


def collections(deployment: Document) -> dict[str, float]:
    """What the deployment collects, each with the share of requests of which it does."""
    found = ((deployment.body["properties"].get("dataCollector") or {}).get("collections")) or {}
    return {
        name: float(item.get("samplingRate", 1.0))
        for name, item in found.items()
        if item and str(item.get("dataCollectionMode")).lower() == "enabled"
    }


def settings_of(deployment: Document) -> str:
    """The file by which Azure's package learns what to collect."""
    found = {
        name: {"enabled": True, "sampleRatePercentage": rate * 100} for name, rate in collections(deployment).items()
    }
    return json.dumps({"runMode": "cloud", "collections": found})
