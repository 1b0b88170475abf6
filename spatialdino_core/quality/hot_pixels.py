"""Hot pixels of the camera: single pixels brighter than their neighbours in every plane of a raw stack.

Planes are averaged, so that a pixel stands out that is too bright by less than the noise of a plane. What
was imaged is told from it by its neighbours, which a point spread function makes bright as well. What is put
in the place of such pixels is in ``geometry/bad_pixels.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

SIGNIFICANT = 6.0
"""Height above the surroundings, in standard deviations of the averaged planes."""
NARROWEST_IMAGE = 0.3
"""What the narrowest point spread function in use, of 0.65 pixel, leaves of its height one pixel away."""
CERTAIN = 2.0
"""Standard deviations by which the neighbours must fall short of that."""
ALONE = 0.15
"""Most of its height that its neighbours may have: those of a bright particle always have more."""
STEADY = 0.9
"""Share of the planes in which the pixel is brighter than its neighbours."""
BLOCK_PIXELS = 32
"""The noise is measured in squares: a cell is noisier than what is around it."""
LEAST_NOISE = 12**-0.5  # standard deviation of rounding to whole counts

CROSS = np.array([[0, 1, 0], [1, 0, 1], [0, 1, 0]], bool)
AROUND = np.array([[1, 1, 1], [1, 0, 1], [1, 1, 1]], bool)
RING = np.pad(np.zeros((3, 3), bool), 1, constant_values=True)


def hot_pixels(stack: NDArray[Any]) -> NDArray[np.intp]:
    """Hot pixels of a raw stack.

    Parameters
    ----------
    stack
        Camera counts (z, y, x). Planes of a single value hold no image and are left out.

    Returns
    -------
    ndarray
        (n, 2): y and x, in order.

    Notes
    -----
    Heights are those of the mean over planes above the lower quartile of the 16 pixels two away, and the
    height of the neighbours is the second highest of the four. In an image of a point with standard deviation
    σ it is at least exp(−1 / 2σ²) of the highest pixel, wherever in this the point lies; while of two hot
    pixels side by side, each has only one bright neighbour.
    """
    planes = [plane for plane in stack if plane.min() != plane.max()]
    if not planes or min(stack.shape[1:]) < len(RING):
        return np.empty((0, 2), np.intp)
    mean = np.zeros(stack.shape[1:])
    for plane in planes:
        mean += plane
    mean /= len(planes)
    # Beyond the border lies a copy of the border: half a particle there is not alone.
    surroundings = ndimage.percentile_filter(mean, 25, footprint=RING, mode="reflect")
    height = mean - surroundings
    neighbours = ndimage.rank_filter(mean, -2, footprint=CROSS, mode="reflect") - surroundings
    noise = _local_noise(height, LEAST_NOISE / np.sqrt(len(planes)))
    is_hot = height > SIGNIFICANT * noise
    is_hot &= neighbours + CERTAIN * noise < NARROWEST_IMAGE * height
    is_hot &= neighbours < ALONE * height
    places = np.argwhere(is_hot)
    return places[_share_of_planes(places, planes) >= STEADY]


def _local_noise(height: NDArray[np.float64], least: float) -> NDArray[np.float64]:
    """Robust standard deviation in the noisiest of the squares at and next to each pixel, (y, x)."""
    height = np.abs(height - np.median(height))
    rows, columns = (np.arange(n) // BLOCK_PIXELS for n in height.shape)
    starts = [range(0, n, BLOCK_PIXELS) for n in height.shape]
    squares = [
        [np.median(height[y : y + BLOCK_PIXELS, x : x + BLOCK_PIXELS]) for x in starts[1]] for y in starts[0]
    ]
    least = max(least, float(np.median(height)) / 0.6745)
    noise = np.maximum(np.array(squares) / 0.6745, least)
    return np.asarray(ndimage.maximum_filter(noise, 3, mode="nearest")[np.ix_(rows, columns)])


def _share_of_planes(places: NDArray[np.intp], planes: Sequence[NDArray[Any]]) -> NDArray[np.float64]:
    """Share of the planes in which a place (n, 2) is brighter than the median of its neighbours, (n,)."""
    near = places[:, None] + np.argwhere(AROUND) - 1
    near = np.clip(near, 0, np.array(planes[0].shape) - 1)
    y, x = places.T
    number = np.zeros(len(places))
    for plane in planes:
        number += plane[y, x] > np.median(plane[near[..., 0], near[..., 1]], axis=1)
    return number / len(planes)
