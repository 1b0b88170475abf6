"""Device kernels: each has a PyTorch reference that defines it and one dispatch point."""
