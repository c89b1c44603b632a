"""The scoring app that the local and aci targets share. It runs in the model's environment, without amlflow installed."""
