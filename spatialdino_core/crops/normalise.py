"""Robust intensity scale: histogram bounds after ImageJ's auto-contrast, applied with clipping.

Clipping is what makes it robust: an affine map without it is undone by any later minimum-maximum
scaling. Whose histogram it is (a movie's, a frame's) is decided in ``bounds.py``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import InitVar, dataclass

import numpy as np
from numpy.typing import NDArray

from spatialdino_core.crops.parameters import NormalisationParameters
from spatialdino_core.errors import BadInputError
from spatialdino_core.geometry.background import LEVELS, Histogram, intensity_histogram


@dataclass(frozen=True)
class Bounds:
    """Camera counts that become 0 and 1."""

    low: float
    high: float

    def of(self, frame: NDArray[np.integer]) -> Bounds:
        """The bounds of this frame: the same for all."""
        return self


@dataclass(frozen=True)
class FrameBounds:
    """A scale that each frame sets for itself.

    Parameters
    ----------
    tail_fraction
        Fraction of a frame's voxels clipped at each end.
    valid
        Where frames have data, (z, y, x); by default everywhere. Not one of the fields.
    """

    tail_fraction: float
    valid: InitVar[NDArray[np.bool_] | None] = None

    def __post_init__(self, valid: NDArray[np.bool_] | None) -> None:
        object.__setattr__(self, "_valid", ... if valid is None else valid)

    def of(self, frame: NDArray[np.integer]) -> Bounds:
        """The bounds of this frame."""
        parameters = NormalisationParameters(tail_fraction=self.tail_fraction)
        return bounds_of([frame[self._valid]], parameters)  # type: ignore[attr-defined]


Scale = Bounds | FrameBounds


def bounds_of(voxels: Iterable[NDArray[np.integer]], parameters: NormalisationParameters) -> Bounds:
    """Bounds that leave ``tail_fraction`` of all voxels outside at each end.

    Parameters
    ----------
    voxels
        uint16 or uint8 arrays of any shape; how the voxels are divided among them does not matter.

    Returns
    -------
    Bounds
        To fractions of a count, as if the voxels of a count lay evenly within ± 0.5 of it: else one
        hot pixel more could move a bound by a whole count. Voxels that are all equal become 0.

    Raises
    ------
    BadInputError
        If there is no voxel, or values are not counts.

    Notes
    -----
    ImageJ's auto-contrast (ContrastAdjuster) takes the outermost bins that hold more than N/5000 of the
    N voxels. Its 8-bit bins became 65,536 here, and single bins of a real stack's signal all hold fewer:
    on a lattice light-sheet cell that rule would saturate everything brighter than the background (2.5 %
    of its voxels). So the threshold N/5000 is compared with the voxels outside, added up.
    """
    histogram = np.zeros(LEVELS, np.int64)
    for part in voxels:
        histogram += intensity_histogram(_counts(part))
    total = int(histogram.sum())
    if total == 0:
        raise BadInputError(
            "normalisation", found="no valid voxel", expected="at least one", remedy="Reject the movie."
        )
    outside = parameters.tail_fraction * total
    low = _quantile(histogram, outside)
    high = LEVELS - 1 - _quantile(histogram[::-1], outside)
    if high - low <= 1:
        low = float(np.ceil(low))
        high = low + 1
    return Bounds(low, high)


def normalise(frame: NDArray[np.integer], scale: Scale) -> NDArray[np.float32]:
    """Scale camera counts to [0, 1], float32, clipped; same shape as ``frame``."""
    bounds = scale.of(frame)
    scaled = frame.astype(np.float32)
    scaled -= np.float32(bounds.low)
    scaled /= np.float32(bounds.high - bounds.low)
    return np.clip(scaled, 0, 1, out=scaled)


def _counts(values: NDArray[np.integer]) -> NDArray[np.uint16]:
    if values.dtype not in (np.uint8, np.uint16):
        raise BadInputError(
            "normalisation",
            found=f"{values.dtype} values",
            expected="camera counts, uint16 or uint8",
            remedy="Give the frames of a deskewed store; deskew rounds other types to counts.",
        )
    return values.astype(np.uint16, copy=False)


def _quantile(histogram: Histogram, outside: float) -> float:
    """Where ``outside`` voxels lie below, between the edges of bins that are centred on counts."""
    cumulative = np.cumsum(histogram)
    level = int(np.searchsorted(cumulative, outside, side="right"))
    within = (outside - (cumulative[level] - histogram[level])) / histogram[level]
    return level - 0.5 + float(within)
