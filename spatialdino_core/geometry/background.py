"""The camera background of a uint16 frame, read off its exact intensity histogram.

Not the noise, and not a background that varies across the frame.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

LEVELS = 65536
PART = 2**22

Histogram = NDArray[np.int64]


def intensity_histogram(values: NDArray[np.uint16], valid: NDArray[np.bool_] | None = None) -> Histogram:
    """Number of voxels of each of the 65,536 intensities.

    Histograms of parts add up to the histogram of the whole, exactly.

    Parameters
    ----------
    values
        uint16, of any shape.
    valid
        Only voxels that are True here count; broadcast to the shape of ``values``.

    Raises
    ------
    TypeError
        If ``values`` are not uint16.
    """
    if values.dtype != np.uint16:
        raise TypeError(f"values are {values.dtype}; an exact histogram needs uint16")
    mask = None if valid is None else np.broadcast_to(valid, values.shape)
    histogram = np.zeros(LEVELS, np.int64)
    # In parts, since bincount copies its input to 8-byte integers.
    length = PART if values.ndim == 1 else 1
    for start in range(0, len(values), length):
        part = values[start : start + length]
        chosen = part.ravel() if mask is None else part[mask[start : start + length]]
        histogram += np.bincount(chosen, minlength=LEVELS)
    return histogram


def histogram_quantile(histogram: Histogram, fraction: float) -> int:
    """Smallest intensity that at least ``fraction`` of the voxels do not exceed; 0 without voxels."""
    cumulative = np.cumsum(histogram)
    if cumulative[-1] == 0:
        return 0
    return int(np.searchsorted(cumulative, max(fraction * cumulative[-1], 1)))


def estimate_background(raw: NDArray[np.uint16], no_data: int | None = None) -> float:
    """Camera background of a frame: the most frequent intensity, to a fraction of a count.

    Voxels of value 0 are left out: dropped planes and padding, since a camera has an offset.

    Parameters
    ----------
    raw
        uint16, of any shape.
    no_data
        Another value that is left out: what fills the borders of the stack.

    Returns
    -------
    float
        Counts; 0 for a frame without any voxel above 0.
    """
    histogram = intensity_histogram(raw)
    if no_data is not None:
        histogram[no_data] = 0
    return histogram_mode(histogram)


def histogram_mode(histogram: Histogram) -> float:
    """Mode of the intensities above 0: half-sample mode [1]_, refined by a parabola through the
    logarithm of the histogram's peak [2]_, which is exact for a Gaussian peak.

    References
    ----------
    .. [1] Bickel & Frühwirth, Computational Statistics & Data Analysis 50, 3500 (2006).
    .. [2] Caruana, Searle, Heller & Shupack, Analytical Chemistry 58, 1162 (1986).
    """
    counts = histogram.copy()
    counts[0] = 0
    if not counts.any():
        return 0.0
    mode = _half_sample_mode(counts)
    # The half below the mode is free of signal: it tells the width of the peak.
    below = counts[: mode + 1][::-1]
    width = histogram_quantile(below, 0.5) / 0.6745
    reach = max(2, math.ceil(width))
    values = np.arange(max(mode - reach, 1), min(mode + reach + 1, LEVELS))
    values = values[counts[values] > 0]
    if len(values) < 5:
        return float(mode)
    a, b, _ = np.polyfit(values - mode, np.log(counts[values]), 2, w=np.sqrt(counts[values]))
    vertex = -b / (2 * a) if a < 0 else 0.0
    return mode + vertex if abs(vertex) <= reach else float(mode)


def _half_sample_mode(counts: Histogram) -> int:
    """Repeatedly keep the shortest interval of intensities that holds half of the voxels."""
    values = np.flatnonzero(counts)
    cumulative = np.concatenate([[0], np.cumsum(counts[values])])
    low, high = 0, len(values)
    while high - low > 2:
        half = math.ceil((cumulative[high] - cumulative[low]) / 2)
        starts = np.arange(low, high)
        starts = starts[cumulative[starts] + half <= cumulative[high]]
        stops = np.searchsorted(cumulative, cumulative[starts] + half)
        held = cumulative[stops] - cumulative[starts]
        best = np.lexsort((-held, values[stops - 1] - values[starts]))[0]
        if (starts[best], stops[best]) == (low, high):
            break
        low, high = int(starts[best]), int(stops[best])
    return int(values[low + int(np.argmax(counts[values[low:high]]))])
