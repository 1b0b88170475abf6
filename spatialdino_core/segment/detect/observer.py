"""The detector that suits a movie: a Hotelling observer on Gaussian channels in space and time.

The best linear detector of a known blob in noise of known covariance is Σ⁻¹μ (Hotelling 1931, Ann. Math.
Stat. 2, 360; Myers & Barrett 1987, J. Opt. Soc. Am. A 4, 2447, for few channels). μ is the blob's signature
in the channels and fades with the time that particles have to leave; Σ is measured on the movie, noise and
texture of the cell together, over the same lags. So texture that stands still is subtracted, and frames are
added up as far as particles stay, each as much as this movie rewards it. Not the detection itself: that is
:mod:`.blobs`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from spatialdino_core.segment.optics import FACTORS
from spatialdino_core.statistics import MAD_TO_SIGMA

NEAR_FRAMES = 2
"""Frames before and after with a weight of their own; those further away share one."""
MIN_SINGLE_FRAME_SHARE = 0.35
RIDGE = 1e-3
"""Least eigenvalue of the correlations between channels: what the movie hardly knows counts less."""
OUTLIER_SIGMAS = 4.0
"""Samples further off, in robust standard deviations, are particles rather than background."""


@dataclass(frozen=True)
class TimeGroups:
    """The frames that help to detect in one frame, in groups of equal weight.

    Attributes
    ----------
    lags
        Per group, the lags of its frames (frames); the first group is the frame itself.
    """

    lags: tuple[tuple[int, ...], ...]

    @staticmethod
    def around(frame: int, exists: Sequence[int] | range, reach: int) -> TimeGroups:
        """Groups for ``frame``: itself, neighbours by distance, and all others within ``reach`` frames."""
        have = set(exists)
        lags = [lag for lag in range(-reach, reach + 1) if lag and frame + lag in have]
        groups = [tuple(lag for lag in lags if abs(lag) == near) for near in range(1, NEAR_FRAMES + 1)]
        groups.append(tuple(lag for lag in lags if abs(lag) > NEAR_FRAMES))
        return TimeGroups(((0,), *(group for group in groups if group)))


SINGLE_FRAME = TimeGroups(((0,),))
"""A frame without help."""


def channel_covariance(responses: np.ndarray, frames: Sequence[int]) -> np.ndarray:
    """Covariance between channels at every lag, of the background.

    Parameters
    ----------
    responses
        Shape (frames, channels, samples): responses at the same places in several frames.
    frames
        Their numbers, rising; some may be missing.

    Returns
    -------
    numpy.ndarray
        Shape (lags, channels, channels), symmetric, as many lags as frames; lag l is estimated from all pairs
        of frames l apart and samples that are outliers in neither; without any pair it is that of lag l - 1.
    """
    centred = responses - np.median(responses, axis=2, keepdims=True)
    spread = MAD_TO_SIGMA * np.median(np.abs(centred), axis=2, keepdims=True)
    usual = (np.abs(centred) <= OUTLIER_SIGMAS * np.maximum(spread, 1e-12)).all(axis=1)
    centred = np.where(usual[:, None], centred, 0.0).astype(np.float64)
    row = {frame: index for index, frame in enumerate(frames)}
    found: list[np.ndarray] = []
    for lag in range(len(frames)):
        earlier = [row[frame] for frame in frames if frame + lag in row]
        later = [row[frame + lag] for frame in frames if frame + lag in row]
        total = np.einsum("tcn,tdn->cd", centred[earlier], centred[later])
        pairs = np.count_nonzero(usual[earlier] & usual[later])
        found.append((total + total.T) / 2 / pairs if pairs or not found else found[-1])
    return np.array(found)


@dataclass(frozen=True)
class Detector:
    """Weights for one frame and the mean frames that help there.

    Attributes
    ----------
    weights
        Shape (sizes, groups, channels).
    single_frame
        Shape (sizes, 1, channels): for the frame without help.
    min_single_frame_share
        Least z-score in the frame without help, relative to that with it: a share of what a particle has on
        average. Particles that were there before or will come, and the dark trails that they leave in the
        mean of other frames, have none.
    """

    weights: np.ndarray
    single_frame: np.ndarray
    min_single_frame_share: float


@dataclass(frozen=True)
class Observer:
    """What makes a detector for any frame of a movie.

    Attributes
    ----------
    covariance
        Shape (lags, channels, channels), of the background; see :func:`channel_covariance`.
    persistence
        Shape (lags,): how much of a particle's signature is left where it was, that many frames before or
        after; 1 at lag 0.
    signatures
        Shape (sizes, channels): responses of the channels to a blob of each size, from
        :class:`..optics.Optics`.
    """

    covariance: np.ndarray
    persistence: np.ndarray
    signatures: np.ndarray

    def weights(self, groups: TimeGroups) -> np.ndarray:
        """Weights Σ⁻¹μ of all channels of the groups' mean frames, shape (sizes, groups, channels)."""
        count = len(FACTORS)
        sigma = np.block([[self._between(a, b) for b in groups.lags] for a in groups.lags])
        scale = np.sqrt(np.maximum(np.diag(sigma), 1e-30))
        value, vector = np.linalg.eigh(sigma / np.outer(scale, scale))
        inverse = (vector / np.maximum(value, RIDGE)) @ vector.T / np.outer(scale, scale)
        found = [inverse @ self._signature(blob, groups) for blob in self.signatures]
        return np.stack(found).reshape(len(found), len(groups.lags), count)

    def detector(self, groups: TimeGroups) -> Detector:
        """The detector for a frame with these groups."""
        single, weights = self.weights(SINGLE_FRAME), self.weights(groups)
        if len(groups.lags) == 1:
            return Detector(single, single, -np.inf)
        return Detector(weights, single, MIN_SINGLE_FRAME_SHARE * self.relative_detectability(groups))

    def relative_detectability(self, groups: TimeGroups) -> float:
        """Detectability d' = √(μᵀΣ⁻¹μ) of a blob in the frame itself, relative to that with all groups."""
        blob = self.signatures[0]
        own = np.sum(self.weights(SINGLE_FRAME)[0, 0] * blob)
        together = np.sum(self.group_persistence(groups) @ self.weights(groups)[0] * blob)
        return float(np.sqrt(own / together))

    def group_persistence(self, groups: TimeGroups) -> np.ndarray:
        """How much of a particle's signature is left in each group's mean frame, shape (groups,)."""
        return np.array([self._mean_persistence(lags) for lags in groups.lags])

    def _between(self, some: tuple[int, ...], others: tuple[int, ...]) -> np.ndarray:
        last = len(self.covariance) - 1
        pairs = [self.covariance[min(abs(a - b), last)] for a in some for b in others]
        return np.mean(pairs, axis=0)

    def _signature(self, blob: np.ndarray, groups: TimeGroups) -> np.ndarray:
        return np.concatenate([self._mean_persistence(group) * blob for group in groups.lags])

    def _mean_persistence(self, lags: tuple[int, ...]) -> float:
        last = len(self.persistence) - 1
        return float(np.mean([self.persistence[min(abs(lag), last)] for lag in lags]))


def persistence(rate: float, reach: int) -> np.ndarray:
    """Share of a blob's response that is left at its place after 0 … ``reach`` frames, shape (reach + 1,).

    A blob of standard deviation s that is filtered with its own shape has the response (1 + d²/2s²)^(−3/2) on
    average over Gaussian displacements of variance d² per axis; ``rate`` is d²/2s² per frame.

    Examples
    --------
    >>> persistence(rate=0.0, reach=2).tolist()
    [1.0, 1.0, 1.0]
    >>> persistence(rate=3.0, reach=1).tolist()
    [1.0, 0.125]
    """
    return np.asarray((1 + rate * np.arange(reach + 1)) ** -1.5)
