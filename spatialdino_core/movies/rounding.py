"""What rounding to whole counts does to a stack of fractions. Integers and whole numbers lose nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

HIGHEST_COUNT = 65535
PLANES = 16  # at most are looked at, evenly spread
PEAK_FRACTION = 0.9999
LEAST_NOISE = 0.5  # counts; below, rounding (0.29 counts rms) adds more than 15 % to it
LEAST_LEVELS = 100  # between background and the brightest voxels; with fewer, dim particles vanish
FACTORS = tuple(10**power for power in range(1, 10))


@dataclass(frozen=True, kw_only=True)
class Rounding:
    """A stack of fractions, in terms of whole counts.

    Attributes
    ----------
    noise
        Standard deviation of the noise, counts.
    levels
        Whole counts from the median to the 99.99th percentile.
    highest
        Largest value, counts.
    """

    noise: float
    levels: int
    highest: float

    @property
    def loses(self) -> bool:
        """Whether neither the noise nor the range of the signal is kept."""
        return self.noise < LEAST_NOISE and self.levels < LEAST_LEVELS

    @property
    def factor(self) -> int:
        """Power of ten that makes the noise 2 counts or more and the range 1000, if 16 bits can hold it."""
        fits = [factor for factor in FACTORS if self.highest * factor <= HIGHEST_COUNT] or [1]
        enough = [
            factor
            for factor in fits
            if self.noise * factor >= 4 * LEAST_NOISE and self.levels * factor >= 10 * LEAST_LEVELS
        ]
        return (enough or fits[-1:])[0]

    def __str__(self) -> str:
        return f"noise of {self.noise:.2g} counts, {self.levels} levels"


def rounding_of(stack: NDArray[Any]) -> Rounding | None:
    """What rounding would do to a stack (z, y, x); ``None`` where it changes nothing.

    Noise is the median absolute difference of neighbours along x over 0.6745 √2.
    """
    if stack.dtype.kind != "f":
        return None
    places = np.linspace(0, len(stack) - 1, min(PLANES, len(stack))).round().astype(int)
    part = stack[places].astype(np.float64)
    if np.array_equal(part, np.rint(part)):
        return None
    noise = np.median(np.abs(np.diff(part, axis=-1))) / 0.6745 / np.sqrt(2) if part.shape[-1] > 1 else 0.0
    middle, peak = np.quantile(part, [0.5, PEAK_FRACTION])
    return Rounding(noise=float(noise), levels=round(peak - middle), highest=float(stack.max()))
