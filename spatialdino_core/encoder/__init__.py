"""The encoder: a 3D vision transformer without positional encoding, and the files that hold its weights."""
