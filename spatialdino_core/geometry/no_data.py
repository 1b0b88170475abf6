"""Voxels of a raw stack that hold no data: borders that another program has filled with one value.

A program that deskews or crops puts a constant, mostly 0, where nothing was imaged. Taken for background, it
hides the noise, and where it ends is an edge that looks like structure. Not planes that a camera dropped.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from spatialdino_core.geometry.background import (
    LEVELS,
    Histogram,
    histogram_mode,
    histogram_quantile,
    intensity_histogram,
)

LEAST_SHARE = 0.01
"""Of the voxels of a stack: less is no border worth the name."""
LEAST_PLANES = 0.5
"""Share of the planes that must have such a border."""
APART = 6.0
"""Distance from the background, in its standard deviations, at which no camera count lies."""
MOST_BETWEEN = 0.2
"""Most voxels with other values beyond that distance, as a part of those with the value: edges may have been
interpolated, but many such values are those of an image, clipped."""


def no_data_value(stack: NDArray[np.uint16]) -> int | None:
    """The value that fills the borders of a raw stack; ``None`` if its borders are data.

    Parameters
    ----------
    stack
        Camera counts (z, y, x), uint16.
    """
    planes = [plane for plane in stack if plane.min() != plane.max()]
    if not planes:
        return None
    borders = np.concatenate([np.concatenate([p[0], p[-1], p[:, 0], p[:, -1]]) for p in planes])
    value = int(np.bincount(borders).argmax())
    # Most movies need no more than their borders to be looked at.
    if (borders != value).any() and _counts_range([borders], value) is None:
        return None
    counts = _counts_range(planes, value)
    if counts is None:
        return None
    shares = [_from_the_border(~_within(plane, counts)).mean() for plane in planes]
    enough = np.mean(shares) >= LEAST_SHARE and np.count_nonzero(shares) >= LEAST_PLANES * len(shares)
    return value if enough else None


def no_data_region(stack: NDArray[np.uint16], value: int) -> NDArray[np.bool_]:
    """Where a raw stack whose borders are filled with a value has no data, bool (z, y, x).

    In each plane all that is connected with its border and beyond any camera count: also edges that were
    interpolated between data and the value.
    """
    counts = _counts_range(stack, value)
    region = np.zeros(stack.shape, bool)
    if counts is not None:
        for plane, where in zip(stack, region, strict=True):
            where[:] = _from_the_border(~_within(plane, counts))
    return region


def inner_parts(stack: NDArray[Any], region: NDArray[np.bool_]) -> list[NDArray[Any]]:
    """Of each plane with data a rectangle that has nothing else, as large as is easily found; views."""
    parts = []
    for plane, outside in zip(stack, region, strict=True):
        y, x = slice(0, plane.shape[0]), slice(0, plane.shape[1])
        while outside[y, x].any():
            # The side of which most is missing goes, until nothing is.
            inner = outside[y, x]
            missing = [inner[0].mean(), inner[-1].mean(), inner[:, 0].mean(), inner[:, -1].mean()]
            side = int(np.argmax(missing))
            y = slice(y.start + (side == 0), y.stop - (side == 1))
            x = slice(x.start + (side == 2), x.stop - (side == 3))
            if y.start >= y.stop or x.start >= x.stop:
                break
        else:
            parts.append(plane[y, x])
    return parts


def _counts_range(images: Iterable[NDArray[np.uint16]], value: int) -> tuple[float, float] | None:
    """Lowest and highest possible camera count; ``None`` if the value may be one."""
    histogram = np.zeros(LEVELS, np.int64)
    for image in images:
        histogram += intensity_histogram(image)
    filled, histogram[value] = int(histogram[value]), 0
    if np.count_nonzero(histogram) < 2:
        return None
    background = histogram_mode(histogram)
    if value > background:
        # Signal lies there, too: the value must be far above all of it.
        highest = int(np.flatnonzero(histogram)[-1])
        is_apart = value - background > 2 * (highest - background)
        return (-math.inf, (value + highest) / 2) if is_apart else None
    lowest = background - APART * _spread(histogram, background)
    others = int(histogram[: max(0, math.ceil(lowest))].sum())
    is_apart = value < lowest and others <= MOST_BETWEEN * filled
    return (lowest, math.inf) if is_apart else None


def _within(plane: NDArray[np.uint16], counts: tuple[float, float]) -> NDArray[np.bool_]:
    return np.asarray((plane >= counts[0]) & (plane <= counts[1]))


def _spread(histogram: Histogram, background: float) -> float:
    """Standard deviation of the background, counts: of the half below it, which is free of signal; no less
    than the step between counts, which is more than one in images that were scaled."""
    mode = round(background)
    others = np.flatnonzero(histogram)
    steps = np.abs(others[others != mode] - mode)
    step = float(steps.min()) if len(steps) else math.inf
    return max(step, histogram_quantile(histogram[: mode + 1][::-1], 0.6827))


def _from_the_border(plane: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The parts of a plane (y, x) that touch its border."""
    labels, number = ndimage.label(plane)
    touches = np.zeros(number + 1, bool)
    for edge in (labels[0], labels[-1], labels[:, 0], labels[:, -1]):
        touches[edge] = True
    touches[0] = False
    return np.asarray(touches[labels])
