"""Small statistics that several rooms need. Not those of one room, which lives with its subject."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

MAD_TO_SIGMA = 1.4826
"""Standard deviation of a normal distribution over its median absolute deviation, 1 / Φ⁻¹(3/4)."""


def evenly_spread(count: int, most: int) -> NDArray[np.intp]:
    """Indices of at most ``most`` of ``count`` items, evenly spread, first and last among them.

    Examples
    --------
    >>> evenly_spread(9, 3).tolist()
    [0, 4, 8]
    >>> evenly_spread(3, 10).tolist()
    [0, 1, 2]
    """
    return np.linspace(0, count - 1, min(most, count)).round().astype(np.intp)
