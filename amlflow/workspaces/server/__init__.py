"""Workspaces behind MLflow's REST API: any tracking server, and the base of what speaks the same API elsewhere."""
