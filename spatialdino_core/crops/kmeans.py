"""Content-aware crop positions: cluster the bright voxels and put a crop on each cluster.

Random positions in a sparse volume show mostly background, and the encoder then learns background.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from spatialdino_core.crops.parameters import CropParameters
from spatialdino_core.geometry.background import histogram_quantile, intensity_histogram

MOST_VOXELS = 5000  # enough for stable centres, and KMeans stays below a second
LEVELS = 65535


def crop_origins(
    volume: NDArray[np.float32],
    valid: NDArray[np.bool_],
    parameters: CropParameters,
    generator: np.random.Generator,
) -> NDArray[np.intp]:
    """First voxels of the crops of one frame.

    Content is what lies between two percentiles of the valid voxels, and above their median. Each
    cluster of it attracts a crop; crops without a cluster of their own lie at random valid voxels, in a
    volume without contrast all of them.

    Parameters
    ----------
    volume
        Isotropic, normalised to [0, 1], (z, y, x).
    valid
        Bool, same shape: where there are data.
    parameters
        ``crops_per_frame`` boxes of ``crop_voxels`` are placed.
    generator
        Source of all randomness.

    Returns
    -------
    ndarray
        (crops_per_frame, 3) int, each box inside the volume; along an axis that is shorter than a
        crop, 0.
    """
    low, high = content_levels(volume, valid, parameters)
    # At most two copies of each plane at a time, never of the volume.
    content = sample_voxels(
        lambda z: valid[z] & (_levels(volume[z]) >= low) & (_levels(volume[z]) <= high),
        len(volume),
        MOST_VOXELS,
        generator,
    )
    clusters = min(parameters.crops_per_frame, len(content))
    centres = _cluster(content, clusters, generator)
    missing = parameters.crops_per_frame - clusters
    somewhere = valid if valid.any() else np.ones(volume.shape, bool)
    random = sample_voxels(lambda z: somewhere[z], len(volume), missing, generator)
    if 0 < len(random) < missing:
        random = random[generator.integers(len(random), size=missing)]
    side = parameters.crop_voxels
    corners = np.rint(np.concatenate([centres, random]) - (side - 1) / 2).astype(np.intp)
    return np.clip(corners, 0, np.maximum(np.array(volume.shape) - side, 0))


def content_levels(
    volume: NDArray[np.float32], valid: NDArray[np.bool_], parameters: CropParameters
) -> tuple[int, int]:
    """Lowest and highest of the 65,536 intensity levels between 0 and 1 that count as content."""
    histogram = sum(
        (intensity_histogram(_levels(plane[inside])) for plane, inside in zip(volume, valid, strict=True)),
        np.zeros(LEVELS + 1, np.int64),
    )
    low, median, high = (
        histogram_quantile(histogram, percent / 100)
        for percent in (parameters.low_percentile, 50, parameters.high_percentile)
    )
    return max(low, median + 1), high


def sample_voxels(
    chosen: Callable[[int], NDArray[np.bool_]], planes: int, most: int, generator: np.random.Generator
) -> NDArray[np.intp]:
    """Coordinates of the chosen voxels, or of ``most`` random ones of them if they are more.

    Parameters
    ----------
    chosen
        Bool (y, x) mask of a plane.

    Returns
    -------
    ndarray
        (voxels, 3) int, in the order of the volume.
    """
    counts = [int(np.count_nonzero(chosen(z))) for z in range(planes)]
    ends = np.cumsum(counts)
    total = int(ends[-1])
    ranks = np.arange(total)
    if total > most:
        ranks = np.sort(generator.choice(total, most, replace=False))
    found = []
    for z, (end, count) in enumerate(zip(ends, counts, strict=True)):
        within = ranks[(ranks >= end - count) & (ranks < end)] - (end - count)
        if len(within):
            in_plane = np.argwhere(chosen(z))[within]
            found.append(np.insert(in_plane, 0, z, axis=1))
    return np.concatenate(found) if found else np.empty((0, 3), np.intp)


def cut_crop(volume: NDArray[np.float32], origin: NDArray[np.intp], side: int) -> NDArray[np.float32]:
    """Crop of ``side`` voxels from ``origin`` on; a volume that is too small is reflected at its far edge."""
    crop = volume[tuple(slice(o, o + side) for o in origin)]
    missing = [(0, side - n) for n in crop.shape]
    return np.pad(crop, missing, mode="symmetric") if any(m for _, m in missing) else crop


def _levels(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    return np.rint(values * np.float32(LEVELS)).astype(np.uint16)


def _cluster(points: NDArray[np.intp], clusters: int, generator: np.random.Generator) -> NDArray[np.float64]:
    if clusters == 0:
        return np.empty((0, 3))
    kmeans = KMeans(clusters, n_init=1, random_state=int(generator.integers(2**31)))
    # Several threads add up distances in changing order, and centres would differ in their last bits.
    with threadpool_limits(1):
        centres: NDArray[np.float64] = kmeans.fit(points).cluster_centers_
    return centres
