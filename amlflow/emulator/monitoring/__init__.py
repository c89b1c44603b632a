"""What the step of a monitor's job does, in a process of its own: read, compute, record."""
