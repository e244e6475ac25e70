"""Importers: one file per source format. `base` is the contract."""
