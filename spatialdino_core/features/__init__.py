"""Per-movie features: dense patch features, activation map, foreground probability, PCA basis."""
