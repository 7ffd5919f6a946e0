"""The use cases, over ports. They own the transaction boundary."""
