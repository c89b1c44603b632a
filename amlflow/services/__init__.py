"""What amlflow does, one file a capability. A service knows only the `Workspace` protocol."""
