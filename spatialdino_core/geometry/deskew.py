"""Deskew: resample a skewed raw stack onto upright voxels. Not the rotation to the coverslip.

Linear interpolation within each raw plane, never between planes: the plane spacing stays as recorded,
and neighbouring planes are never mixed at positions that the shear has drawn apart.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from spatialdino_core.errors import BadInputError
from spatialdino_core.geometry.background import estimate_background
from spatialdino_core.geometry.parameters import DeskewParameters
from spatialdino_core.geometry.scan import ScanGeometry, Shape
from spatialdino_core.kernels.shear import shear_planes, valid_columns

BLOCK_BYTES = 256 * 2**20


def deskew_frame(
    raw: NDArray[np.uint16],
    geometry: ScanGeometry,
    parameters: DeskewParameters,
    device: torch.device | str = "cpu",
    fill: float | None = None,
    *,
    block_bytes: int = BLOCK_BYTES,
) -> NDArray[np.uint16]:
    """Deskew one frame.

    Parameters
    ----------
    raw
        uint16 (plane, y, x), planes in the order of recording.
    geometry
        Where its voxels lie.
    parameters
        How to resample.
    device
        Where to compute.
    fill
        Value of voxels without data (counts); by default what ``parameters.fill`` says of this frame.
    block_bytes
        Bound on memory beyond the result; it does not change a bit of the result.

    Returns
    -------
    ndarray
        uint16 (z, y, x) of shape ``geometry.deskewed_shape(raw.shape)``; voxel size ``geometry.voxel_um``.

    Raises
    ------
    BadInputError
        If ``raw`` is not a three-dimensional uint16 stack.
    """
    shape = _shape_of(raw)
    if fill is None:
        fill = estimate_background(raw) if parameters.fill == "background" else parameters.fill
    out = np.empty(geometry.deskewed_shape(shape), np.uint16)
    source = _skew_axis_last(raw[::-1] if geometry.descending else raw, geometry)
    target = _skew_axis_last(out, geometry)
    planes = max(1, block_bytes // (2 * (source[0].nbytes + target[0].nbytes)))
    for first in range(0, shape[0], planes):
        block = torch.from_numpy(np.array(source[first : first + planes], order="C")).to(device)
        sheared = shear_planes(
            block,
            first,
            geometry.shear_voxels,
            geometry.sampling_offset_voxels(shape[0], parameters.grid_offset_um),
            target.shape[2],
            fill,
            block_bytes=block_bytes // 4,
        )
        target[first : first + planes] = sheared.cpu().numpy()
    return out


def valid_range(geometry: ScanGeometry, raw_shape: Shape, grid_offset_um: float = 0.0) -> NDArray[np.bool_]:
    """Deskewed voxels that lie between raw voxels; the others are fill.

    Parameters
    ----------
    raw_shape
        Shape of the raw stack (plane, y, x).
    grid_offset_um
        Offset of the output grid, as in ``DeskewParameters``.

    Returns
    -------
    ndarray
        bool (z, 1, x) for skew axis x, (z, y, 1) for y: broadcasts to the deskewed shape.
    """
    dimension = geometry.skew_dimension
    planes, width = raw_shape[0], geometry.deskewed_shape(raw_shape)[dimension]
    offset = geometry.sampling_offset_voxels(planes, grid_offset_um)
    mask = np.zeros((planes, width), bool)
    for plane in range(planes):
        start, stop = valid_columns(plane, geometry.shear_voxels, offset, raw_shape[dimension], width)
        mask[plane, start:stop] = True
    return np.expand_dims(mask, 3 - dimension)


def _shape_of(raw: NDArray[np.uint16]) -> Shape:
    if raw.ndim != 3 or raw.dtype != np.uint16:
        raise BadInputError(
            "raw stack",
            found=f"{raw.dtype} array of shape {raw.shape}",
            expected="uint16 (plane, y, x)",
            remedy="Convert the movie to one uint16 stack per frame and channel.",
        )
    return (raw.shape[0], raw.shape[1], raw.shape[2])


def _skew_axis_last(stack: NDArray[np.uint16], geometry: ScanGeometry) -> NDArray[np.uint16]:
    return stack if geometry.skew_axis == "x" else stack.swapaxes(1, 2)
