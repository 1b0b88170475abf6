"""Patch embedding, positions and rotations of a 3D encoder from those of a foreign one. Not the reading of
files.

An encoder of images becomes one of volumes: on a volume that is constant along z, its patches embed what
those of the 2D one embed. A column of k equal patches weighs k times as much as one in the eyes of the class
token and the registers, so that the encoders agree exactly where the volume is one patch deep.

References
----------
.. [1] Beyer et al., FlexiViT: One Model for All Patch Sizes, CVPR 2023: pseudo-inverse resizing.
.. [2] Carreira, Zisserman, Quo Vadis, Action Recognition?, CVPR 2017: inflation of 2D filters.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from spatialdino_core.encoder.positions import Grid


def inflate_patch_embedding(
    weight: Tensor, bias: Tensor, patch_voxels: int, mean: Sequence[float], std: Sequence[float]
) -> tuple[Tensor, Tensor]:
    """Patch embedding of a grey volume that agrees with one of colour images.

    Colours are summed, because a grey image is one whose colours are equal, after the division by ``std``
    that the 2D encoder expects of its input; what the subtraction of ``mean`` did goes into the bias. The
    patch is resized, and repeated along z with 1 / ``patch_voxels`` of its weight.

    Parameters
    ----------
    weight
        (D, C, p, p), of images in [0, 1] from which ``mean`` is subtracted and which are divided by ``std``.
    bias
        (D,).
    patch_voxels
        Side of the cubic patch.
    mean, std
        C values each.

    Returns
    -------
    weight, bias : torch.Tensor
        (D, 1, patch_voxels, patch_voxels, patch_voxels) and (D,) float64, of volumes in [0, 1].
    """
    resized = resize_patch(weight.double(), patch_voxels)
    scaled = resized / torch.tensor(std, dtype=torch.float64)[:, None, None]
    offset = (scaled * torch.tensor(mean, dtype=torch.float64)[:, None, None]).sum((1, 2, 3))
    grey = scaled.sum(1)
    volume = grey[:, None, None] / patch_voxels
    return volume.expand(-1, 1, patch_voxels, -1, -1).contiguous(), bias.double() - offset


def resize_patch(weight: Tensor, side: int) -> Tensor:
    """Resize patches by the pseudo-inverse of image resizing [1]_.

    With B the resizing of images, the new weights are (B^T)^+ w: their product with a resized patch is that
    of the old weights with the patch, exactly where patches grow, and with least squared error over white
    patches where they shrink. B is separable, and so is its pseudo-inverse.

    Parameters
    ----------
    weight
        (..., p, p) float64.
    side
        New side.

    Returns
    -------
    torch.Tensor
        (..., side, side).
    """
    inverse = torch.linalg.pinv(resize_matrix(weight.shape[-1], side).T)
    return inverse @ weight @ inverse.T


def resize_matrix(old: int, new: int) -> Tensor:
    """(new, old) float64 matrix of linear resizing along one axis, with antialiasing where it shrinks."""
    impulses = torch.eye(old, dtype=torch.float64)[None, None]
    return functional.interpolate(impulses, (old, new), mode="bilinear", antialias=True)[0, 0].T


def inflate_positions(positions: Tensor, grid: Grid) -> Tensor:
    """Learned positions of a square image, at every z of a volume.

    Parameters
    ----------
    positions
        (N, D) in raster order of a square grid.
    grid
        (gz, gy, gx) to bring them to; bicubically unless the square fits.

    Returns
    -------
    torch.Tensor
        (1, D, gz, gy, gx).
    """
    side = math.isqrt(len(positions))
    if side**2 != len(positions):
        raise ValueError(f"{len(positions)} positions do not fill a square")
    plane = positions.T.reshape(1, -1, side, side)
    if grid[1:] != (side, side):
        plane = functional.interpolate(plane, size=grid[1:], mode="bicubic", align_corners=False)
    return plane[:, :, None].expand(-1, -1, grid[0], -1, -1).contiguous()


def inflate_rotations(periods: Tensor, grid: Grid) -> Tensor:
    """Rotations of an image encoder, with none along z.

    The 2D encoder measures an image, of whatever size, from -1 to 1; a pair of features turns by 2 pi per
    period. Of n patches, neighbours are 2 / n apart. So the rotations agree exactly on the stated grid, and
    on others a patch stays what it is there.

    Parameters
    ----------
    periods
        (d / 4,) periods, the same for y (first pairs) and x.
    grid
        (gz, gy, gx) on which the 2D encoder's image is measured.

    Returns
    -------
    torch.Tensor
        (3, d / 2) radians per patch.
    """
    each = 2 * math.pi / periods
    still = torch.zeros_like(each)
    rows = [(still, still), (each * 2 / grid[1], still), (still, each * 2 / grid[2])]
    return torch.stack([torch.cat(row) for row in rows])


def axial_rotations(head_dim: int, base: float, grid: Grid) -> Tensor:
    """Rotations of a 3D encoder whose field of view is measured from -1 to 1 along each axis.

    Of the head_dim / 2 pairs a third, rounded down, turns with z, as many with y, the rest with x. The i-th
    of the n pairs of an axis turns by 2 pi in base^(i / n). Of g patches, neighbours are 2 / g apart. So the
    rotations agree exactly on the stated grid, and on others a patch stays what it is there.

    Parameters
    ----------
    head_dim
        Features per attention head, even.
    base
        The longest period, nearly; the shortest is 1.
    grid
        (gz, gy, gx) of the field of view (patches).

    Returns
    -------
    torch.Tensor
        (3, head_dim / 2) radians per patch.
    """
    third = head_dim // 6
    counts = (third, third, head_dim // 2 - 2 * third)
    rotations = torch.zeros(3, head_dim // 2)
    first = 0
    for axis, (count, patches) in enumerate(zip(counts, grid, strict=True)):
        periods = base ** (torch.arange(count, dtype=torch.float64) / count)
        rotations[axis, first : first + count] = 2 * math.pi / periods * 2 / patches
        first += count
    return rotations
