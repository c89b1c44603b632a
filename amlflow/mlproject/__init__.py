"""MLflow Projects: where one comes from, what its MLproject file says, which command an entry point becomes."""
