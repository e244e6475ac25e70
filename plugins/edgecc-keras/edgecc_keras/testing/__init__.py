"""Models for the tests of this plugin."""
