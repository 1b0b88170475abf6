"""Pictures of a movie for the contact sheet: the first and the last frame side by side.

They show raw frames, so that a skewed stack looks sheared; only accepted movies are deskewed, later.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

LARGEST_SIDE = 400
GAP_PIXELS = 6
BLACK_PERCENT, WHITE_PERCENT = 1.0, 99.8

Image = NDArray[np.float32]
Picture = NDArray[np.uint8]


def max_projection(stack: NDArray[Any]) -> Image:
    """Maximum projection along z of a stack (z, y, x), reduced to 400 pixels, float32 (y, x)."""
    return reduced(stack.max(axis=0))


def middle_plane(stack: NDArray[Any]) -> Image:
    """The plane in the middle of a stack (z, y, x), reduced to 400 pixels, float32 (y, x): one image as the
    camera took it, which no projection smears."""
    return reduced(stack[len(stack) // 2])


def reduced(image: NDArray[Any]) -> Image:
    """An image with at most 400 pixels a side, float32 (y, x).

    Blocks of large pictures are reduced by their maximum, so that a particle of a few voxels stays visible.
    """
    picture = image.astype(np.float32)
    block = -(-max(picture.shape) // LARGEST_SIDE)
    padded = np.pad(picture, [(0, -n % block) for n in picture.shape], mode="edge")
    y, x = (n // block for n in padded.shape)
    small: Image = padded.reshape(y, block, x, block).max(axis=(1, 3))
    return small


def grey_range(image: Image) -> tuple[float, float]:
    """Intensities to be shown in black and white: the 1st and the 99.8th percentile, counts."""
    low, high = np.percentile(image, [BLACK_PERCENT, WHITE_PERCENT])
    return float(low), float(high)


def grey(image: Image, black_to_white: tuple[float, float]) -> Picture:
    """An image as uint8 between its black and its white intensity."""
    low, high = black_to_white
    return (np.clip((image - low) / max(high - low, 1e-6), 0, 1) * 255).astype(np.uint8)


def tiled(rows: list[list[Picture]]) -> Picture:
    """Pictures of one shape as the rows and columns of one picture, with black gaps between them."""
    y, x = rows[0][0].shape
    sheet = np.zeros(
        (len(rows) * (y + GAP_PIXELS) - GAP_PIXELS, len(rows[0]) * (x + GAP_PIXELS) - GAP_PIXELS), np.uint8
    )
    for r, row in enumerate(rows):
        for c, picture in enumerate(row):
            top, left = r * (y + GAP_PIXELS), c * (x + GAP_PIXELS)
            sheet[top : top + y, left : left + x] = picture
    return sheet
