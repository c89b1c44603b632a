"""Python environments of projects and models: read from their files, made by uv, cached by content."""
