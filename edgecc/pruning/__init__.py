"""Which channels, heads and hidden units must go together, and their removal."""
