"""What a check has found, and how each target runs a model, by the target's name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from amlflow.errors import AmlflowError
from amlflow.targets import image
from amlflow.targets.local import SERVER_REQUIREMENTS

Severity = Literal["error", "warning", "ok"]
MONITORING = "azureml-ai-monitoring"
INFERENCE_SERVER = "azureml-inference-server-http"


@dataclass(frozen=True, slots=True)
class Finding:
    """`what` was looked at; `why` says what is wrong with it, or what was seen where nothing is; `mend` puts it right. With an
    error the deploy fails, with a warning it may, or what it makes is poorer."""

    severity: Severity
    what: str
    why: str
    mend: str = ""


@dataclass(frozen=True, slots=True)
class Hosting:
    """How a target runs a model. `server` are the packages that it adds to the model's own; `platform` is uv's name of where it
    runs, empty for this machine; `pythons` are the minor versions that it can bring, empty for any. `own_app`: amlflow's scoring
    app asks the model; `no_code`: a script that Azure writes does. `conda`: Azure makes the environment from conda.yaml.
    `falls_back`: where that script would fail, amlflow's own takes its place. `registered`: it takes registered models alone."""

    target: str
    server: Sequence[str] = ()
    platform: str = "linux"
    pythons: Sequence[str] = ()
    own_app: bool = False
    no_code: bool = False
    falls_back: bool = False
    conda: bool = False
    registered: bool = False

    @property
    def azure(self) -> bool:
        return self.target != "local"


HOSTINGS: Mapping[str, Hosting] = {
    hosting.target: hosting
    for hosting in (
        Hosting("local", SERVER_REQUIREMENTS, platform="", own_app=True),
        Hosting("managed", (INFERENCE_SERVER,), no_code=True, conda=True, registered=True),
        Hosting("aci", SERVER_REQUIREMENTS, image.PLATFORM, image.PYTHONS, own_app=True),
        Hosting("aks", (INFERENCE_SERVER,), conda=True, registered=True),
        Hosting("batch", conda=True, registered=True),
    )
}


def of_error(what: str, error: AmlflowError, severity: Severity = "error") -> Finding:
    return Finding(severity, what, error.message, error.mend)
