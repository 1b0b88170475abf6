"""From the patch grid to voxels, guided by the image: joint bilateral upsampling.

Linear interpolation (`grid.on_voxels`) blurs a border between two structures over a patch. Here each of the
eight patches around a voxel weighs by its distance, as in linear interpolation, times a Gaussian of the
difference between the voxel's intensity and the patch's mean (Kopf et al., ACM Trans. Graph. 26, 96, 2007):
so a voxel takes the value of those neighbours that look like it. Where the image is flat this is linear
interpolation, exactly.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spatialdino_core.features.grid import Triple

SLAB_VOXELS = 4_000_000


def guided_on_voxels(
    coarse: NDArray[Any],
    spacing_um: Triple,
    origin_um: Triple,
    guide: NDArray[np.float32],
    coarse_guide: NDArray[Any],
    voxel_um: Triple,
    *,
    guide_range: float,
) -> NDArray[np.float32]:
    """Joint bilateral upsampling of maps, constant beyond the outer patch centres.

    Parameters
    ----------
    coarse
        (K, gz, gy, gx) maps.
    spacing_um, origin_um
        Of their grid (z, y, x), µm.
    guide
        Image (z, y, x) on the wanted grid, whose voxel 0 is centred at 0.
    coarse_guide
        (gz, gy, gx) the image's mean in each patch; NaN where there are no data, which then do not count.
    voxel_um
        Of the wanted grid.
    guide_range
        Standard deviation of the Gaussian, in units of the image.

    Returns
    -------
    numpy.ndarray
        float32 (K, z, y, x); 0 where no patch around has data. Computed in slabs of planes.
    """
    axes = [
        _neighbours(n, size, step, first, patches)
        for n, size, step, first, patches in zip(
            guide.shape, voxel_um, spacing_um, origin_um, coarse.shape[1:], strict=True
        )
    ]
    out = np.empty((len(coarse), *guide.shape), np.float32)
    planes = max(1, SLAB_VOXELS // max(1, guide[0].size))
    for start in range(0, len(guide), planes):
        part = slice(start, start + planes)
        near = [tuple(each[part] for each in axes[0]), axes[1], axes[2]]
        out[:, part] = _slab(coarse, guide[part], coarse_guide, near, guide_range)
    return out


def _slab(
    coarse: NDArray[Any], guide: NDArray[Any], coarse_guide: NDArray[Any], near: list[Any], guide_range: float
) -> NDArray[np.float32]:
    """Differences to the most similar neighbour's, so that not all weights vanish where none is similar."""
    corners = list(itertools.product((0, 1), repeat=3))
    places = [np.ix_(*(axis[side] for axis, side in zip(near, corner, strict=True))) for corner in corners]
    apart = [
        ((guide - coarse_guide[place]) ** 2 / (2 * guide_range**2)).astype(np.float32) for place in places
    ]
    least = np.fmin.reduce(apart)
    total = np.zeros(guide.shape, np.float32)
    out = np.zeros((len(coarse), *guide.shape), np.float32)
    for corner, place, exponent in zip(corners, places, apart, strict=True):
        linear = [axis[2] if side else 1 - axis[2] for axis, side in zip(near, corner, strict=True)]
        weight = np.einsum("z,y,x->zyx", *linear) * np.exp(least - exponent)
        weight = np.where(np.isnan(weight), 0, weight).astype(np.float32)
        total += weight
        for channel, values in zip(out, coarse, strict=True):
            channel += weight * values[place]
    return np.asarray(out / np.maximum(total, 1e-30), dtype=np.float32)


def _neighbours(
    length: int, voxel_um: float, spacing_um: float, origin_um: float, patches: int
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float64]]:
    """Lower and upper patch of each voxel along an axis, and the weight of the upper one."""
    place = np.clip((np.arange(length) * voxel_um - origin_um) / spacing_um, 0, patches - 1)
    low = np.minimum(np.floor(place).astype(np.intp), max(patches - 2, 0))
    return low, np.minimum(low + 1, patches - 1), place - low
