"""Which detections are two particles: those whose image two particles explain better than chance lets expect.

Deskewing correlates noise, no point spread function is a Gaussian, and particles move while they are imaged,
so that textbook significances would split every bright particle. How much better two Gaussians explain the
image of one particle is measured on the movie's own detections instead, most of which are single. Not the
fits: those are in :mod:`.pairs`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields

import numpy as np
from pydantic.dataclasses import dataclass as validated
from scipy.spatial import cKDTree
from scipy.special import ndtr, ndtri

from spatialdino_core.segment.blobs import SUPPRESSION
from spatialdino_core.segment.inputs import values_at
from spatialdino_core.segment.localise import Spots
from spatialdino_core.segment.pairs import REACH, Pairs, elongation, fit_pairs

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
    image: Callable[[int], np.ndarray], found: dict[int, Spots], valid: np.ndarray | None, psf: np.ndarray
) -> Singles | None:
    """How single particles look.

    Parameters
    ----------
    image
        Gives the intensities (z, y, x) of a frame.
    found
        What was detected in some frames.
    valid
        Boolean mask broadcastable to a frame, or None.
    psf
        Shape (3,): configured standard deviations in voxels.

    Returns
    -------
    Singles
        None where there are fewer than :data:`FEWEST_SPOTS`.
    """
    found = {frame: spots for frame, spots in found.items() if len(spots.amplitude)}
    snr = np.concatenate([[], *(spots.amplitude / spots.noise for spots in found.values())])
    if len(snr) < FEWEST_SPOTS:
        return None
    width = np.ones(3)
    for _ in range(WIDTH_STEPS):
        parts = [elongation(image(f), valid, spots, _all(spots), width * psf) for f, spots in found.items()]
        excess = np.diagonal(np.concatenate(parts), axis1=1, axis2=2)[snr >= np.median(snr)]
        width = np.clip(width * np.sqrt(1 + np.maximum(np.median(excess, axis=0), -0.5)), *WIDTHS)
    pairs = [fit_pairs(image(f), valid, spots, _all(spots), width * psf) for f, spots in found.items()]
    excess = np.concatenate([some.excess for some in pairs])
    low, typical, high = np.quantile(excess, [BELOW, 0.5, 1 - BELOW]).tolist()
    z, y, x = width.tolist()
    return Singles((z, y, x), typical, max(min(typical - low, high - typical), LEAST_SPREAD))


def split_spots(
    image: np.ndarray,
    valid: np.ndarray | None,
    spots: Spots,
    tested: np.ndarray,
    singles: Singles | None,
    psf: np.ndarray,
    false_rate: float,
) -> tuple[Spots, np.ndarray]:
    """Replace spots that are two particles by their parts.

    Parameters
    ----------
    image
        Intensities (z, y, x), any real dtype.
    valid
        Boolean mask broadcastable to ``image``, or None.
    spots
        Of the frame.
    tested
        Boolean (n,): which may be split.
    singles
        Of the movie; None: nothing is split.
    psf
        Shape (3,): configured standard deviations in voxels.
    false_rate
        Share of single particles that may be split.

    Returns
    -------
    spots
        With the parts in the place of their whole, the brighter first.
    parent
        Row of ``spots`` as given that each comes from, (m,), rising.
    """
    rows = np.flatnonzero(tested)
    if singles is None or not len(rows) or not false_rate:
        return spots, _all(spots)
    width = np.array(singles.width) * psf
    pairs = fit_pairs(image, valid, spots, rows, width)
    is_pair = (singles.significance(pairs) > -ndtri(false_rate)) & _plausible(pairs, spots, rows, width)
    is_pair &= np.all([_known(part.position, image.shape, valid) for part in pairs.parts], axis=0)
    kept = np.ones(len(spots.amplitude), bool)
    kept[rows[is_pair]] = False
    parent = np.concatenate([np.flatnonzero(kept), rows[is_pair], rows[is_pair]])
    order = np.argsort(parent, kind="stable")
    columns = []
    for name in (field.name for field in fields(Spots)):
        parts = [getattr(part, name)[is_pair] for part in pairs.parts]
        columns.append(np.concatenate([getattr(spots, name)[kept], *parts])[order])
    return Spots(*columns), parent[order]


def _all(spots: Spots) -> np.ndarray:
    return np.arange(len(spots.amplitude))


def _plausible(pairs: Pairs, spots: Spots, rows: np.ndarray, width: np.ndarray) -> np.ndarray:
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


def _known(position: np.ndarray, shape: tuple[int, ...], valid: np.ndarray | None) -> np.ndarray:
    """Whether positions lie in the frame and are valid there, (n,)."""
    inside = np.asarray(((position >= -0.5) & (position <= np.array(shape) - 0.5)).all(axis=1))
    if valid is None:
        return inside
    return np.asarray(inside & values_at(np.broadcast_to(valid, shape), position).astype(bool))
