"""Encode a large volume in overlapping windows of the size that the encoder was trained on.

Field of view is part of what a feature means: a token sees its window and nothing else, in training
and here. MONAI slides the window; the checks here are for the conditions under which its result lies
where it should (window, step and volume in whole patches).
"""

from __future__ import annotations

import torch
from monai.inferers import sliding_window_inference
from torch import Tensor

from spatialdino_core.encoder.vit import VisionTransformer3D


def padded_length(length: int, window: int, step: int) -> int:
    """Smallest length of at least ``length`` that windows cover exactly at a fixed step (voxels)."""
    return window + step * max(0, -(-(length - window) // step))


def encode_windows(
    encoder: VisionTransformer3D,
    volume: Tensor,
    valid: Tensor,
    *,
    window_voxels: int,
    overlap: float,
    batch: int,
) -> Tensor:
    """Patch tokens of a volume, averaged where windows overlap.

    Parameters
    ----------
    encoder
        In evaluation; its device is where windows are encoded.
    volume
        Normalised voxels (z, y, x), float32.
    valid
        Bool, same shape: where there are data. Windows without any are not encoded; their tokens
        are zero.
    window_voxels
        Side of the cubic window: the field of view of the weights.
    overlap
        Fraction of a window that neighbours share; rounded so that the step is whole patches.
    batch
        Windows encoded at once.

    Returns
    -------
    torch.Tensor
        (D, gz, gy, gx) float32 on the CPU. Patch (k, j, i) covers voxels from
        (k, j, i) · patch on; the volume is completed to whole patches by repeating its edge.
    """
    patch = encoder.architecture.patch_voxels
    device = next(encoder.parameters()).device
    step = max(patch, round(window_voxels * (1 - overlap) / patch) * patch)
    if window_voxels % patch:
        raise ValueError(f"window of {window_voxels} voxels is not in whole patches of {patch}")
    grid = [-(-n // patch) for n in volume.shape]
    lengths = [padded_length(n, window_voxels, step) for n in volume.shape]
    padding = [p for n, m in zip(reversed(volume.shape), reversed(lengths), strict=True) for p in (0, m - n)]
    image = torch.nn.functional.pad(volume[None, None], padding, mode="replicate")
    inside = torch.nn.functional.pad(valid[None, None].to(image.dtype), padding)

    def tokens(windows: Tensor) -> Tensor:
        found = windows.new_zeros(
            windows.shape[0], encoder.architecture.embed_dim, *[window_voxels // patch] * 3
        )
        filled = windows[:, 1].flatten(1).any(1)
        if filled.any():
            output = encoder(windows[filled, :1])
            found[filled] = output.patch_tokens.transpose(1, 2).unflatten(2, output.grid)
        return found

    with torch.inference_mode():
        encoded = sliding_window_inference(
            torch.cat([image, inside], dim=1),
            roi_size=(window_voxels,) * 3,
            sw_batch_size=batch,
            predictor=tokens,
            # MONAI takes int(window · (1 − overlap)) for the step; the half voxel keeps it exact.
            overlap=1 - (step + 0.5) / window_voxels if step < window_voxels else 0.0,
            mode="constant",
            sw_device=device,
            device=torch.device("cpu"),
        )
    assert isinstance(encoded, Tensor)
    assert list(encoded.shape[2:]) == [n // patch for n in lengths], (encoded.shape, lengths)
    return encoded[0, :, : grid[0], : grid[1], : grid[2]].contiguous()
