"""The journal of a run and what sends it on. It needs the standard library and MLflow, and nothing else of amlflow."""
