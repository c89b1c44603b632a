"""Azure ML workspaces, over ARM's and MLflow's REST APIs."""
