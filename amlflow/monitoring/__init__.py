"""Whether data have drifted from what a model was trained on, and whether the model still performs."""
