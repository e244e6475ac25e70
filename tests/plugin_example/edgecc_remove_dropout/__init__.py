"""A plugin for edgecc: the pass remove-dropout."""
