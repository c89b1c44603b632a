"""amlflow: MLflow projects from a laptop to an Azure web service."""

__version__ = "0.1.0"
