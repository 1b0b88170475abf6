"""Block masks for iBOT: which patches of a view the student must guess.

Unions of random cuboids, as in BEiT's block-wise masking (Bao et al., ICLR 2022) with a third axis,
and with exactly the number of patches that was asked for.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

MIN_BLOCK_PATCHES = 4
MAX_ASPECT = 1 / 0.3


def block_mask(grid: tuple[int, int, int], masked: int, generator: np.random.Generator) -> NDArray[np.bool_]:
    """Mask exactly ``masked`` patches in cuboid blocks.

    Parameters
    ----------
    grid
        (gz, gy, gx), number of patches along each axis.
    masked
        Number of patches to mask, from 0 to gz * gy * gx.
    generator
        Source of randomness.

    Returns
    -------
    numpy.ndarray
        (gz, gy, gx) bool, True where masked.
    """
    mask = np.zeros(grid, dtype=bool)
    missing = masked
    while missing > 0:
        block = _random_block(grid, missing, generator)
        fresh = np.flatnonzero(~mask[block])
        # A block that would mask too many loses its last planes, so the count is always exact.
        mask[block] |= np.isin(np.arange(mask[block].size), fresh[:missing]).reshape(mask[block].shape)
        missing -= min(missing, len(fresh))
    return mask


def view_masks(
    views: int,
    grid: tuple[int, int, int],
    share: float,
    ratios: tuple[float, float],
    generator: np.random.Generator,
) -> NDArray[np.bool_]:
    """Masks of a batch of views, a share of which are masked, at ratios spread over a range.

    Parameters
    ----------
    views
        Number of views V.
    grid
        (gz, gy, gx), number of patches along each axis.
    share
        Share of the views that are masked (rounded, at least one).
    ratios
        Smallest and largest share of masked patches; the masked views are stratified over it.
    generator
        Source of randomness.

    Returns
    -------
    numpy.ndarray
        (V, gz * gy * gx) bool in raster order.
    """
    patches = int(np.prod(grid))
    masked_views = max(1, round(share * views))
    strata = (np.arange(masked_views) + generator.random(masked_views)) / masked_views
    counts = np.rint((ratios[0] + (ratios[1] - ratios[0]) * strata) * patches).astype(int).clip(1, patches)
    masks = np.zeros((views, patches), dtype=bool)
    for view, count in zip(generator.permutation(views)[:masked_views], counts, strict=True):
        masks[view] = block_mask(grid, int(count), generator).ravel()
    return masks


def _random_block(
    grid: tuple[int, int, int], missing: int, generator: np.random.Generator
) -> tuple[slice, slice, slice]:
    """A cuboid of about 4 to ``missing`` patches and of random aspect, at a random place."""
    volume = generator.uniform(min(MIN_BLOCK_PATCHES, missing), missing)
    stretch = generator.uniform(-1, 1, 3) * np.log(MAX_ASPECT) / 2
    sides = np.cbrt(volume) * np.exp(stretch - stretch.mean())
    lengths = np.rint(sides).astype(int).clip(1, grid)
    # A block may overhang the grid; kept inside, it would rarely reach the faces.
    starts = [int(generator.integers(1 - n, side)) for side, n in zip(grid, lengths, strict=True)]
    z, y, x = (slice(max(start, 0), start + n) for start, n in zip(starts, lengths, strict=True))
    return z, y, x
