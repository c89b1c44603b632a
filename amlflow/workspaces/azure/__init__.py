"""Azure ML workspaces."""
