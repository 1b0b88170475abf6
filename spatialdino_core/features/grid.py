"""Where patches lie: between the patch grid and the voxels of the deskewed store."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from spatialdino_core.geometry.resampling import resample_axis

Triple = tuple[float, float, float]


def patch_spacing_um(voxel_um: Triple, patch_voxels: int) -> Triple:
    """Distance of neighbouring patch centres (z, y, x), µm, for an encoder of that voxel size."""
    z, y, x = (v * patch_voxels for v in voxel_um)
    return z, y, x


def patch_origin_um(voxel_um: Triple, patch_voxels: int) -> Triple:
    """Centre of patch (0, 0, 0), µm: voxel 0 is centred at 0, the patch spans voxels 0 … patch − 1.

    Examples
    --------
    >>> patch_origin_um((0.5, 0.25, 0.25), 8)
    (1.75, 0.875, 0.875)
    """
    z, y, x = (v * (patch_voxels - 1) / 2 for v in voxel_um)
    return z, y, x


def on_voxels(
    coarse: np.ndarray, spacing_um: Triple, origin_um: Triple, shape: tuple[int, int, int], voxel_um: Triple
) -> np.ndarray:
    """Linear interpolation of a coarse map at the centres of voxels, constant beyond its outer centres.

    Parameters
    ----------
    coarse
        (gz, gy, gx).
    spacing_um, origin_um
        Of its grid (z, y, x), µm.
    shape, voxel_um
        Of the wanted grid, whose voxel 0 is centred at 0.

    Returns
    -------
    numpy.ndarray
        float32 of ``shape``.
    """
    result = coarse
    for axis in range(3):
        ratio, start = voxel_um[axis] / spacing_um[axis], -origin_um[axis] / spacing_um[axis]
        result = resample_axis(result, axis, ratio, start=start, length=shape[axis])
    return result


def patch_means(
    image: NDArray[Any],
    valid: NDArray[np.bool_],
    voxel_um: Triple,
    spacing_um: Triple,
    origin_um: Triple,
    grid: tuple[int, ...],
) -> NDArray[np.float64]:
    """Mean of the valid voxels nearest to each patch centre, (gz, gy, gx); NaN where there are none.

    Parameters
    ----------
    image, valid
        (z, y, x), voxel 0 centred at 0; ``voxel_um`` is their voxel size.
    spacing_um, origin_um, grid
        Of the patches.
    """
    owner = np.zeros((1, 1, 1), np.intp)
    for axis, (length, size, step, first, patches) in enumerate(
        zip(image.shape, voxel_um, spacing_um, origin_um, grid, strict=True)
    ):
        nearest = np.clip(np.rint((np.arange(length) * size - first) / step), 0, patches - 1).astype(np.intp)
        shape = [-1 if a == axis else 1 for a in range(3)]
        owner = owner * patches + nearest.reshape(shape)
    number = int(np.prod(grid))
    chosen = owner[valid]
    total = np.bincount(chosen, image[valid], number)
    with np.errstate(invalid="ignore"):
        return (total / np.bincount(chosen, minlength=number)).reshape(grid)
