"""Where patches lie: between the patch grid and the voxels of the deskewed store."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spatialdino_core.geometry.resampling import axis_taps, resample_axis

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


class VoxelMap:
    """What :func:`on_voxels` gives, computed where it is asked for; the parameters are the same.

    It is indexed as an array is, by the number of a plane or by coordinates along z, y and x.

    Attributes
    ----------
    shape
        Of the wanted grid.
    """

    def __init__(
        self,
        coarse: np.ndarray,
        spacing_um: Triple,
        origin_um: Triple,
        shape: tuple[int, int, int],
        voxel_um: Triple,
    ) -> None:
        self.shape = shape
        self._coarse = np.asarray(coarse, np.float32)
        self._spacing_um, self._origin_um, self._voxel_um = spacing_um, origin_um, voxel_um
        grids = zip(shape, self._coarse.shape, voxel_um, spacing_um, origin_um, strict=True)
        self._taps = [
            axis_taps(0, n, have, fine / step, -first / step) for n, have, fine, step, first in grids
        ]

    def __len__(self) -> int:
        return self.shape[0]

    def __iter__(self) -> Iterator[NDArray[np.float32]]:
        return map(self._plane, range(len(self)))

    def __getitem__(self, index: int | tuple[NDArray[np.intp], ...]) -> NDArray[np.float32]:
        return self._at(*index) if isinstance(index, tuple) else self._plane(index)

    def _plane(self, z: int) -> NDArray[np.float32]:
        first = self._origin_um[0] - z * self._voxel_um[0], *self._origin_um[1:]
        return on_voxels(self._coarse, self._spacing_um, first, (1, *self.shape[1:]), self._voxel_um)[0]

    def _at(self, z: NDArray[np.intp], y: NDArray[np.intp], x: NDArray[np.intp]) -> NDArray[np.float32]:
        """Weighted sums in the order of :func:`on_voxels`: along z, then y, then x."""
        along_z, along_y, along_x = self._taps
        found = np.zeros(len(z), np.float32)
        for i, of_x in zip(along_x.indices, along_x.weights, strict=True):
            column = np.zeros(len(z), np.float32)
            for j, of_y in zip(along_y.indices, along_y.weights, strict=True):
                line = np.zeros(len(z), np.float32)
                for k, of_z in zip(along_z.indices, along_z.weights, strict=True):
                    line += self._coarse[k[z], j[y], i[x]] * of_z[z]
                column += line * of_y[y]
            found += column * of_x[x]
        return found


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
