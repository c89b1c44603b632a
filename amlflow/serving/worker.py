"""The process that holds the model: loads it, asks it once, says that it is ready, and answers on the supervisor's socket."""

from __future__ import annotations

import argparse
import asyncio
import atexit
import json
import os
import signal
import socket
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any, Optional

# One request is one row most of the time: more threads than one only wait for each other.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")


# How long a worker that is replaced goes on answering connections that it has accepted.
DRAIN_S = 1.0


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="worker")
    parser.add_argument("--spec", type=Path, required=True)
    parser.add_argument("--socket-fd", type=int)
    parser.add_argument("--ready-fd", type=int)
    parser.add_argument("--alive-fd", type=int)
    parser.add_argument("--host", default="0.0.0.0")  # noqa: S104
    parser.add_argument("--port", type=int, default=5001)
    options = parser.parse_args(arguments)
    if options.alive_fd is not None:
        _die_with(options.alive_fd)
    for number in (signal.SIGTERM, signal.SIGINT):
        # uvicorn raises the signal again once it has answered, whose default would end the process without its last acts.
        signal.signal(number, lambda number, _frame: sys.exit(128 + number))
    spec = json.loads(options.spec.read_text(encoding="utf-8"))
    try:
        app = _app(spec)
    except Exception as error:
        import traceback

        traceback.print_exc()
        text = " ".join(str(error).split())[:500]
        _say(options.ready_fd, {"error": f"{type(error).__name__}: {text}"})
        sys.exit(1)
    _serve(app, options)


def _app(spec: dict[str, Any]) -> Any:
    from .app import DEFAULT_LIMIT_BYTES, App, Keys
    from .loader import load

    key_file = Path(spec["key_file"]) if spec.get("key_file") else None
    model = load(Path(spec["model_folder"]))
    limit = spec.get("limit_bytes") or DEFAULT_LIMIT_BYTES
    app = App(
        model, spec.get("label", ""), Keys(key_file), limit, bool(spec.get("open_health")), _collector(spec, model)
    )
    app.warm()
    return app


def _collector(spec: dict[str, Any], model: Any) -> Any:
    """Into the folder that the spec names, or from a folder of its own into the storage that the environment names."""
    from .app import COLLECT_VARIABLE

    shipped = json.loads(os.environ.get(COLLECT_VARIABLE) or "{}")
    if not (spec.get("collect") or shipped):
        return None
    from .collector import Collector, Rules
    from .signature import read

    # Params are no columns: what is collected has its names and types beside them, too.
    signature = read({**(model.metadata.get("signature") or {}), "params": None})
    if not shipped:
        collector = Collector(Rules(**spec["collect"]), signature)
        atexit.register(collector.close)
        return collector
    from .shipping import Blobs, Destination, Shipper

    folder, blobs = tempfile.mkdtemp(prefix="collected-"), Blobs(Destination(**shipped["destination"]))
    collector = Collector(Rules(folder, **shipped["rules"]), signature, blobs.key)
    shipper = Shipper(Path(folder), blobs)
    # The last registered goes first: what the collector still writes is sent.
    atexit.register(shipper.close)
    atexit.register(collector.close)
    return collector


def _serve(app: Any, options: Any) -> None:
    import uvicorn

    config = uvicorn.Config(
        app,
        host=options.host,
        port=options.port,
        interface="asgi3",
        lifespan="off",
        ws="none",
        access_log=False,
        log_level="warning",
        timeout_graceful_shutdown=30,
    )

    class Server(uvicorn.Server):  # type: ignore[misc]
        async def startup(self, sockets: Optional[list[socket.socket]] = None) -> None:
            await super().startup(sockets=sockets)
            _say(options.ready_fd, {"ready": True})

        async def shutdown(self, sockets: Optional[list[socket.socket]] = None) -> None:
            # Stop accepting, but answer whoever was accepted already: a connection whose request is still on its way looks
            # idle to uvicorn, which would cut it.
            for server in self.servers:
                server.close()
            app.draining = True
            await asyncio.sleep(DRAIN_S)
            await super().shutdown(sockets=sockets)

    inherited = [socket.socket(fileno=options.socket_fd)] if options.socket_fd is not None else None
    Server(config).run(sockets=inherited)


def _say(descriptor: Optional[int], content: dict[str, Any]) -> None:
    if descriptor is not None:
        os.write(descriptor, json.dumps(content).encode() + b"\n")
        os.close(descriptor)


def _die_with(descriptor: int) -> None:
    """End when the supervisor's end of the pipe closes, which it does however the supervisor ends."""

    def wait() -> None:
        while os.read(descriptor, 1):
            pass
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
