"""Whether what a lossy pass cost is accepted: measured behind each on samples that nothing was fitted to."""
