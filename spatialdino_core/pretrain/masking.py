"""Block masks for iBOT: which patches of a view the student must guess.

Unions of random cuboids, as in BEiT's block-wise masking (Bao et al., ICLR 2022) with a third axis,
and with exactly the number of patches that was asked for. Blocks may prefer the foreground: of a view
that is mostly empty, empty patches alone teach little.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

MIN_BLOCK_PATCHES = 4
MAX_ASPECT = 1 / 0.3
FOREGROUND_SHARE = 0.25
Grid = tuple[int, int, int]


def masked_counts(
    views: int, patches: int, share: float, ratios: tuple[float, float], generator: np.random.Generator
) -> NDArray[np.intp]:
    """How many patches each view of a batch loses.

    Parameters
    ----------
    views, patches
        Number of views, and of patches of each.
    share
        Share of the views that are masked (rounded, at least one), chosen at random.
    ratios
        Smallest and largest share of masked patches; the masked views are stratified over it.
    generator
        Source of randomness.

    Returns
    -------
    numpy.ndarray
        (views,), 0 where a view is not masked.
    """
    chosen = masked_views(views, share)
    strata = (np.arange(chosen) + generator.random(chosen)) / chosen
    lost = np.rint((ratios[0] + (ratios[1] - ratios[0]) * strata) * patches).astype(int).clip(1, patches)
    counts = np.zeros(views, dtype=np.intp)
    counts[generator.permutation(views)[:chosen]] = lost
    return counts


def masked_views(views: int, share: float) -> int:
    """How many of the views of a batch are masked."""
    return max(1, round(share * views))


def block_mask(
    grid: Grid,
    masked: int,
    generator: np.random.Generator,
    brightness: NDArray[np.floating] | None = None,
    foreground_bias: float = 0.0,
) -> NDArray[np.bool_]:
    """Mask exactly ``masked`` patches in cuboid blocks.

    Parameters
    ----------
    grid
        (gz, gy, gx), number of patches along each axis.
    masked
        Number of patches to mask, from 0 to gz * gy * gx.
    generator
        Source of randomness.
    brightness
        (gz, gy, gx), how bright each patch is; needed for a bias.
    foreground_bias
        Probability that a block lies around one of the brightest quarter of the patches that is not
        masked yet, instead of anywhere.

    Returns
    -------
    numpy.ndarray
        (gz, gy, gx) bool, True where masked.
    """
    mask = np.zeros(grid, dtype=bool)
    bright = np.empty(0, dtype=int)
    if brightness is not None and foreground_bias > 0:
        bright = np.argsort(brightness, axis=None)[-max(1, round(FOREGROUND_SHARE * brightness.size)) :]
    missing = masked
    while missing > 0:
        centre = None
        if len(bright) and generator.random() < foreground_bias:
            bright = bright[~mask.ravel()[bright]]
            centre = np.unravel_index(generator.choice(bright), grid) if len(bright) else None
        block = _random_block(grid, missing, generator, centre)
        fresh = np.flatnonzero(~mask[block])
        # A block that would mask too many loses its last planes, so the count is always exact.
        mask[block] |= np.isin(np.arange(mask[block].size), fresh[:missing]).reshape(mask[block].shape)
        missing -= min(missing, len(fresh))
    return mask


def patch_means(view: NDArray[np.floating], patch_voxels: int) -> NDArray[np.floating]:
    """Mean intensity of each patch of a view (C, Z, Y, X) of whole patches; (gz, gy, gx)."""
    gz, gy, gx = (length // patch_voxels for length in view.shape[1:])
    blocks = view.reshape(view.shape[0], gz, patch_voxels, gy, patch_voxels, gx, patch_voxels)
    return blocks.mean(axis=(0, 2, 4, 6))


def _random_block(
    grid: Grid, missing: int, generator: np.random.Generator, centre: tuple[np.intp, ...] | None
) -> tuple[slice, slice, slice]:
    """A cuboid of about 4 to ``missing`` patches and of random aspect, around a patch or anywhere."""
    volume = generator.uniform(min(MIN_BLOCK_PATCHES, missing), missing)
    stretch = generator.uniform(-1, 1, 3) * np.log(MAX_ASPECT) / 2
    sides = np.cbrt(volume) * np.exp(stretch - stretch.mean())
    lengths = np.rint(sides).astype(int).clip(1, grid)
    if centre is None:
        # A block may overhang the grid; kept inside, it would rarely reach the faces.
        starts = [int(generator.integers(1 - n, side)) for side, n in zip(grid, lengths, strict=True)]
    else:
        starts = [int(at) - int(generator.integers(0, n)) for at, n in zip(centre, lengths, strict=True)]
    z, y, x = (slice(max(start, 0), start + n) for start, n in zip(starts, lengths, strict=True))
    return z, y, x
