"""Encode a large volume in overlapping windows of the size that the encoder was trained on.

Field of view is part of what a feature means: a token sees its window and nothing else, in training and
here. MONAI slides the window, over patches and not over voxels: at the resolution of its own output it has
nothing to rescale, and so no way to lay windows beside their place, as it silently does where a step, a
window or a volume is not in whole patches. Not attention over a whole frame.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from monai.inferers import sliding_window_inference
from torch import Tensor

from spatialdino_core.encoder.precision import autocast
from spatialdino_core.encoder.vit import VisionTransformer3D

Grid = tuple[int, int, int]


@dataclass(frozen=True)
class Encoded:
    """What the encoder says about a frame of (gz, gy, gx) patches, float32 on the CPU.

    Attributes
    ----------
    tokens
        (D, gz, gy, gx), NaN where there was nothing to encode.
    attention
        (heads, gz, gy, gx): what the class token attends to, times the number of patches it could attend to,
        so that 1 is an average patch however large the window.
    class_token
        (D,), in windows the mean over windows, by how many of their patches have data.
    facts
        How it was done, where that is worth keeping; JSON-able.
    """

    tokens: Tensor
    attention: Tensor
    class_token: Tensor
    facts: dict[str, Any] = field(default_factory=dict)


def encode_windows(
    encoder: VisionTransformer3D,
    volume: Tensor,
    valid: Tensor,
    *,
    window_voxels: int,
    overlap: float,
    batch: int,
    dtype: torch.dtype = torch.float32,
) -> Encoded:
    """Patch tokens of a volume, blended where windows overlap.

    A window weighs a patch by the product over axes of sin²(π (i + ½) / n), i being its number in the
    window's n patches: half overlapping windows then fade into each other with weights that add up to one
    (Hann, as in the overlap-add method; Allen & Rabiner, Proc. IEEE 65, 1558, 1977).

    Parameters
    ----------
    encoder
        In evaluation; its device is where windows are encoded.
    volume
        Normalised voxels (C, z, y, x), float32, sides in whole patches.
    valid
        Bool (gz, gy, gx): patches that have data. Windows without any are not encoded.
    window_voxels
        Side of the cubic window: the field of view of the weights. Along an axis on which the volume is
        shorter the window is as long as the volume: nothing is invented to fill it.
    overlap
        Fraction of a window that neighbours share; rounded so that the step is whole patches. The last window
        along an axis ends with the volume and shares more.
    batch
        Windows encoded at once.
    dtype
        Of the encoder's products, float32 or bfloat16.

    Raises
    ------
    ValueError
        If window or volume are not in whole patches, or ``valid`` is not of the volume's patches.
    """
    patch = encoder.architecture.patch_voxels
    patches = _by_patch(volume, patch)
    if window_voxels % patch or valid.shape != patches.shape[1:]:
        raise ValueError(f"window of {window_voxels}, {tuple(valid.shape)} patches of {tuple(volume.shape)}")
    grid: Grid = patches.shape[1], patches.shape[2], patches.shape[3]
    z, y, x = (min(window_voxels // patch, n) for n in grid)
    roi = (z, y, x)
    step = max(1, round(window_voxels // patch * (1 - overlap)))
    device = next(encoder.parameters()).device
    weight = _weights(roi).to(device)
    summed, seen = torch.zeros(encoder.architecture.embed_dim, dtype=torch.float64), 0.0

    def weighted(windows: Tensor) -> Tensor:
        nonlocal summed, seen
        inside = windows[:, 0].flatten(1).any(1)
        found = windows.new_zeros(len(windows), _channels(encoder), *roi)
        if inside.any():
            with autocast(device, dtype):
                output = encoder(_voxels(windows[inside, 1:], patch), class_attention=True)
            tokens = output.patch_tokens.float().transpose(1, 2)
            attention = output.class_attention * tokens.shape[2]
            found[inside] = torch.cat([tokens, attention, torch.ones_like(tokens[:, :1])], 1).unflatten(
                2, roi
            )
            share = windows[inside, 0].flatten(1).sum(1).cpu().double()
            summed += share @ output.class_token.cpu().double()
            seen += float(share.sum())
        return found * weight

    with torch.inference_mode():
        blended = sliding_window_inference(
            torch.cat([valid[None].to(patches.dtype), patches])[None],
            roi_size=roi,
            sw_batch_size=batch,
            predictor=weighted,
            # MONAI takes int(window · (1 − overlap)) for the step; the half patch keeps it exact.
            overlap=[1 - (step + 0.5) / n if step < n else 0.0 for n in roi],
            mode="constant",
            sw_device=device,
            device=torch.device("cpu"),
        )
    assert isinstance(blended, Tensor)
    assert tuple(blended.shape[2:]) == grid, (blended.shape, grid)
    # MONAI's division by the number of windows, skipped ones included, cancels.
    blended = blended[0, :-1] / blended[0, -1:]
    width = encoder.architecture.embed_dim
    return Encoded(blended[:width], blended[width:], (summed / seen).float())


def whole_patches(volume: np.ndarray, patch: int) -> np.ndarray:
    """(…, z, y, x) completed to whole patches by repeating its far edges: less than a patch of it."""
    missing = [(0, -n % patch) for n in volume.shape[-3:]]
    return (
        np.pad(volume, [(0, 0)] * (volume.ndim - 3) + missing, mode="edge")
        if any(m for _, m in missing)
        else volume
    )


def _by_patch(volume: Tensor, side: int) -> Tensor:
    """(C, z, y, x) to (C · side³, gz, gy, gx): the voxels of a patch as channels."""
    if any(n % side for n in volume.shape[1:]):
        raise ValueError(f"a volume of {tuple(volume.shape)} voxels is not in whole patches of {side}")
    channels, *grid = volume.shape[0], *(n // side for n in volume.shape[1:])
    cut = volume.reshape(channels, grid[0], side, grid[1], side, grid[2], side)
    return cut.permute(0, 2, 4, 6, 1, 3, 5).reshape(-1, *grid)


def _voxels(patches: Tensor, side: int) -> Tensor:
    """The way back, of a batch: (B, C · side³, gz, gy, gx) to (B, C, z, y, x)."""
    batch, _, z, y, x = patches.shape
    cut = patches.reshape(batch, -1, side, side, side, z, y, x).permute(0, 1, 5, 2, 6, 3, 7, 4)
    return cut.reshape(batch, -1, z * side, y * side, x * side)


def _weights(roi: Grid) -> Tensor:
    axes = [torch.sin(math.pi * (torch.arange(n) + 0.5) / n) ** 2 for n in roi]
    return torch.einsum("z,y,x->zyx", *axes)


def _channels(encoder: VisionTransformer3D) -> int:
    return encoder.architecture.embed_dim + encoder.architecture.heads + 1
