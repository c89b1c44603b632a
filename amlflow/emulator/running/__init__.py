"""Jobs as real processes: who gets which nodes, the environment, inputs and outputs, logs, and the end."""
