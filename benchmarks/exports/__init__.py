"""Whole models as users have them: architectures written out in PyTorch and what both of its exporters make of them."""
