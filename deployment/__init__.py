"""What runs the system outside a test: the local launcher and the files for production-like use."""
