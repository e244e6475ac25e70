"""Which tensors are float16 and which stay float32, and the Casts between them."""
