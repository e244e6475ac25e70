"""What runs in a process of its own, with TensorFlow: `main` is its script. Nothing here is imported by edgecc."""
