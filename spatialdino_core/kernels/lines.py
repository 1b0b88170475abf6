"""Weighted sums along one axis of a volume: the PyTorch reference and the dispatch point.

``out[… i …] = Σ_k weights[k] · volume[… i + k − reach …]``, zero beyond the volume: one axis of a separable
filter. Terms are added in the order of k whatever lies beside them, so that a part of a volume has the bits
of the whole. Nothing here is a convolution to cuDNN, hence nothing is rounded to TF32. What the CPU does
instead is in `segment.detect.convolve`, row by row.
"""

from __future__ import annotations

import numpy as np
from torch import Tensor, zeros_like

from spatialdino_core.kernels.lines_triton import filter_lines_triton


def filter_lines(volume: Tensor, weights: np.ndarray, axis: int) -> Tensor:
    """What :func:`filter_lines_reference` defines, on the device of ``volume``; parameters are the same."""
    found = filter_lines_triton(volume, weights, axis) if volume.device.type == "cuda" else None
    return filter_lines_reference(volume, weights, axis) if found is None else found


def filter_lines_reference(volume: Tensor, weights: np.ndarray, axis: int) -> Tensor:
    """What every implementation computes.

    Parameters
    ----------
    volume
        float32, C-contiguous.
    weights
        Shape (2 · reach + 1,), float32.
    axis
        Along which.

    Returns
    -------
    Tensor
        float32, of the same shape.
    """
    out, length, reach = zeros_like(volume), volume.shape[axis], len(weights) // 2
    for shift, weight in enumerate(weights.tolist(), start=-reach):
        count = length - abs(shift)
        if count > 0:
            seen = volume.narrow(axis, max(shift, 0), count)
            out.narrow(axis, max(-shift, 0), count).add_(seen, alpha=weight)
    return out
