"""The filters of detection as scipy does them, on whole arrays, and the project's own on whole frames."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import ndimage

from spatialdino_core.segment.detect.sweep import Channels, Responses, Source
from spatialdino_core.segment.detect.tiles import Rows
from spatialdino_core.segment.optics import FACTORS, MEAN_FACTOR, STEPS
from spatialdino_core.segment.volume import Volume


def gaussian(block: np.ndarray, sigma: np.ndarray) -> np.ndarray:
    return ndimage.gaussian_filter(block, sigma, mode="constant", truncate=4.0)


def flattened(block: np.ndarray, valid: np.ndarray | None, sigma: np.ndarray) -> np.ndarray:
    """Minus the mean of the valid voxels around; zero where invalid."""
    known = np.broadcast_to(True if valid is None else valid, block.shape)
    held = np.where(known, block, 0.0)
    support = gaussian(known.astype(np.float64), MEAN_FACTOR * sigma)
    mean = gaussian(held, MEAN_FACTOR * sigma) / np.maximum(support, 1e-9)
    return np.where(known, held - mean, 0.0)


def laplacian(block: np.ndarray, sigma: np.ndarray) -> np.ndarray:
    """Negative second differences times variances, zero beyond the block."""
    second = [
        ndimage.convolve1d(block, [-1.0, 2.0, -1.0], axis, mode="constant") for axis in range(block.ndim)
    ]
    return np.tensordot(np.asarray(sigma) ** 2, second, axes=1)


def channels(block: np.ndarray, sigma: np.ndarray) -> np.ndarray:
    """Shape (channels, z, y, x)."""
    found, block = [], block.astype(np.float64)
    for factor, step in zip(FACTORS, STEPS, strict=True):
        block = gaussian(block, step * sigma)
        found.append(laplacian(block, factor * sigma))
    return np.stack(found)


def response(images: Sequence[np.ndarray], weights: np.ndarray, sigma: np.ndarray) -> np.ndarray:
    """Sum of the channels of images (z, y, x) with weights (images, channels)."""
    total = np.zeros(images[0].shape)
    for channel in reversed(range(len(FACTORS))):
        for image, weight in zip(images, weights[:, channel], strict=True):
            total += weight * FACTORS[channel] ** 2 * image
        total = gaussian(total, STEPS[channel] * sigma)
    return laplacian(total, sigma)


def swept(
    images: Sequence[np.ndarray],
    weights: np.ndarray | None,
    valid: np.ndarray | None,
    sigma: np.ndarray,
    rows: Rows | None = None,
    responses: Any = Responses,
) -> np.ndarray:
    """What the project makes of ``rows``: responses (detectors, z, y, x), or all channels without weights."""
    depth, height, width = images[0].shape
    rows = (0, height) if rows is None else rows
    volumes = [Volume(image, (1.0, 1.0, 1.0), valid) for image in images]
    source = Source.of(volumes, sigma)
    part = slice(0, depth), slice(0, width)
    sweep = Channels(source, rows, part) if weights is None else responses(source, weights, rows, part)
    found = np.full((len(sweep.rings), depth, rows[1] - rows[0], width), np.nan, np.float32)
    for first, stop in sweep:
        for whole, ring in zip(found, sweep.rings, strict=True):
            whole[:, first - rows[0] : stop - rows[0]] = ring[np.arange(first, stop) % len(ring)].swapaxes(
                0, 1
            )
    assert np.isfinite(found).all()
    return found
