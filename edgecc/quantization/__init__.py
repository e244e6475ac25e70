"""Choosing what integers stand for."""
