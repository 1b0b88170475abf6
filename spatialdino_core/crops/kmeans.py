"""Content-aware crop positions: cluster the bright voxels and put a crop on each cluster.

Random positions in a sparse volume show mostly background, and the encoder then learns background.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from sklearn.cluster import KMeans
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from spatialdino_core.crops.parameters import CropParameters
from spatialdino_core.geometry.background import histogram_quantile, intensity_histogram

MOST_VOXELS = 5000  # enough for stable centres, and KMeans stays below a second
LEVELS = 65535
SURROUNDINGS = 3.3
Origin = Literal["foreground", "fallback", "uniform"]


@dataclass(frozen=True)
class CropBox:
    """Where a crop lies.

    Attributes
    ----------
    origin_voxels
        First voxel (z, y, x).
    shape_voxels
        Sides (z, y, x); beyond the volume only along an axis that is shorter than a smallest crop.
    placed_on
        What it is centred on: ``foreground`` (between the two percentiles), ``fallback`` (above the
        lower one) or ``uniform`` (any valid voxel).
    """

    origin_voxels: tuple[int, int, int]
    shape_voxels: tuple[int, int, int]
    placed_on: Origin


def crop_boxes(
    volume: NDArray[np.float32],
    valid: NDArray[np.bool_],
    parameters: CropParameters,
    generator: np.random.Generator,
) -> list[CropBox]:
    """Boxes of the crops of one frame, one per cluster of bright voxels.

    Bright is what lies between two percentiles of the valid voxels, and above their median; percentiles
    of the intensity, or with ``attracted_by: detail`` of `fine_detail`. Where fewer such voxels exist than
    crops (little signal, no contrast), it is all voxels above the lower ``fallback_percentile`` and the
    median, with no upper limit; where these are too few as well, all valid voxels.

    Parameters
    ----------
    volume
        Isotropic, normalised to [0, 1], (z, y, x).
    valid
        Bool, same shape: where there are data.
    parameters
        ``crops_per_frame`` boxes are placed, of sides drawn between the two fractions of the volume's,
        axis by axis, but of ``crop_voxels`` at least.
    generator
        Source of all randomness.

    Returns
    -------
    list of CropBox
        Inside the volume; along an axis that is shorter than ``crop_voxels``, from voxel 0 on.
    """
    detailed = parameters.attracted_by == "detail"
    content = fine_detail(volume, valid, parameters.detail_voxels) if detailed else volume
    voxels, placed_on = bright_voxels(content, valid, parameters, generator)
    centres = _cluster(voxels, parameters.crops_per_frame, generator)
    fractions = generator.uniform(
        parameters.min_size_fraction, parameters.max_size_fraction, (len(centres), 3)
    )
    lengths = np.array(volume.shape)
    shapes = np.maximum(np.rint(fractions * lengths).astype(np.intp), parameters.crop_voxels)
    origins = np.rint(centres - (shapes - 1) / 2).astype(np.intp)
    origins = np.clip(origins, 0, np.maximum(lengths - shapes, 0))
    return [
        CropBox((z, y, x), (depth, height, width), placed_on)
        for (z, y, x), (depth, height, width) in zip(origins.tolist(), shapes.tolist(), strict=True)
    ]


def fine_detail(
    volume: NDArray[np.float32], valid: NDArray[np.bool_], sigma_voxels: float
) -> NDArray[np.float32]:
    """How much brighter each voxel is than its surroundings, at the scale of the smallest structures.

    Difference of Gaussians (Marr & Hildreth, Proc. R. Soc. B 207, 187 (1980)) of the square root of the
    intensity, which makes photon noise equally strong everywhere: so one bright organelle does not
    outweigh all single particles around it. Voxels without data count for nothing.

    Parameters
    ----------
    volume
        Isotropic, normalised to [0, 1], (z, y, x).
    valid
        Bool, same shape: where there are data.
    sigma_voxels
        Standard deviation of the smaller Gaussian; the other one is `SURROUNDINGS` times as wide.

    Returns
    -------
    ndarray
        float32, in [0, 1], same shape.
    """
    weight = valid.astype(np.float32)
    evened = np.sqrt(volume) * weight

    def smoothed(sigma: float) -> NDArray[np.float32]:
        result: NDArray[np.float32] = gaussian_filter(evened, sigma)
        result /= np.maximum(gaussian_filter(weight, sigma), 1e-3)
        return result

    detail = smoothed(sigma_voxels)
    detail -= smoothed(SURROUNDINGS * sigma_voxels)
    np.clip(detail * weight, 0, None, out=detail)
    highest = float(detail.max())
    return detail / highest if highest > 0 else detail


def bright_voxels(
    volume: NDArray[np.float32],
    valid: NDArray[np.bool_],
    parameters: CropParameters,
    generator: np.random.Generator,
) -> tuple[NDArray[np.intp], Origin]:
    """At most 5,000 voxels (voxels, 3) that attract crops, and by which rule they do."""

    def between(low: int, high: int) -> NDArray[np.intp]:
        # At most two copies of each plane at a time, never of the volume.
        return sample_voxels(
            lambda z: valid[z] & (_levels(volume[z]) >= low) & (_levels(volume[z]) <= high),
            len(volume),
            MOST_VOXELS,
            generator,
        )

    low, high, lower = content_levels(volume, valid, parameters)
    rules: tuple[tuple[Origin, int, int], ...] = (("foreground", low, high), ("fallback", lower, LEVELS))
    for name, lowest, highest in rules:
        voxels = between(lowest, highest)
        if len(voxels) >= parameters.crops_per_frame:
            return voxels, name
    somewhere = valid if valid.any() else np.ones(volume.shape, bool)
    return sample_voxels(lambda z: somewhere[z], len(volume), MOST_VOXELS, generator), "uniform"


def content_levels(
    volume: NDArray[np.float32], valid: NDArray[np.bool_], parameters: CropParameters
) -> tuple[int, int, int]:
    """Lowest and highest of the 65,536 intensity levels between 0 and 1 that count as foreground, and
    the lowest that does if nothing lies between them."""
    histogram = sum(
        (intensity_histogram(_levels(plane[inside])) for plane, inside in zip(volume, valid, strict=True)),
        np.zeros(LEVELS + 1, np.int64),
    )
    low, high, lower, median = (
        histogram_quantile(histogram, percent / 100)
        for percent in (
            parameters.low_percentile,
            parameters.high_percentile,
            parameters.fallback_percentile,
            50,
        )
    )
    return max(low, median + 1), high, max(lower, median + 1)


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
    ranks = np.arange(min(total, most))
    if total > most:
        ranks = np.sort(generator.choice(total, most, replace=False))
    found = []
    for z, (end, count) in enumerate(zip(ends, counts, strict=True)):
        within = ranks[(ranks >= end - count) & (ranks < end)] - (end - count)
        if len(within):
            in_plane = np.argwhere(chosen(z))[within]
            found.append(np.insert(in_plane, 0, z, axis=1))
    return np.concatenate(found) if found else np.empty((0, 3), np.intp)


def cut_crop(volume: NDArray[np.float32], box: CropBox) -> NDArray[np.float32]:
    """Voxels of a box of (..., z, y, x); a volume that is too small is reflected at its far edge."""
    sides = zip(box.origin_voxels, box.shape_voxels, strict=True)
    where: tuple[Any, ...] = (..., *(slice(o, o + n) for o, n in sides))
    crop = volume[where]
    missing = [(0, n - m) for n, m in zip(box.shape_voxels, crop.shape[-3:], strict=True)]
    if not any(m for _, m in missing):
        return crop
    return np.pad(crop, [(0, 0)] * (crop.ndim - 3) + missing, mode="symmetric")


def _levels(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    return np.rint(values * np.float32(LEVELS)).astype(np.uint16)


def _cluster(points: NDArray[np.intp], clusters: int, generator: np.random.Generator) -> NDArray[np.float64]:
    """Centres of k clusters (Lloyd, 1982); of as many voxels as clusters, the voxels themselves."""
    if len(points) <= clusters:
        return points[generator.integers(len(points), size=clusters)].astype(np.float64)
    kmeans = KMeans(clusters, n_init=1, random_state=int(generator.integers(2**31)))
    # Several threads add up distances in changing order, and centres would differ in their last bits.
    with threadpool_limits(1):
        centres: NDArray[np.float64] = kmeans.fit(points).cluster_centers_
    return centres
