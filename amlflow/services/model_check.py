"""Whether a run that should have kept a model has one."""

from __future__ import annotations

from amlflow.errors import AmlflowError
from amlflow.services.recording import Recorder
from amlflow.workspaces.base import Workspace


def check(workspace: Workspace, recorder: Recorder, run_id: str, required: bool) -> tuple[str, bool]:
    """What autologging said when it lost the run's model, empty where none was lost; and whether the run has a model. The
    workspace is asked only where one is required or was lost, and the journal knows of none."""
    view = recorder.open(run_id).view()
    has_model = view.has_model
    if (required or view.notes) and not has_model and not recorder.offline:
        recorder.flush(runs=[run_id])
        try:
            has_model = bool(workspace.logged_models(run_id))
        except AmlflowError:
            has_model = False
    return "" if has_model or not view.notes else view.notes[0], has_model
