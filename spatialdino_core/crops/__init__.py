"""What the encoder is trained on: intensity scale, isotropic resampling, content-aware crops, shards."""
