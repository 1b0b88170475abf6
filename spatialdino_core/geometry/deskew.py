"""Deskew one stack. The movie around it is in ``stage.py``, the arithmetic in ``kernels/shear.py``."""

from __future__ import annotations

import numpy as np
import torch

from spatialdino_core.geometry.scan import ScanGeometry, Shape
from spatialdino_core.kernels.shear import sampled_range, shear_planes


def deskew_frame(
    raw: np.ndarray, geometry: ScanGeometry, *, fill: float, grid_offset_um: float, device: torch.device
) -> np.ndarray:
    """Shear a raw stack into the deskewed frame.

    Parameters
    ----------
    raw
        Raw stack (z, y, x), uint8, uint16 or float32 camera counts.
    geometry
        Of its scan.
    fill
        Counts where nothing was scanned.
    grid_offset_um
        Where the first output voxel lies on the tilted axis of the first plane.
    device
        Where it is computed.

    Returns
    -------
    numpy.ndarray
        uint16 (z, y, x) of ``geometry.deskewed_shape``, rounded once, clipped.
    """
    planes = np.moveaxis(raw[::-1] if geometry.reverses_planes else raw, geometry.tilted_axis, 2)
    width = geometry.deskewed_shape(raw.shape)[geometry.tilted_axis]
    sheared = shear_planes(
        torch.as_tensor(np.ascontiguousarray(planes)).to(device),
        geometry.shear_voxels,
        geometry.first_position(raw.shape, grid_offset_um),
        width,
        fill,
    )
    return np.moveaxis(sheared.cpu().numpy(), 2, geometry.tilted_axis)


def valid_mask(geometry: ScanGeometry, raw_shape: Shape, grid_offset_um: float) -> np.ndarray:
    """Where the sheared box holds data, from the geometry alone.

    Returns
    -------
    numpy.ndarray
        Bool (z, 1, x), or (z, y, 1) if y is the tilted axis: it broadcasts to the deskewed shape.
    """
    width = geometry.deskewed_shape(raw_shape)[geometry.tilted_axis]
    mask = np.zeros((raw_shape[0], width), bool)
    for plane in range(raw_shape[0]):
        start = geometry.first_position(raw_shape, grid_offset_um) - geometry.shear_voxels * plane
        first, last = sampled_range(start, raw_shape[geometry.tilted_axis], width)
        mask[plane, first : last + 1] = True
    return np.expand_dims(mask, 1 if geometry.tilted_axis == 2 else 2)


def estimate_background(raw: np.ndarray) -> float:
    """Camera background of a stack: the median of its darkest tenth of rows, zeros left out.

    Rows and not voxels, so that read noise does not pull the estimate down.
    """
    filled = raw[raw.any(axis=(1, 2))]
    if filled.size == 0:
        return 0.0
    levels = np.median(filled, axis=2)
    darkest = levels <= np.quantile(levels, 0.1)
    return float(np.median(filled[darkest]))
