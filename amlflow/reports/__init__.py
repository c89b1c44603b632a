"""Renderings of a comparison for a terminal and for a pull request."""
