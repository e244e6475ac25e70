"""Calibration and evaluation data, and random feeds."""
