"""Runners: an artifact in a process of its own."""
