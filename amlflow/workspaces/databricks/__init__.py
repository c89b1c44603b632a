"""Databricks-hosted tracking: MLflow's REST API behind Databricks' own ways to sign in."""
