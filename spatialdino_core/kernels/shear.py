"""Linear shear of a raw stack: each plane shifted along its rows by a constant, fractional distance.

The PyTorch reference; it runs on the CPU and on CUDA. Within a plane the fraction is the same for every
row and column, so two slices with constant weights do what a resampling grid would, exactly and faster.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def shear_planes(planes: Tensor, shear: float, offset: float, width: int, fill: float) -> Tensor:
    """Sample every plane of a stack on a common, longer axis.

    Parameters
    ----------
    planes
        Raw stack (S, Y, R), uint8, uint16 or float32.
    shear
        Voxels by which each plane is shifted against the one before it.
    offset
        Position on the raw axis of output index 0 in plane 0, in voxels.
    width
        Length of the output axis.
    fill
        Value where the raw plane has none.

    Returns
    -------
    torch.Tensor
        (S, Y, width) uint16, rounded half to even once: out[k, y, i] is the linear interpolation of
        plane k, row y at r = i − shear · k + offset where 0 ≤ r ≤ R − 1, else ``fill``.
    """
    count, rows, columns = planes.shape
    out = torch.full((count, rows, width), round(fill), dtype=torch.int32, device=planes.device).to(
        torch.uint16
    )
    for k in range(count):
        start = offset - shear * k
        first, last = sampled_range(start, columns, width)
        if first > last:
            continue
        lower = math.floor(start)
        row = planes[k].to(torch.float32)
        # The last raw column may be hit exactly; then it has no right neighbour and needs none.
        row = torch.nn.functional.pad(row, (0, 1), mode="replicate")
        left = row[:, first + lower : last + lower + 1]
        right = row[:, first + lower + 1 : last + lower + 2]
        mixed = torch.lerp(left, right, start - lower)
        out[k, :, first : last + 1] = mixed.round().clamp(0, 65535).to(torch.int32).to(torch.uint16)
    return out


def sampled_range(start: float, columns: int, width: int) -> tuple[int, int]:
    """First and last output index whose position ``start + index`` lies in [0, columns − 1]."""
    rounding = 1e-9  # positions are multiples of a step that floats cannot hold exactly
    first = max(0, math.ceil(-start - rounding))
    last = min(width - 1, math.floor(columns - 1 - start + rounding))
    return first, last
