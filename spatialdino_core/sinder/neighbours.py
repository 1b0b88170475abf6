"""What an anomalous token should have been: the average of its healthy neighbours.

After the smoothness loss of SINDER (Wang et al., ECCV 2024) in three dimensions: a Gaussian
neighbourhood of 27 patches, in which tokens along the defect direction hardly count.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from spatialdino_core.sinder.gate import alignment, outliers
from spatialdino_core.sinder.parameters import RepairParameters


def anomalies(tokens: Tensor, direction: Tensor, parameters: RepairParameters) -> Tensor:
    """Tokens of excessive norm that point, more or less, along the defect direction.

    Wider than the gate, in norm and angle, because a token shrinks and turns away from the direction while
    it is repaired; and not a quantile of angles: where ordinary tokens point anywhere, none would stand out.

    Parameters
    ----------
    tokens
        (B, N, D) patch tokens.
    direction
        (D,) unit vector.
    parameters
        Thresholds of norm, over all B * N tokens, and of angle.

    Returns
    -------
    torch.Tensor
        (B, N) bool.
    """
    large = outliers(tokens.norm(dim=-1), parameters.outlier_mads, parameters.repair_norm_ratio)
    return large & (alignment(tokens, direction) > math.cos(math.radians(parameters.repair_angle_deg)))


@torch.no_grad()
def neighbour_average(
    tokens: Tensor, direction: Tensor, grid: tuple[int, int, int], temperature: float
) -> Tensor:
    """Average of the 27 patches around each patch, itself included.

    Weights are the product of [1 2 1] / 4 along z, y and x with exp(-|cos to the direction| /
    temperature), normalised over the neighbours inside the grid.

    Parameters
    ----------
    tokens
        (B, N, D) patch tokens in raster order of ``grid``.
    direction
        (D,) unit vector.
    grid
        (gz, gy, gx), gz * gy * gx = N.
    temperature
        Smaller values ignore aligned tokens more.

    Returns
    -------
    torch.Tensor
        (B, N, D).
    """
    weights = torch.exp(-alignment(tokens, direction) / temperature)[..., None]
    volume = torch.cat([tokens * weights, weights], dim=-1).transpose(1, 2).unflatten(2, grid)
    smooth = _binomial(volume).flatten(2).transpose(1, 2)
    return smooth[..., :-1] / smooth[..., -1:]


def neighbour_loss(
    tokens: Tensor,
    anomalous: Tensor,
    direction: Tensor,
    grid: tuple[int, int, int],
    temperature: float,
) -> Tensor:
    """Mean distance of anomalous tokens to their neighbour average, over the median norm."""
    target = neighbour_average(tokens.detach(), direction, grid, temperature)
    scale = tokens.detach().norm(dim=-1).median()
    return (tokens - target)[anomalous].norm(dim=-1).mean() / scale


def keep_loss(tokens: Tensor, original: Tensor, kept: Tensor) -> Tensor:
    """Mean distance of the ``kept`` ones of (B, T, D) tokens to where they were, over the median norm.

    Without it, the cheapest way to bring an outlier nearer to its neighbours is to move all tokens along
    the defect direction.
    """
    scale = original.norm(dim=-1).median()
    return (tokens - original)[kept].norm(dim=-1).mean() / scale


def _binomial(volume: Tensor) -> Tensor:
    """Filter (B, K, gz, gy, gx) with [1 2 1] / 4 along z, y and x; zero outside."""
    batch, channels = volume.shape[:2]
    flat = volume.reshape(batch * channels, 1, *volume.shape[2:])
    kernel = torch.tensor([0.25, 0.5, 0.25]).to(volume)
    for axis in range(3):
        shape, padding = [1, 1, 1, 1, 1], [0, 0, 0]
        shape[2 + axis], padding[axis] = 3, 1
        flat = functional.conv3d(flat, kernel.reshape(shape), padding=padding)
    return flat.reshape(volume.shape)
