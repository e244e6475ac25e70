"""PyTorch for edgecc: what is imported from it, and written for it."""
