"""Copies of runs in another workspace: `runs` finds or makes them, `content` and `models` bring them what they lack."""
