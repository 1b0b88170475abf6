"""Where patches lie: between the patch grid and the voxels of the deskewed store."""

from __future__ import annotations

import numpy as np

from spatialdino_core.crops.resample import resample_axis

Triple = tuple[float, float, float]


def patch_spacing_um(voxel_um: Triple, patch_voxels: int) -> Triple:
    """Distance of neighbouring patch centres (z, y, x), µm, for an encoder of that voxel size."""
    z, y, x = (v * patch_voxels for v in voxel_um)
    return z, y, x


def patch_origin_um(voxel_um: Triple, patch_voxels: int) -> Triple:
    """Centre of patch (0, 0, 0), µm: voxel 0 is centred at 0, the patch spans voxels 0 … patch − 1."""
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
