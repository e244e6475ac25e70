"""Passes: one file each. `base` is the contract, `pipeline` runs them."""
