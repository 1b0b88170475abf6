"""Measures of one raw frame: how bright, how noisy, how sharp, what is broken. Judged elsewhere."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import laplace

MAD_TO_STD = 1.4826


@dataclass(frozen=True, kw_only=True)
class FrameMetrics:
    """Measures of one stack.

    Attributes
    ----------
    background
        Lower quartile of the voxels (the median of their darker half), counts.
    noise
        Standard deviation of the noise, counts: from the median absolute difference of neighbours
        along x, which particles and slow background hardly touch, divided by √2.
    snr
        (99.9th percentile − background) / noise.
    saturated_fraction
        Fraction of voxels at the largest value that the dtype holds.
    empty_planes
        Planes of zeros.
    repeated_planes
        Planes identical to the one before: a camera that dropped a frame.
    focus
        Variance of the Laplacian within planes over the variance of the noise it would have from
        noise alone (20·noise²); 1 means no detail above noise.
    lowest, highest
        Extremes, counts.
    """

    background: float
    noise: float
    snr: float
    saturated_fraction: float
    empty_planes: int
    repeated_planes: int
    focus: float
    lowest: float
    highest: float


def frame_metrics(stack: np.ndarray) -> FrameMetrics:
    """Measure a raw stack (z, y, x) of camera counts."""
    filled = stack[stack.any(axis=(1, 2))]
    voxels = filled if filled.size else stack
    background = float(np.quantile(voxels, 0.25))
    steps = np.diff(voxels.astype(np.float32), axis=2)
    noise = max(float(MAD_TO_STD * np.median(np.abs(steps - np.median(steps))) / np.sqrt(2)), 1e-6)
    top = np.iinfo(stack.dtype).max if stack.dtype.kind in "iu" else np.inf
    detail = np.mean([laplace(plane.astype(np.float32)).var() for plane in voxels])
    same = (stack[1:] == stack[:-1]).all(axis=(1, 2)) & stack[1:].any(axis=(1, 2))
    return FrameMetrics(
        background=background,
        noise=noise,
        snr=(float(np.quantile(voxels, 0.999)) - background) / noise,
        saturated_fraction=float((stack >= top).mean()),
        empty_planes=len(stack) - len(filled),
        repeated_planes=int(same.sum()),
        focus=float(detail / (20 * noise**2)),
        lowest=float(stack.min()),
        highest=float(stack.max()),
    )
