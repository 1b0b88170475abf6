"""Measures of one raw frame: how bright, how noisy, how sharp, what is broken. Judged elsewhere.

Planes of zeros are counted, and left out of every other measure but the extremes. What needs more than
one frame is in ``bleaching.py`` and ``motion.py``.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from spatialdino_core.geometry.background import (
    LEVELS,
    Histogram,
    histogram_mode,
    histogram_quantile,
    intensity_histogram,
)

SIGNAL_FRACTION = 0.9999
LEAST_NOISE = 12**-0.5  # standard deviation of rounding to whole counts
FULL_SCALES = (2**8 - 1, 2**10 - 1, 2**11 - 1, 2**12 - 1, 2**14 - 1, 2**16 - 1)
LEVELS_BELOW = 4  # occupied ones, that the highest value is held against
PILE_RATIO = 3.0
LEAST_PILE = 10  # voxels
FINE_DETAIL_PIXELS = 4.0
LEAST_CORRELATION = 0.005
DETAIL_LAGS = (1, 4)  # within the image of a particle, and beyond it
STANDARD_ERRORS = 4.0

Stack = NDArray[Any] | Sequence[NDArray[Any]]


@dataclass(frozen=True, kw_only=True)
class FrameMetrics:
    """Measures of one stack.

    Attributes
    ----------
    background
        Most frequent intensity, counts.
    noise
        Standard deviation of the noise, counts: median absolute difference of neighbours along x,
        which particles and slow background hardly touch, divided by 0.6745 √2.
    snr
        (99.99th percentile − background) / noise, a peak signal-to-noise ratio in units of the background's
        standard deviation: how far the brightest 1e-4 of the voxels stand out. Normal noise alone gives
        3.7, the 99.99th percentile of the normal distribution.
    saturated_fraction
        Fraction of voxels at the highest value, if it is a camera's full scale (8, 10, 11, 12, 14 or 16
        bits) or they pile up there: brighter ones were clipped to it.
    signal
        Standard deviation of the image's fine detail without its noise, counts: the square root of the mean
        of (I(x) − I(x + 4)) (I(x + 1) − I(x + 5)), along x and y. The four pixels are different ones, so that
        noise, independent from pixel to pixel, averages out, as in image correlation spectroscopy without
        the zero lag [2]_; the differences leave out the offset and slow background. Proportional to
        brightness. 0 unless four standard errors above 0.
    least_signal
        The signal that would have been noticed, counts.
    empty_planes
        Planes of a single value, such as zeros: they hold no image.
    repeated_planes
        Other planes identical to the one before: a camera that dropped a frame.
    focus
        0 to 1: by how much the autocovariance of fine detail falls from 1 to 2 pixels, Vollath's F4 over
        the autocovariance at 1 pixel [1]_. White noise adds to neither term, so that a dim sharp image
        is not taken for a blurred one. 0 without detail.
    lowest, highest
        Extremes, counts.
    percentile_1, percentile_50, percentile_99
        Of the intensities, counts.

    References
    ----------
    .. [1] Vollath, Journal of Microscopy 147, 279 (1987).
    .. [2] Petersen, Höddelius, Wiseman, Seger & Magnusson, Biophysical Journal 65, 1135 (1993).
    """

    background: float
    noise: float
    snr: float
    signal: float
    least_signal: float
    saturated_fraction: float
    empty_planes: int
    repeated_planes: int
    focus: float
    lowest: float
    highest: float
    percentile_1: float
    percentile_50: float
    percentile_99: float


def frame_metrics(stack: Stack) -> FrameMetrics:
    """Measure a raw stack.

    Parameters
    ----------
    stack
        Camera counts (z, y, x); uint16, or another type of which the counts are rounded to uint16.
        Planes are handled one at a time, and may be of different shapes: of some only a part may be data.
    """
    histogram = np.zeros(LEVELS, np.int64)
    for plane in _recorded(stack):
        histogram += intensity_histogram(plane)
    background = histogram_mode(histogram)
    noise = _noise(stack)
    signal, least_signal = _signal(stack, noise)
    return FrameMetrics(
        background=background,
        noise=noise,
        signal=signal,
        least_signal=least_signal,
        snr=max(histogram_quantile(histogram, SIGNAL_FRACTION) - background, 0.0) / noise,
        saturated_fraction=_saturated_fraction(histogram),
        empty_planes=sum(_is_empty(plane) for plane in stack),
        repeated_planes=_repeated_planes(stack),
        focus=_focus(stack),
        lowest=min(float(plane.min()) for plane in stack),
        highest=max(float(plane.max()) for plane in stack),
        percentile_1=float(histogram_quantile(histogram, 0.01)),
        percentile_50=float(histogram_quantile(histogram, 0.5)),
        percentile_99=float(histogram_quantile(histogram, 0.99)),
    )


def _recorded(stack: Stack) -> Iterator[NDArray[np.uint16]]:
    """Planes that are not empty, as uint16."""
    for plane in stack:
        if plane.any():
            whole = plane if plane.dtype in (np.uint8, np.uint16) else np.rint(plane).clip(0, LEVELS - 1)
            yield whole.astype(np.uint16, copy=False)


def _is_empty(plane: NDArray[Any]) -> bool:
    return bool(plane.min() == plane.max())


def _noise(stack: Stack) -> float:
    """Robust standard deviation of the difference of neighbours along x, over √2."""
    steps = np.zeros(LEVELS, np.int64)
    for plane in _recorded(stack):
        steps += intensity_histogram(np.abs(np.diff(plane.astype(np.int32), axis=1)).astype(np.uint16))
    median = _continuous_median(steps)
    return max(median / 0.6745 / np.sqrt(2), LEAST_NOISE)


def _continuous_median(distances: Histogram) -> float:
    """Median of distances that were rounded to whole counts: counts are spread evenly over their bin,
    or noise could only be measured in steps of a whole count."""
    cumulative = np.concatenate([[0], np.cumsum(distances)])
    upper_edges = np.concatenate([[0], np.arange(len(distances)) + 0.5])
    return float(np.interp(cumulative[-1] / 2, cumulative, upper_edges)) if cumulative[-1] else 0.0


def _saturated_fraction(histogram: Histogram) -> float:
    """Share of the highest value, if it is saturated.

    Intensities thin out towards the highest; where it holds several times as many voxels as any of the values
    just below, those above were clipped. Values are those that occur, whatever lies between them: counts may
    be multiples of 16. The excess must be above chance by `STANDARD_ERRORS` of a Poisson distribution.
    """
    occupied = np.flatnonzero(histogram)
    if len(occupied) == 0:
        return 0.0
    top = histogram[occupied[-1]]
    below = histogram[occupied[-1 - LEVELS_BELOW : -1]].max(initial=0)
    expected = PILE_RATIO * below
    piled = len(occupied) > 2 and top > LEAST_PILE + expected + STANDARD_ERRORS * np.sqrt(expected)
    return float(top / histogram.sum()) if piled or occupied[-1] in FULL_SCALES else 0.0


def _repeated_planes(stack: Stack) -> int:
    return sum(
        not _is_empty(plane) and np.array_equal(plane, before) for before, plane in itertools.pairwise(stack)
    )


def _focus(stack: Stack) -> float:
    """Fall of the autocovariance of fine detail from lag 1 to lag 2, in y and x."""
    covariance = np.zeros(3)
    for plane in _recorded(stack):
        if min(plane.shape) <= 2:
            continue
        detail = plane.astype(np.float32)
        detail -= gaussian_filter(detail, FINE_DETAIL_PIXELS)
        for lag in range(3):
            covariance[lag] += np.mean(detail[:, lag:] * detail[:, : detail.shape[1] - lag], dtype=np.float64)
            covariance[lag] += np.mean(detail[lag:] * detail[: len(detail) - lag], dtype=np.float64)
    if covariance[1] <= LEAST_CORRELATION * covariance[0]:
        return 0.0
    return float(np.clip(1 - covariance[2] / covariance[1], 0, 1))


def _signal(stack: Stack, noise: float) -> tuple[float, float]:
    """Standard deviation of fine detail, from products of differences that share no pixel; the least seen."""
    near, far = DETAIL_LAGS
    total, number = 0.0, 0
    for plane in _recorded(stack):
        for image in (plane.astype(np.float32), plane.T.astype(np.float32)):
            steps = image[:, :-far] - image[:, far:]
            products = steps[:, :-near] * steps[:, near:]
            total += float(products.sum(dtype=np.float64))
            number += products.size
    if number == 0:
        return 0.0, 0.0
    # A product of two steps has the variance 4 noise⁴; products 4 pixels apart correlate by 1/4 each way.
    standard_error = 2 * noise**2 * np.sqrt(1.5 / number)
    variance, least = total / number, STANDARD_ERRORS * standard_error
    return float(np.sqrt(variance)) if variance > least else 0.0, float(np.sqrt(least))
