"""An Azure ML workspace on this machine: identity, the ARM REST API, the data planes that the SDKs ask, and jobs as processes.

`lifecycle` starts and stops it; `server` is the process that answers. Unmodified clients reach it over TLS once the variables of
`amlflow emulator env` are set.
"""
