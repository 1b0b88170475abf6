"""SINDER: find singular defects of a trained encoder, and repair them by its singular values alone."""
