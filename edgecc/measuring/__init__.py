"""Measuring artifacts: how fast, how large, how far from the source."""
