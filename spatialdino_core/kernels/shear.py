"""Shear of image planes along their last axis by linear interpolation: the PyTorch reference.

Within one plane every voxel is displaced by the same fraction of a pixel, so the interpolation is a
two-tap filter with constant weights on two slices: no sampling grid and no gather.
Not the geometry of a scan: ``geometry/scan.py`` says by how much planes are displaced.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

SNAP_PIXELS = 1e-6
"""Displacements this close to a whole pixel count as whole: rounding errors of the geometry must not
cost a plane its edge column."""

BLOCK_BYTES = 64 * 2**20


def split_shift(plane: int, pixels_per_plane: float, offset_pixels: float) -> tuple[int, float]:
    """Displacement ``m k - offset`` of plane k as a whole number of pixels minus a fraction.

    Returns
    -------
    whole
        Smallest integer not below the displacement: output column at which the plane begins.
    fraction
        ``whole - displacement``, in [0, 1): how far right of a raw pixel each output voxel samples.
    """
    shift = pixels_per_plane * plane - offset_pixels
    whole = math.ceil(shift - SNAP_PIXELS)
    fraction = whole - shift
    return whole, 0.0 if fraction < SNAP_PIXELS else fraction


def valid_columns(
    plane: int, pixels_per_plane: float, offset_pixels: float, columns: int, width: int
) -> tuple[int, int]:
    """Half-open range of output columns that lie between raw pixels of this plane; may be empty.

    Parameters
    ----------
    columns
        Pixels along the raw axis, R.
    width
        Columns of the output.
    """
    whole, fraction = split_shift(plane, pixels_per_plane, offset_pixels)
    start = min(max(whole, 0), width)
    stop = min(whole + columns - (fraction > 0), width)
    return start, max(start, stop)


def shear_planes(
    planes: Tensor,
    first_plane: int,
    pixels_per_plane: float,
    offset_pixels: float,
    width: int,
    fill: float,
    *,
    block_bytes: int = BLOCK_BYTES,
) -> Tensor:
    """Displace each plane along its last axis: ``out[k, y, i] = raw[k, y, i - m k + offset]``.

    Fractional positions are interpolated linearly; outside ``0 <= r <= R - 1`` the output is ``fill``.
    Any split of planes or rows into calls or blocks gives the same bits.

    Parameters
    ----------
    planes
        (S, Y, R), uint16 or float32, any strides, on any device.
    first_plane
        Index k of ``planes[0]`` in the whole stack.
    pixels_per_plane
        Displacement m from one plane to the next; may be negative.
    offset_pixels
        Raw position that output column 0 of plane 0 samples.
    width
        Columns of the output.
    fill
        Value where there are no data.
    block_bytes
        Bound on the float32 temporaries.

    Returns
    -------
    Tensor
        (S, Y, width), of the dtype and device of ``planes``; uint16 is rounded once, half to even.

    Raises
    ------
    TypeError
        For another dtype.
    """
    if planes.dtype not in (torch.uint16, torch.float32):
        raise TypeError(f"planes are {planes.dtype}; expected torch.uint16 or torch.float32")
    count, rows, columns = planes.shape
    value = fill if planes.dtype == torch.float32 else round(fill)
    out = torch.full((count, rows, width), value, dtype=planes.dtype, device=planes.device)
    block = max(1, block_bytes // (8 * columns))
    for k in range(count):
        plane = first_plane + k
        whole, fraction = split_shift(plane, pixels_per_plane, offset_pixels)
        start, stop = valid_columns(plane, pixels_per_plane, offset_pixels, columns, width)
        if start == stop:
            continue
        for row in range(0, rows, block):
            source = planes[k, row : row + block]
            blend = _blend(source, start - whole, stop - whole, fraction)
            out[k, row : row + block, start:stop].copy_(_as_stored(blend, out.dtype))
    return out


def _blend(source: Tensor, start: int, stop: int, fraction: float) -> Tensor:
    """``source`` at positions ``start + fraction ... stop - 1 + fraction`` of its last axis, float32.

    Separate operations, each correctly rounded: a fused multiply-add would round differently at the
    ends of a block. In this order a constant image stays constant.
    """
    left = source[:, start:stop].to(torch.float32, copy=True)
    if fraction:
        right = source[:, start + 1 : stop + 1].to(torch.float32, copy=True)
        left.add_(right.sub_(left).mul_(fraction))
    return left


def _as_stored(values: Tensor, dtype: torch.dtype) -> Tensor:
    """Round for integer storage. Interpolation between uint16 values cannot leave their range, but the
    conversion of a value that did would be undefined."""
    return values if dtype == torch.float32 else values.round_().clamp_(0, 65535)
