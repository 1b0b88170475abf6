"""The encoder: a 3D vision transformer, the files that hold its weights, and the import of foreign ones."""
