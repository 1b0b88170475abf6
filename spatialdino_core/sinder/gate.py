"""Does this encoder have singular defects? Tokens of excessive norm, and whether they point where predicted.

Diagnosis comes before repair: small encoders often have none, and bright foreground may have larger
norms without any defect. Not the repair itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from spatialdino_core.encoder.vit import VisionTransformer3D
from spatialdino_core.sinder.parameters import RepairParameters


@dataclass(frozen=True)
class BlockFigures:
    """Patch tokens after one block; angles are None where there is no token to measure.

    Attributes
    ----------
    block
        Index of the block.
    outlier_rate
        Share of patch tokens with an excessive norm.
    outlier_angle_deg, normal_angle_deg
        Median angle of outliers and of other tokens to the line of the predicted direction, degrees;
        chance is about 90 minus 55 / sqrt(D).
    max_norm_ratio
        Largest norm over the median norm.
    defective
        Whether the block passes the gate: outliers that point in the predicted direction.
    """

    block: int
    outlier_rate: float
    outlier_angle_deg: float | None
    normal_angle_deg: float | None
    max_norm_ratio: float
    defective: bool


def outliers(norms: Tensor, mads: float, ratio: float) -> Tensor:
    """Mark norms that are large in two ways, because among nearly equal tokens deviations say little.

    Parameters
    ----------
    norms
        Norms of tokens, of any shape; median and deviation are taken over all of them.
    mads
        An outlier exceeds the median by more than this many median absolute deviations,
    ratio
        and exceeds this many medians.

    Returns
    -------
    torch.Tensor
        bool, of the same shape.
    """
    median = norms.median()
    deviation = (norms - median).abs().median()
    return norms > torch.maximum(median + mads * deviation, ratio * median)


def alignment(tokens: Tensor, direction: Tensor) -> Tensor:
    """Absolute cosine of (..., D) tokens to a (D,) unit vector."""
    return (tokens @ direction).abs() / tokens.norm(dim=-1).clamp(min=1e-12)


@torch.no_grad()
def diagnose(
    encoder: VisionTransformer3D, volumes: Iterable[Tensor], directions: Tensor, parameters: RepairParameters
) -> list[BlockFigures]:
    """Measure the patch tokens after every block.

    Parameters
    ----------
    encoder
        The encoder.
    volumes
        Batches (B, C, Z, Y, X) on its device; read once.
    directions
        (depth, D) predicted defect directions.
    parameters
        Thresholds of the gate.
    """
    norms: list[list[Tensor]] = [[] for _ in directions]
    cosines: list[list[Tensor]] = [[] for _ in directions]
    for volume in volumes:
        x, grid = encoder.embed(volume)
        rotation = encoder.rotation(grid)
        for index, block in enumerate(encoder.blocks):
            x = block(x, rotation)
            patches = x[:, encoder.first_patch :]
            norms[index].append(patches.norm(dim=-1).flatten().cpu())
            cosines[index].append(alignment(patches, directions[index]).flatten().cpu())
    return [
        _figures(index, torch.cat(norms[index]), torch.cat(cosines[index]), parameters)
        for index in range(len(directions))
    ]


def verdict(figures: list[BlockFigures], parameters: RepairParameters) -> tuple[bool, list[str]]:
    """Decide whether to repair, with the reason for each block that has outliers."""
    reasons = []
    for block in figures:
        if block.outlier_rate <= parameters.min_outlier_rate:
            continue
        reasons.append(
            f"block {block.block}: {100 * block.outlier_rate:.2g} % of tokens are outliers, "
            f"{block.outlier_angle_deg:.0f}° from the predicted direction "
            f"(other tokens {block.normal_angle_deg:.0f}°): {'a defect' if block.defective else 'no defect'}"
        )
    if not reasons:
        rate = max(block.outlier_rate for block in figures)
        reasons = [f"at most {100 * rate:.2g} % of tokens are outliers after any block"]
    return any(block.defective for block in figures), reasons


def _figures(index: int, norms: Tensor, cosines: Tensor, parameters: RepairParameters) -> BlockFigures:
    out = outliers(norms, parameters.outlier_mads, parameters.min_norm_ratio)
    rate = float(out.double().mean())
    angles = torch.rad2deg(torch.acos(cosines.double().clamp(max=1)))
    outlier_angle, normal_angle = _median(angles[out]), _median(angles[~out])
    defective = (
        rate > parameters.min_outlier_rate
        and outlier_angle is not None
        and normal_angle is not None
        and outlier_angle < parameters.max_angle_deg
        and normal_angle - outlier_angle > parameters.min_contrast_deg
    )
    ratio = float(norms.max() / norms.median().clamp(min=1e-12))
    return BlockFigures(index, rate, outlier_angle, normal_angle, ratio, defective)


def _median(values: Tensor) -> float | None:
    return float(values.median()) if len(values) else None
