"""The picture of a movie on the contact sheet."""

from __future__ import annotations

import numpy as np

LARGEST_SIDE = 400


def max_projection(stack: np.ndarray) -> np.ndarray:
    """Maximum projection along z of a stack (z, y, x), uint8 (y, x).

    Black is the 1st and white the 99.8th percentile. Blocks of large pictures are reduced by their
    maximum, so that a particle of a few voxels stays visible.
    """
    picture = stack.max(axis=0).astype(np.float32)
    block = -(-max(picture.shape) // LARGEST_SIDE)
    padded = np.pad(picture, [(0, -n % block) for n in picture.shape], mode="edge")
    y, x = (n // block for n in padded.shape)
    small = padded.reshape(y, block, x, block).max(axis=(1, 3))
    low, high = np.percentile(small, [1, 99.8])
    return (np.clip((small - low) / max(high - low, 1e-6), 0, 1) * 255).astype(np.uint8)
