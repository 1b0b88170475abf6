"""Which detections are two particles: those whose image two particles explain better than chance lets expect.

Deskewing correlates noise, no point spread function is a Gaussian, and particles move while they are imaged,
so that textbook significances would split every bright particle. How much better two Gaussians explain the
image of one particle is measured on the movie's own detections instead, most of which are single. Not the
fits: those are in :mod:`.pairs`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from pydantic.dataclasses import dataclass as validated
from scipy.spatial import cKDTree
from scipy.special import ndtr, ndtri

from spatialdino_core.segment.detect.blobs import SUPPRESSION
from spatialdino_core.segment.detections import Detections
from spatialdino_core.segment.measure.pairs import REACH, Pairs, elongation, fit_pairs
from spatialdino_core.segment.optics import Optics
from spatialdino_core.segment.volume import Volume

FEWEST_SPOTS = 30
"""Detections that tell how singles look; without as many nothing is split."""
LEAST_RATIO = 0.3
"""Least height of the dimmer part relative to the brighter one."""
WIDTHS = (0.8, 1.35)
"""Bounds of the measured width of the image of one particle, relative to the configured one."""
WIDTH_STEPS = 3
LEAST_SPREAD = 0.5
"""White noise and the true shape would give about 0.7."""
BELOW = float(ndtr(-1))


@validated(frozen=True)
class Singles:
    """How single particles look in a movie.

    Attributes
    ----------
    width
        Typical standard deviations (z, y, x) relative to the configured point spread function.
    typical, spread
        Median of :attr:`.pairs.Pairs.excess` and its standard deviation: the shorter of the distances to the
        15.9 % quantile on either side, which neither pairs nor broad blobs widen. Where shapes differ from
        the model, both grow.
    """

    width: tuple[float, float, float]
    typical: float
    spread: float

    def significance(self, pairs: Pairs) -> np.ndarray:
        """Standard deviations by which spots are better explained as pairs than singles are, shape (n,)."""
        return np.asarray((pairs.excess - self.typical) / self.spread)


def typical_singles(
    frame: Callable[[int], Volume], found: dict[int, Detections], optics: Optics
) -> Singles | None:
    """How single particles look.

    Parameters
    ----------
    frame
        Gives a frame.
    found
        What was detected and fitted in some frames.
    optics
        The configured point spread function.

    Returns
    -------
    Singles
        None where there are fewer than :data:`FEWEST_SPOTS`.
    """
    found = {number: spots for number, spots in found.items() if len(spots)}
    snr = np.concatenate([[], *(spots.amplitude / spots.noise for spots in found.values())])
    if len(snr) < FEWEST_SPOTS:
        return None
    width = np.ones(3)
    for _ in range(WIDTH_STEPS):
        sigma = width * optics.sigma_voxels
        parts = [elongation(frame(number), spots, sigma) for number, spots in found.items()]
        excess = np.diagonal(np.concatenate(parts), axis1=1, axis2=2)[snr >= np.median(snr)]
        width = np.clip(width * np.sqrt(1 + np.maximum(np.median(excess, axis=0), -0.5)), *WIDTHS)
    sigma = width * optics.sigma_voxels
    pairs = [fit_pairs(frame(n), spots, np.arange(len(spots)), sigma) for n, spots in found.items()]
    excess = np.concatenate([some.excess for some in pairs])
    low, typical, high = np.quantile(excess, [BELOW, 0.5, 1 - BELOW]).tolist()
    z, y, x = width.tolist()
    return Singles((z, y, x), typical, max(min(typical - low, high - typical), LEAST_SPREAD))


def split_spots(
    volume: Volume,
    spots: Detections,
    tested: np.ndarray,
    singles: Singles | None,
    optics: Optics,
    false_rate: float,
) -> Detections:
    """Replace spots that are two particles by their parts.

    Parameters
    ----------
    volume
        The image.
    spots
        Of the frame.
    tested
        Boolean (n,): which may be split.
    singles
        Of the movie; None: nothing is split.
    optics
        The configured point spread function.
    false_rate
        Share of single particles that may be split.

    Returns
    -------
    Detections
        With the parts in the place of their whole, the brighter first; z-scores and confidences are those of
        the whole.
    """
    rows = np.flatnonzero(tested)
    if singles is None or not len(rows) or not false_rate:
        return spots
    width = np.array(singles.width) * optics.sigma_voxels
    pairs = fit_pairs(volume, spots, rows, width)
    is_pair = (singles.significance(pairs) > -ndtri(false_rate)) & _plausible(pairs, spots, rows, width)
    is_pair &= np.all([volume.contains(part.position) for part in pairs.parts], axis=0)
    kept = np.ones(len(spots), bool)
    kept[rows[is_pair]] = False
    parent = np.concatenate([np.flatnonzero(kept), rows[is_pair], rows[is_pair]])
    every = Detections.joined([spots.keep(kept), *(part.keep(is_pair) for part in pairs.parts)])
    return every.keep(np.argsort(parent, kind="stable"))


def _plausible(pairs: Pairs, spots: Detections, rows: np.ndarray, width: np.ndarray) -> np.ndarray:
    """Two parts like particles: of similar height, apart from one another and from other spots, (n,)."""
    brighter, dimmer = pairs.parts
    plausible = (dimmer.amplitude > 0) & (dimmer.amplitude >= LEAST_RATIO * brighter.amplitude)
    distance = np.linalg.norm((brighter.position - dimmer.position) / width, axis=1)
    plausible &= distance >= SUPPRESSION
    everything = cKDTree(spots.position / width)
    for part in pairs.parts:
        beside = np.abs(part.position - spots.position[rows]) / width
        plausible &= (beside < REACH - 1e-6).all(axis=1)
        apart, other = everything.query(part.position / width, k=[1, 2])
        plausible &= (apart[:, 0] >= SUPPRESSION) | (other[:, 0] == rows)
        plausible &= (apart[:, 1] >= SUPPRESSION) | (other[:, 1] == rows)
    return plausible
