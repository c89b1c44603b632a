"""Where a model is deployed to, one file a target."""
