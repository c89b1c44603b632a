"""The command line: one file a command or noun, parsing and rendering only."""
