"""MLflow's REST API as Azure ML's own server answers it, in front of a local workspace."""
