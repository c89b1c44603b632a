"""What would go wrong with a deploy, told before it is made: the model, its packages, the workspace."""
