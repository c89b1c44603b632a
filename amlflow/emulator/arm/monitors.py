"""What a schedule that creates a monitor must have, as the API says."""

from __future__ import annotations

import re
from typing import Any

from amlflow.emulator.store import Store
from amlflow.emulator.web import ServiceError, service_error

_SIGNALS = (
    "DataDrift",
    "PredictionDrift",
    "DataQuality",
    "FeatureAttributionDrift",
    "Custom",
    "ModelPerformance",
    "GenerationSafetyQuality",
    "GenerationTokenStatistics",
)
_ON_DATA = ("DataDrift", "PredictionDrift", "DataQuality", "ModelPerformance")
_INPUTS = ("Static", "Trailing", "Rolling", "Fixed")
# They are names of files in a job's output.
_SIGNAL_NAME = re.compile(r"[A-Za-z0-9][\w .-]{0,254}")
_ASSET = re.compile(r"/subscriptions/.*/data/[^/]+/versions/[^/]+", re.IGNORECASE)


def check(store: Store, definition: Any) -> None:
    """Raises `ServiceError` for a definition without a compute or signals, a signal that no file can be called
    after, or without its data or thresholds, and a data asset that is not there."""
    found = definition if isinstance(definition, dict) else {}
    compute, signals = found.get("computeConfiguration"), found.get("signals")
    if not isinstance(compute, dict) or compute.get("computeType") != "ServerlessSpark":
        raise _refused("A monitor has a computeConfiguration of the type ServerlessSpark.")
    if not isinstance(signals, dict) or not signals:
        raise _refused("A monitor has signals.")
    for name, signal in signals.items():
        _check_signal(store, str(name), signal if isinstance(signal, dict) else {})


def _check_signal(store: Store, name: str, signal: dict[str, Any]) -> None:
    if not _SIGNAL_NAME.fullmatch(name):
        raise _refused(f"'{name}' cannot name a signal.")
    kind = signal.get("signalType")
    if kind not in _SIGNALS:
        raise _refused(f"The signal '{name}' is of the type '{kind}', which is none of {', '.join(_SIGNALS)}.")
    if kind not in _ON_DATA:
        return
    production = signal.get("productionData")
    inputs = [*(production if kind == "ModelPerformance" and isinstance(production, list) else [production])]
    for data in [*inputs, signal.get("referenceData")]:
        if not isinstance(data, dict) or data.get("inputDataType") not in _INPUTS or not data.get("uri"):
            raise _refused(
                f"The signal '{name}' has no productionData and referenceData with an inputDataType and a uri."
            )
        uri = str(data["uri"])
        if _ASSET.fullmatch(uri) and store.get(uri) is None:
            raise _refused(f"The signal '{name}' reads the data asset '{uri}', which was not found.")
    if not signal.get("metricThreshold" if kind == "ModelPerformance" else "metricThresholds"):
        raise _refused(f"The signal '{name}' has no thresholds.")


def _refused(text: str) -> ServiceError:
    return service_error(400, text, inner=("BadArgument", "ArgumentInvalid"))
