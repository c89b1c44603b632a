"""The embedded workspace: SQLite, a folder and processes."""
