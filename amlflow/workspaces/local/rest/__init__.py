"""MLflow's REST API over the local workspace, in process: the answers that `mlflow server` gives, without a server.

service.py is the entrance (`LocalRest`) and routes.py the table of what is answered from SQL here, with one file of
handlers a subject; fields.py reads a request, rows.py writes an answer. What is not in the table, and what is not an
ordinary request, goes to MLflow's own application (application.py), so nothing of the API is missing.
"""

from amlflow.workspaces.local.rest.call import MLFLOW_LIMITS, NO_LIMITS, BatchLimits, Call, Handler, Route, Unusual
from amlflow.workspaces.local.rest.routes import ROUTES
from amlflow.workspaces.local.rest.service import LocalRest

__all__ = ["MLFLOW_LIMITS", "NO_LIMITS", "ROUTES", "BatchLimits", "Call", "Handler", "LocalRest", "Route", "Unusual"]
