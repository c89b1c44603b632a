"""What MLflow's own command finds here: `mlflow deployments … -t amlflow` and `mlflow run -b amlflow`.

MLflow loads these modules, so they import it at the top; nothing else imports them.
"""
