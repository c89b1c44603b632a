"""What the machine did while a program ran, under the names that MLflow's own system metrics have."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from amlflow.journal import records

if TYPE_CHECKING:
    from types import ModuleType

    from amlflow.services.recording import Recorder

# MLflow samples every ten seconds; a program that ends sooner gets one sample when it ends.
INTERVAL_S = 10.0


class Sampler:
    """Logs CPU, memory, disk and network use into a run until it is stopped. It works for any program, as it needs
    nothing of MLflow in it. Sizes are megabytes (10^6 bytes), as in MLflow."""

    def __init__(self, recorder: Recorder, run_id: str, interval_s: float = INTERVAL_S) -> None:
        self._run, self._interval_s = recorder.open(run_id), interval_s
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._sample_until_stopped, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._ended.set()
        self._thread.join(timeout=self._interval_s)

    def _sample_until_stopped(self) -> None:
        import psutil

        psutil.cpu_percent()
        network = psutil.net_io_counters()
        step = 0
        while True:
            ended = self._ended.wait(self._interval_s)
            try:
                values = _sample(psutil, network)
                now = time.time_ns() // 1_000_000
                points = [[f"system/{key}", value, step, now] for key, value in values.items()]
                self._run.append([records.BATCH, points, [], []])
            except OSError:
                # A missed sample is no reason to disturb the program; the next one may succeed.
                step -= 1
            step += 1
            if ended:
                self._run.writer.close()
                return


def _sample(psutil: ModuleType, network: object) -> dict[str, float]:
    memory, disk, now = psutil.virtual_memory(), psutil.disk_usage("/"), psutil.net_io_counters()
    megabyte = 1e6
    return {
        "cpu_utilization_percentage": psutil.cpu_percent(),
        "system_memory_usage_megabytes": memory.used / megabyte,
        "system_memory_usage_percentage": memory.percent,
        "disk_usage_megabytes": disk.used / megabyte,
        "disk_usage_percentage": disk.percent,
        "disk_available_megabytes": disk.free / megabyte,
        "network_receive_megabytes": (now.bytes_recv - network.bytes_recv) / megabyte,  # type: ignore[attr-defined]
        "network_transmit_megabytes": (now.bytes_sent - network.bytes_sent) / megabyte,  # type: ignore[attr-defined]
    }
