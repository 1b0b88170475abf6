"""How a token may know where its patch is: fixed sines, a learned grid, rotated queries and keys.

By default it does not (``positions: none``). Coordinates count patches from the centre of the volume, so
that a step along an axis means the same length (patch side times voxel size) on every grid: a larger grid
extends the sines and rotations of a smaller one on all sides. Only the learned grid is stretched, because
nothing is known outside it.

References
----------
.. [1] Vaswani et al., Attention Is All You Need, NeurIPS 2017: sines of geometric wavelengths.
.. [2] Dosovitskiy et al., An Image is Worth 16x16 Words, ICLR 2021: learned positions, interpolated.
.. [3] Su et al., RoFormer: Enhanced Transformer with Rotary Position Embedding, 2021; axial form: Heo et
   al., Rotary Position Embedding for Vision Transformer, ECCV 2024.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from spatialdino_core.encoder.parameters import EncoderParameters

Grid = tuple[int, int, int]


class LearnedPositions(nn.Module):
    """One trained vector per patch of a stated grid, trilinearly interpolated to others."""

    def __init__(self, parameters: EncoderParameters) -> None:
        super().__init__()
        self.grid = parameters.position_grid
        self.table = nn.Parameter(torch.empty(1, parameters.embed_dim, *self.grid))

    def forward(self, grid: Grid) -> Tensor:
        """(1, N, D) for a grid; the stored vectors themselves for the stated one."""
        table: Tensor = self.table
        if tuple(grid) != self.grid:
            table = functional.interpolate(table, size=grid, mode="trilinear", align_corners=False)
        return table.flatten(2).transpose(1, 2)

    def at(self, places: Tensor, grid: Grid) -> Tensor:
        """The rows (T, D) of ``forward(grid)`` for the patches at ``places`` (T, 3), without the others."""
        table = self.table[0].flatten(1).T
        rows: Tensor | float = 0.0
        lower, upper, shares = [], [], []
        for axis, (stored, wanted) in enumerate(zip(self.grid, grid, strict=True)):
            at = (places[:, axis].float() + 0.5) * (stored / wanted) - 0.5
            at = at.clamp(0, stored - 1)
            lower.append(at.long())
            upper.append((lower[-1] + 1).clamp(max=stored - 1))
            shares.append((at - lower[-1])[:, None])
        for corner in itertools.product((0, 1), repeat=3):
            z, y, x = ((lower, upper)[side][axis] for axis, side in enumerate(corner))
            factor = math.prod(shares[axis] if side else 1 - shares[axis] for axis, side in enumerate(corner))
            rows = rows + table[(z * self.grid[1] + y) * self.grid[2] + x] * factor
        assert isinstance(rows, Tensor)
        return rows


class SinePositions(nn.Module):
    """Sines and cosines of the coordinates, a third of the features for each of z, y and x."""

    def __init__(self, parameters: EncoderParameters) -> None:
        super().__init__()
        self.width, self.base = parameters.embed_dim, parameters.position_base

    def forward(self, grid: Grid, device: torch.device) -> Tensor:
        """(1, N, D) float32: for each axis sines, then cosines; features left over are zero."""
        return self._rows(patch_coordinates(grid, device))[None]

    def at(self, places: Tensor, grid: Grid) -> Tensor:
        """The rows (T, D) of ``forward(grid)`` for the patches at ``places`` (T, 3)."""
        return self._rows(centred(places, grid))

    def _rows(self, coordinates: Tensor) -> Tensor:
        frequencies = geometric_frequencies(self.width // 6, self.base, coordinates.device)
        angles = coordinates[:, :, None] * frequencies
        sines = torch.cat([angles.sin(), angles.cos()], dim=2).flatten(1)
        return functional.pad(sines, (0, self.width - sines.shape[1]))


class RotaryPositions(nn.Module):
    """Angles by which pairs of features of queries and keys turn per patch along z, y and x.

    Each pair turns with one axis: a third of them with z, y and x each, pairs left over with none. Scores
    between patches then depend on where they are to each other. The class token and registers do not turn,
    as if they sat at the centre. The frequencies belong to the weights, because imported encoders bring
    their own.
    """

    frequencies: Tensor

    def __init__(self, parameters: EncoderParameters) -> None:
        super().__init__()
        self.head_dim, self.base = parameters.head_dim, parameters.position_base
        self.register_buffer("frequencies", torch.empty(3, self.head_dim // 2))

    def reset(self) -> None:
        """Set the frequencies (3, head_dim / 2) of a fresh encoder (radians per patch)."""
        each = self.head_dim // 6
        frequencies = geometric_frequencies(each, self.base, self.frequencies.device)
        self.frequencies.zero_()
        for axis in range(3):
            self.frequencies[axis, axis * each : (axis + 1) * each] = frequencies

    def forward(self, grid: Grid, leading: int) -> Tensor:
        """Cosines and sines (2, T, head_dim) of ``leading`` tokens that do not turn, then the patches."""
        return self._turns(patch_coordinates(grid, self.frequencies.device), leading)

    def at(self, places: Tensor, grid: Grid, leading: int = 0) -> Tensor:
        """The rows (2, T, head_dim) for ``leading`` tokens, then the patches at ``places`` (T, 3)."""
        return self._turns(centred(places, grid), leading)

    def _turns(self, coordinates: Tensor, leading: int) -> Tensor:
        # A product and a sum, because a matrix product may be rounded to bfloat16 (autocast) or TF32.
        angles = (coordinates[:, :, None] * self.frequencies).sum(1)
        angles = functional.pad(angles, (0, 0, leading, 0)).repeat(1, 2)
        return torch.stack([angles.cos(), angles.sin()])

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Follow the encoder to another device or type, but never below float32.

        In bfloat16 a hundred patches are known to half a patch only.
        """
        before = self.frequencies
        super()._apply(fn, recurse)
        if self.frequencies.itemsize < 4:
            self.frequencies = before.to(self.frequencies.device)
        return self


def rotate(x: Tensor, rotation: Tensor) -> Tensor:
    """Turn queries or keys.

    Parameters
    ----------
    x
        (B, heads, T, d); feature p and feature p + d / 2 are a pair.
    rotation
        (2, T, d), cosines and sines.

    Returns
    -------
    torch.Tensor
        Like ``x``; computed in the precision of ``rotation``.
    """
    first, second = x.chunk(2, dim=-1)
    turned = x * rotation[0] + torch.cat([-second, first], dim=-1) * rotation[1]
    return turned.to(x.dtype)


def patch_coordinates(grid: Grid, device: torch.device) -> Tensor:
    """(N, 3) float32 patches along z, y and x from the centre of a grid, in raster order."""
    axes = [torch.arange(n, device=device, dtype=torch.float32) - (n - 1) / 2 for n in grid]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).flatten(0, 2)


def centred(places: Tensor, grid: Grid) -> Tensor:
    """(T, 3) float32 patches along z, y and x from the centre of a grid, for places in it."""
    return places.float() - (places.new_tensor(grid).float() - 1) / 2


def geometric_frequencies(count: int, base: float, device: torch.device) -> Tensor:
    """(count,) float32 radians per patch, base^(-k / count): wavelengths from 2 pi patches upwards."""
    return base ** (-torch.arange(count, device=device, dtype=torch.float32) / count)
