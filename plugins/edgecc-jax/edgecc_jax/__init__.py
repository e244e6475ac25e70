"""JAX for edgecc: `edgecc.from_jax`."""
