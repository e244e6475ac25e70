"""Rewriting: patterns over the graph, what replaces them, and why a place did not match."""
